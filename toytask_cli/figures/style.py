"""One look for all figures: panels, palettes, PNG files."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.colors import LinearSegmentedColormap
from matplotlib.figure import Figure
from PIL import Image

from toytask_cli.figures.colours import MAP_COLOURS, TASK_COLOURS

WIDTH = 5.0  # inches of one panel
HEIGHT = 3.8
COLUMNS = 3

SIGNED_COLOURS = "PRGn_r"  # purple above zero, green below
ATTENTION_COLOURS = "Purples"
ACTIVATION_COLOURS = LinearSegmentedColormap.from_list("activation", MAP_COLOURS)
# A line to compare points with.
GUIDE: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "linestyle": ":"}


@contextmanager
def style() -> Iterator[None]:
    """Apply the look within this block alone."""
    with (
        matplotlib.rc_context(),
        sns.axes_style("whitegrid"),
        sns.plotting_context("notebook", font_scale=0.9),
        sns.color_palette(TASK_COLOURS),
    ):
        yield


def panels(
    columns: int, rows: int = 1, *, width: float = WIDTH, height: float = HEIGHT
) -> tuple[Figure, list[Axes]]:
    """Return a figure of equal panels, and its panels row by row. Needs no display."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(np.ravel(axes))


def rows_of_panels(n: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """Return a figure of n equal panels, up to `COLUMNS` in a row."""
    columns = min(COLUMNS, n)
    figure, axes = panels(columns, -(-n // columns), width=width, height=height)
    for spare in axes[n:]:
        spare.remove()
    return figure, axes[:n]


def legend_below(figure: Figure, axis: Axes) -> None:
    """Explain the lines of one panel below all of them."""
    handles, labels = axis.get_legend_handles_labels()
    figure.legend(handles, labels, loc="outside lower center", ncols=len(labels), frameon=False)


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file; the same figure gives the same bytes."""
    drawn, buffer = io.BytesIO(), io.BytesIO()
    figure.savefig(drawn, format="png", dpi=130)
    # A palette of 256 colours makes the file a third as large.
    image = Image.open(drawn).convert("RGB")
    quantized = image.quantize(256, Image.Quantize.MAXCOVERAGE, dither=Image.Dither.NONE)
    quantized.save(buffer, format="png")
    return buffer.getvalue()
