"""How much each neuron matters to each task."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import SymmetricalLogLocator
from numpy.typing import NDArray

from toytask_cli.figures.pairs import pair_panels
from toytask_cli.figures.style import panels, style

Array = NDArray[np.float32]

# Nats. Beyond this, scales are logarithmic; within it, around zero, they are linear.
LINEAR = 1e-6
LABELLED = 5  # neurons named on either axis
WORD, LINE = 0.08, 0.028  # size of a neuron's number, in fractions of a panel


def draw_importance_pairs(names: Sequence[str], importance: Array) -> Figure:
    """Every neuron's importance for one task against another, [task, d_sae], nats."""
    with style():
        figure, found = pair_panels(len(names))
        main = importance.argmax(axis=0)
        for x, y, axis in found:
            for task, name in enumerate(names):
                own = (main == task) & (importance[[x, y]] != 0).any(axis=0)
                points = importance[x, own], importance[y, own]
                axis.scatter(*points, s=16, alpha=0.6, linewidth=0, label=f"most for {name}")
            axis.axline((0, 0), slope=1, color="0.6", linewidth=0.8, linestyle=":")
            axis.set(xlabel=f"importance for {names[x]}", ylabel=f"importance for {names[y]}")
            _logarithmic(axis)
            _name_outliers(axis, importance[x], importance[y])
        handles = axis.get_legend_handles_labels()
        figure.legend(*handles, loc="outside lower center", ncols=len(names))
        figure.suptitle("rise of the loss when a neuron is removed (nats)", fontsize=11)
        return figure


def draw_importance_curve(
    names: Sequence[str], importance: Array, low: Array, high: Array
) -> Figure:
    """Each task's neurons from the most important down, with 95 % intervals, [task, d_sae]."""
    with style():
        figure, (axis,) = panels(1, width=7)
        for name, values, bottom, top in zip(names, importance, low, high, strict=True):
            order = np.argsort(-values)[: np.count_nonzero(values > 0)]
            rank = np.arange(1, len(order) + 1)
            axis.plot(rank, values[order], linewidth=1.5, label=f"{name} ({len(order):,} above 0)")
            axis.fill_between(rank, bottom[order], top[order], alpha=0.25, linewidth=0)
        axis.set_xlim(left=0.9, right=max(2, importance.shape[1]))
        axis.set(
            title="neurons in order of importance, with 95 % intervals",
            xlabel="rank",
            ylabel="importance (nats)",
            xscale="log",
        )
        axis.set_yscale("symlog", linthresh=LINEAR)
        axis.set_ylim(bottom=0)
        axis.legend()
        sns.despine(figure)
        return figure


def _logarithmic(axis: Axes) -> None:
    """Both scales logarithmic on either side of zero, with few enough ticks to be read."""
    axis.set_xscale("symlog", linthresh=LINEAR)
    axis.set_yscale("symlog", linthresh=LINEAR)
    for scale in (axis.xaxis, axis.yaxis):
        ticks = SymmetricalLogLocator(base=10, linthresh=LINEAR)
        ticks.set_params(numticks=7)
        scale.set_major_locator(ticks)


def _name_outliers(axis: Axes, across: Array, up: Array) -> None:
    """Writes their numbers beside the neurons that matter most to either task."""
    axis.margins(x=0.13)
    axis.autoscale_view()
    to_axes = axis.transScale + axis.transLimits
    taken: list[tuple[float, float]] = []
    for neuron in dict.fromkeys([*_top(across), *_top(up)]):
        x, y = to_axes.transform((across[neuron], up[neuron]))
        spot = _free_spot(x, y, taken)
        taken.append(spot)
        axis.annotate(
            str(neuron),
            (across[neuron], up[neuron]),
            spot,
            textcoords="axes fraction",
            fontsize=7,
            va="center",
            arrowprops={"arrowstyle": "-", "linewidth": 0.4, "color": "0.5", "shrinkB": 2},
        )


def _top(values: Array) -> list[int]:
    best: list[int] = np.argsort(-values)[:LABELLED].tolist()
    return [neuron for neuron in best if values[neuron] > 0]


def _free_spot(x: float, y: float, taken: list[tuple[float, float]]) -> tuple[float, float]:
    """Beside a point, in fractions of the axes, and clear of the labels that are there."""
    step = -LINE if y > 0.5 else LINE
    spot = (x + 0.025, y)
    while any(abs(spot[0] - tx) < WORD and abs(spot[1] - ty) < LINE for tx, ty in taken):
        spot = (spot[0], spot[1] + step)
    return spot
