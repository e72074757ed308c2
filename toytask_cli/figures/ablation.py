"""What a removal costs: over all tolerances, and before against after."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toytask_cli.analysis.ablation_report import left_and_kept, measured_on
from toytask_cli.figures.style import panels, style


def draw_curve(report: Mapping[str, Any]) -> Figure:
    """Accuracy that is left of the removed task against the share that the kept one keeps.

    One point for each tolerance, on the pairs that the neurons were chosen on and on others; the
    removal of the report, and the random controls. Of several removed tasks the one with most left
    counts, of several kept ones the one that keeps least.
    """
    with style():
        figure, (axis,) = panels(1, width=6.2, height=4.8)
        for part, marker in (("validation", "o"), ("test", "s")):
            points = [_place(report, part, point[part]) for point in report["curve"]]
            if points:
                label = measured_on(report, part)
                axis.plot(
                    *np.transpose(points), marker=marker, label=label, alpha=0.8, markersize=4
                )
        cloud = _controls(report)
        axis.scatter(cloud[:, 0], cloud[:, 1], color="0.6", s=18, label="random neurons", zorder=1)
        x, y = _place(report, "test", _accuracies(report, "before"))
        axis.scatter(x, y, marker="X", s=90, color="C4", label="before")
        x, y = _place(report, "test", _accuracies(report, "after"))
        label = f"this removal: {len(report['neurons'])} neurons"
        axis.scatter(x, y, marker="*", s=260, color="C3", zorder=4, label=label)
        removed, kept = ", ".join(report["removed_tasks"]), ", ".join(report["kept_tasks"])
        axis.set(
            title=f"{removed} removed, {kept} kept",
            xlabel=f"accuracy left of {removed}{', the most' * (',' in removed)} (%)",
            ylabel=f"share kept of {kept}{', the least' * (',' in kept)} (%)",
            xlim=(-4, 104),
            ylim=(-4, 104),
        )
        axis.legend(loc="center left", bbox_to_anchor=(1.01, 0.5), frameon=False)
        sns.despine(figure)
        return figure


def _place(
    report: Mapping[str, Any], part: str, accuracy: Mapping[str, float]
) -> tuple[float, float]:
    """Where these accuracies lie on the axes, in percent."""
    left, kept = left_and_kept(report, part, accuracy)
    return 100 * left, 100 * kept


def _accuracies(report: Mapping[str, Any], when: str) -> dict[str, float]:
    return {task: found["accuracy"] for task, found in report["test"][when].items()}


def _controls(report: Mapping[str, Any]) -> NDArray[np.float64]:
    """[draw, 2] what each random draw left and kept."""
    draws = {task: control["draws"] for task, control in report["test"]["random_control"].items()}
    rows = (dict(zip(draws, row, strict=True)) for row in zip(*draws.values(), strict=True))
    return np.array([_place(report, "test", row) for row in rows])


def draw_bars(report: Mapping[str, Any]) -> Figure:
    """Accuracy of every task before and after, with 95 % intervals, and the control's range."""
    with style():
        tasks = list(report["test"]["before"])
        figure, (axis,) = panels(1, width=max(4.6, 1.9 * len(tasks)), height=4.2)
        _bars(axis, -0.26, [report["test"]["before"][task] for task in tasks], "before, 95 %", "C0")
        _bars(axis, 0.0, [report["test"]["after"][task] for task in tasks], "after, 95 %", "C3")
        controls = [report["test"]["random_control"][task] for task in tasks]
        means = np.array([100 * control["mean"] for control in controls])
        ends = np.array([[100 * control[end] for control in controls] for end in ("min", "max")])
        axis.bar(
            np.arange(len(tasks)) + 0.26, means, 0.24, color="0.75", label="random, range",
            yerr=abs(ends - means), capsize=3, error_kw={"elinewidth": 1},
        )  # fmt: skip
        axis.set_xticks(range(len(tasks)), labels=tasks)
        axis.set(
            title=f"{report['removed_task']} removed: {len(report['neurons'])} neurons",
            ylabel=f"exact match on {measured_on(report)} (%)",
            ylim=(0, 119),
        )
        axis.legend(ncols=3, loc="upper center", fontsize=8, frameon=False)
        axis.grid(visible=False, axis="x")
        sns.despine(figure)
        return figure


def _bars(
    axis: Axes, shift: float, found: list[Mapping[str, Any]], label: str, colour: str
) -> None:
    heights = np.array([100 * one["accuracy"] for one in found])
    ends = np.array([[100 * one["ci95"][end] for one in found] for end in (0, 1)])
    bars = axis.bar(
        np.arange(len(found)) + shift, heights, 0.24, color=colour, label=label,
        yerr=abs(ends - heights), capsize=3, error_kw={"elinewidth": 1},
    )  # fmt: skip
    axis.bar_label(bars, fmt="%.1f", fontsize=8, padding=3)
