"""Figures of the importance of each neuron to each task."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator
from numpy.typing import NDArray

from toytask_cli.figures.colours import TASK_LINES, TASK_MARKERS
from toytask_cli.figures.pairs import pair_panels
from toytask_cli.figures.style import GUIDE, panels, style

Array = NDArray[np.float32]

LINEAR = 1e-6  # nats; scales are linear up to this size, and logarithmic beyond it
LABELLED = 5  # neurons named for either task
LABEL_WIDTH, LABEL_HEIGHT = 0.08, 0.034  # in fractions of a panel


def draw_importance_pairs(names: Sequence[str], importance: Array) -> Figure:
    """Draw every neuron's importance for one task against another, [task, d_sae], nats."""
    with style():
        figure, task_pairs = pair_panels(len(names))
        main_task = importance.argmax(axis=0)
        for x, y, axis in task_pairs:
            for task, name in enumerate(names):
                shown = (main_task == task) & (importance[[x, y]] != 0).any(axis=0)
                axis.scatter(
                    importance[x, shown], importance[y, shown], s=18, alpha=0.6, linewidth=0,
                    marker=TASK_MARKERS[task], label=f"most for {name}",
                )  # fmt: skip
            axis.axline((0, 0), slope=1, **GUIDE)
            axis.set(xlabel=f"for {names[x]} (nats)", ylabel=f"for {names[y]} (nats)")
            _use_log_scales(axis)
            _label_top_neurons(axis, importance[x], importance[y])
        handles = axis.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=len(names))
        figure.suptitle(
            "importance of each neuron: mean loss increase\nwhen it alone is removed", fontsize=11
        )
        return figure


def draw_importance_curve(
    names: Sequence[str], importance: Array, interval: tuple[Array, Array] | None
) -> Figure:
    """Draw each task's neurons in order of importance, with 95 % intervals if there are any.

    Args:
        names: of the tasks.
        importance: [task, d_sae] nats.
        interval: the lower and the upper ends, [task, d_sae] each.
    """
    with style():
        figure, (axis,) = panels(1, width=7)
        for task, name in enumerate(names):
            values = importance[task]
            order = np.argsort(-values)[: np.count_nonzero(values > 0)]
            rank = np.arange(1, len(order) + 1)
            label, line = f"{name} ({len(order):,} above 0)", TASK_LINES[task]
            axis.plot(rank, values[order], linewidth=1.5, linestyle=line, label=label)
            if interval:
                low, high = (ends[task, order] for ends in interval)
                axis.fill_between(rank, low, high, alpha=0.25, linewidth=0)
        axis.set_xlim(left=0.9, right=max(2, importance.shape[1]))
        axis.set(
            title=f"neurons in order of importance{', with 95 % intervals' if interval else ''}",
            xlabel="rank of the neuron for the task",
            ylabel="importance (nats)",
            xscale="log",
        )
        axis.set_yscale("symlog", linthresh=LINEAR)
        axis.set_ylim(bottom=0)
        axis.legend()
        sns.despine(figure)
        return figure


def _use_log_scales(axis: Axes) -> None:
    """Make both scales logarithmic on either side of zero, with few ticks."""
    axis.set_xscale("symlog", linthresh=LINEAR)
    axis.set_yscale("symlog", linthresh=LINEAR)
    for scale in (axis.xaxis, axis.yaxis):
        ticks = SymmetricalLogLocator(base=10, linthresh=LINEAR)
        ticks.set_params(numticks=7)
        scale.set_major_locator(ticks)


def _label_top_neurons(axis: Axes, x_values: Array, y_values: Array) -> None:
    """Write their numbers beside the neurons that are most important to either task."""
    axis.margins(x=0.13)
    axis.autoscale_view()
    to_axes = axis.transScale + axis.transLimits
    labels: list[tuple[float, float]] = []
    for neuron in dict.fromkeys([*_top(x_values), *_top(y_values)]):
        point = x_values[neuron], y_values[neuron]
        x, y = to_axes.transform(point)
        labels.append(_free_position(x, y, labels))
        axis.annotate(
            str(neuron),
            point,
            labels[-1],
            textcoords="axes fraction",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkB": 2},
        )


def _top(values: Array) -> list[int]:
    best: list[int] = np.argsort(-values)[:LABELLED].tolist()
    return [neuron for neuron in best if values[neuron] > 0]


def _free_position(x: float, y: float, labels: list[tuple[float, float]]) -> tuple[float, float]:
    """Return a position beside a point and clear of other labels, in fractions of the panel."""
    x, step = x + 0.025, -LABEL_HEIGHT if y > 0.5 else LABEL_HEIGHT
    while any(abs(x - lx) < LABEL_WIDTH and abs(y - ly) < LABEL_HEIGHT for lx, ly in labels):
        y += step
    return x, y
