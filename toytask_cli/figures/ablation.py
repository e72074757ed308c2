"""Figures of a removal: accuracy over all tolerances, and before against after."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.container import BarContainer
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toytask_cli.analysis.ablation_report import left_and_kept, measured_on
from toytask_cli.figures.colours import COLOURS
from toytask_cli.figures.style import panels, style

Report = Mapping[str, Any]

BAR_WIDTH, BAR_STEP = 0.24, 0.26


def draw_curve(report: Report) -> Figure:
    """Draw the accuracy left of the removed task against the share that the kept task keeps.

    One point for each tolerance, on the pairs that the neurons were chosen on and on others; this
    removal, and the random controls. Of several removed tasks the one with most left counts, of
    several kept ones the one that keeps least.
    """
    with style():
        figure, (axis,) = panels(1, width=6.2, height=4.8)
        for split, marker in (("validation", "o"), ("test", "s")):
            points = [_point(report, split, point[split]) for point in report["curve"]]
            if points:
                axis.plot(
                    *np.transpose(points), marker=marker, markersize=4, alpha=0.8,
                    color=COLOURS[split], label=measured_on(report, split),
                )  # fmt: skip
        controls = np.array([_point(report, "test", draw) for draw in _random_draws(report)])
        x, y = controls.T
        axis.scatter(x, y, color=COLOURS["random"], s=18, label="random neurons", zorder=1)
        labels = {"before": "before", "after": f"this removal: {len(report['neurons'])} neurons"}
        for when, marker, size in (("before", "s", 150), ("after", "*", 420)):
            x, y = _point(report, "test", _accuracies(report, when))
            axis.scatter(  # hollow, for points of the curve can be there too
                x, y, marker=marker, s=size, color="none", edgecolor=COLOURS[when], linewidth=1.8,
                zorder=4, label=labels[when],
            )  # fmt: skip
        _label_curve(axis, report)
        sns.despine(figure)
        return figure


def _label_curve(axis: Axes, report: Report) -> None:
    removed, kept = ", ".join(report["removed_tasks"]), ", ".join(report["kept_tasks"])
    axis.set(
        title=f"{removed} removed, {kept} kept: all tolerances",
        xlabel=f"accuracy left of {removed}{', the most' * (',' in removed)} (%)",
        ylabel=f"share kept of {kept}{', the least' * (',' in kept)} (%)",
        xlim=(-4, 104),
        ylim=(-4, 104),
    )
    axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False, labelspacing=1)


def _point(report: Report, split: str, accuracy: Mapping[str, float]) -> tuple[float, float]:
    """Return the coordinates of these accuracies, in percent."""
    left, kept = left_and_kept(report, split, accuracy)
    return 100 * left, 100 * kept


def _accuracies(report: Report, when: str) -> dict[str, float]:
    return {task: measured["accuracy"] for task, measured in report["test"][when].items()}


def _random_draws(report: Report) -> list[dict[str, float]]:
    """Return each random draw's accuracy by task."""
    draws = {task: control["draws"] for task, control in report["test"]["random_control"].items()}
    return [dict(zip(draws, row, strict=True)) for row in zip(*draws.values(), strict=True)]


def draw_bars(report: Report) -> Figure:
    """Draw every task's accuracy before and after, with 95 % intervals, and the control's range."""
    test = report["test"]
    tasks = list(test["before"])
    with style():
        figure, (axis,) = panels(1, width=max(4.6, 1.9 * len(tasks)), height=4.2)
        for column, when in enumerate(("before", "after"), start=-1):
            shares = np.array([[test[when][t]["accuracy"], *test[when][t]["ci95"]] for t in tasks])
            bars = _draw_bars(axis, column, shares, COLOURS[when], f"{when}, 95 %")
            axis.bar_label(bars, fmt="%.4g", fontsize=8, padding=3)
            for bar in bars if when == "after" else ():
                bar.set(hatch="///", edgecolor="white", linewidth=0)
        controls = [test["random_control"][task] for task in tasks]
        shares = np.array(
            [[control[key] for key in ("mean", "min", "max")] for control in controls]
        )
        _draw_bars(axis, 1, shares, COLOURS["random"], "random, range")
        axis.set_xticks(range(len(tasks)), labels=tasks)
        axis.set(
            title=f"before and after {report['removed_task']} is removed",
            ylabel=f"exact match on {measured_on(report)} (%)",
            ylim=(0, 119),
        )
        axis.legend(ncols=3, loc="upper center", fontsize=8, frameon=False)
        axis.grid(visible=False, axis="x")
        sns.despine(figure)
        return figure


def _draw_bars(
    axis: Axes, column: int, shares: NDArray[np.float64], colour: str, label: str
) -> BarContainer:
    """Draw a bar for each task in its group's column −1, 0 or 1.

    Args:
        shares: [task, 3] height, lower end and upper end, 0 to 1.
    """
    heights, *ends = 100 * shares.T
    return axis.bar(
        np.arange(len(heights)) + column * BAR_STEP, heights, BAR_WIDTH, color=colour, label=label,
        yerr=abs(ends - heights), capsize=3, error_kw={"elinewidth": 1},
    )  # fmt: skip
