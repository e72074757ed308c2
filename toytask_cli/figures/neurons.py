"""Figure of neurons over both operands: one square a neuron and answer position."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage
from numpy.typing import NDArray

from toytask_cli.figures.colours import COLOURS
from toytask_cli.figures.data import NeuronMap
from toytask_cli.figures.style import ACTIVATION_COLOURS, style

ACROSS = 6  # squares in a row
# Inches. Placed by hand: a layout of fifty squares would take matplotlib seconds to find.
SIDE = 1.2  # of a square
GAPS = 0.24, 0.5  # between squares, and above each one for its title
LEFT, RIGHT, TOP, BOTTOM = 0.75, 0.95, 0.35, 0.85  # beside all squares and titles
BLANK = "0.85"  # where there is no activation to show


def draw_neurons(
    task: str, maps: Sequence[NeuronMap], operands: NDArray[np.int64], blank: str
) -> Figure:
    """Draw the most important neurons of a task over the first operand (down) and the second.

    Args:
        task: its name.
        maps: the squares, in this order, on one scale.
        operands: [k] of the rows and columns, ascending.
        blank: what a square without an activation is, in words.
    """
    rows = max(1, -(-len(maps) // ACROSS))
    with style():
        width = LEFT + ACROSS * (SIDE + GAPS[0]) - GAPS[0] + RIGHT
        height = TOP + rows * (GAPS[1] + SIDE) + BOTTOM
        figure = Figure(figsize=(width, height))
        if not maps:
            figure.suptitle(f"{task}: no neuron is important", fontsize=12)
            return figure
        figure.subplots_adjust(
            left=LEFT / width,
            right=1 - RIGHT / width,
            bottom=BOTTOM / height,
            top=1 - (TOP + GAPS[1]) / height,
            wspace=GAPS[0] / SIDE,
            hspace=GAPS[1] / SIDE,
        )
        axes = figure.subplots(rows, ACROSS, squeeze=False)
        for axis in axes.flat[len(maps) :]:
            axis.remove()
        top = max(float(np.nanmax(each.values)) for each in maps) or 1.0
        for number, (axis, each) in enumerate(zip(axes.flat, maps, strict=False)):
            image = _draw_square(axis, each, top)
            is_lowest = number + ACROSS >= len(maps)
            _label_operands(axis, operands, rows=number % ACROSS == 0, columns=is_lowest)
        _label_figure(figure, task, maps, blank)
        place = (1 - 0.8 / width, BOTTOM / height, 0.12 / width, 1 - (TOP + BOTTOM) / height)
        bar = figure.colorbar(image, cax=figure.add_axes(place))
        bar.set_label("activation", fontsize=9)
        bar.ax.tick_params(labelsize=8)
        return figure


def _label_figure(figure: Figure, task: str, maps: Sequence[NeuronMap], blank: str) -> None:
    n = len({each.neuron for each in maps})
    height = figure.get_figheight()
    title = f"{task}: its {n} most important neurons over both operands"
    figure.suptitle(title, fontsize=12, y=1 - 0.12 / height, va="top")
    figure.supylabel("first operand", fontsize=10, x=0.02)
    titles = "above each square: neuron, answer token that it acts on, importance in nats"
    has_blanks = any(np.isnan(each.values).any() for each in maps)
    figure.supxlabel(
        f"second operand\n{titles}{f'; grey: {blank}' if has_blanks else ''}",
        fontsize=9,
        y=0.12 / height,
    )


def _draw_square(axis: Axes, each: NeuronMap, top: float) -> AxesImage:
    colours = ACTIVATION_COLOURS.with_extremes(bad=BLANK)
    image = axis.imshow(each.values, cmap=colours, vmin=0, vmax=top)
    axis.grid(visible=False)
    removed = "\nremoved" if each.removed else ""
    colour = COLOURS["after"] if each.removed else "black"
    title = f"{each.neuron}, token {each.position + 1}\n{each.importance:.4f}{removed}"
    axis.set_title(title, fontsize=8, color=colour, pad=3)
    for spine in axis.spines.values():
        spine.set(visible=True, color=colour, linewidth=2 if each.removed else 0.5)
    return image


def _label_operands(axis: Axes, operands: NDArray[np.int64], rows: bool, columns: bool) -> None:
    """Label some operands of the rows, or of the columns, or neither."""
    ticks = sorted({0, (len(operands) - 1) // 2, len(operands) - 1})
    labels = [str(operands[tick]) for tick in ticks]
    axis.set_yticks(ticks if rows else [], labels=labels if rows else [])
    axis.set_xticks(ticks if columns else [], labels=labels if columns else [])
    axis.tick_params(labelsize=8)
