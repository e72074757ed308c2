"""The figure of an attack: accuracy over steps of fine-tuning, and over examples to learn from."""

from collections.abc import Mapping
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toytask_cli.figures.colours import COLOURS
from toytask_cli.figures.style import GUIDE, legend_below, panels, style

Report = Mapping[str, Any]

LABELS = {
    "run": ("attacked run", COLOURS["after"]),
    "control": ("control: never taught it", COLOURS["validation"]),
    "fresh": ("fresh weights", COLOURS["random"]),
}


def draw_attack(report: Report) -> Figure:
    """Draw the removed task's accuracy under every attack, and after relearning from n examples."""
    removed = ", ".join(report["removed_tasks"])
    with style():
        figure, (steps, *rest) = panels(2 if report["from_examples"] else 1, width=5.4, height=4.2)
        _draw_curves(steps, report)
        steps.set(title=f"{removed} comes back under fine-tuning", ylim=(-4, 104))
        steps.set(xlabel="steps", ylabel="exact match on unseen examples (%)")
        legend_below(figure, steps)
        for axis in rest:
            _draw_from_examples(axis, report["from_examples"])
            axis.set(title=f"{removed} relearnt from few examples", ylim=(-4, 104))
            axis.set(xlabel="examples shown", ylabel="exact match on unseen examples (%)")
        sns.despine(figure)
        return figure


def _draw_curves(axis: Axes, report: Report) -> None:
    """Draw the attack that is counted in bold, and the others of the same candidate thinly."""
    for name, (label, colour) in LABELS.items():
        relearning = report["relearning"][name]
        counted = relearning["data"], relearning["rate"]
        for curve in relearning["curves"]:
            is_counted = (curve["data"], curve["rate"]) == counted
            axis.plot(
                curve["steps"], [100 * share for share in curve["accuracy"]], color=colour,
                linewidth=2 if is_counted else 0.7, alpha=1 if is_counted else 0.5,
                label=label if is_counted else None, zorder=3 if is_counted else 2,
            )  # fmt: skip
    before = sum(report["before"].values()) / len(report["before"])
    for share in (0.5, 0.95):
        axis.axhline(100 * share * before, **GUIDE)
    axis.set_xscale("symlog", linthresh=1)
    axis.set_xlim(left=0)
    axis.xaxis.set_major_formatter("{x:g}")


def _draw_from_examples(axis: Axes, rows: list[Mapping[str, float]]) -> None:
    for name in ("run", "control"):
        label, colour = LABELS[name]
        shares = [100 * row[name] for row in rows]
        axis.plot([row["n"] for row in rows], shares, marker="o", color=colour, label=label)
    axis.set_xscale("log")
    axis.set_xticks([row["n"] for row in rows], labels=[f"{row['n']:,}" for row in rows])
    axis.minorticks_off()
