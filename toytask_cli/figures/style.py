"""One look for all figures: panels, colours, PNG files."""

import io
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 5.0  # inches of one panel
HEIGHT = 3.8
COLUMNS = 3

# A colour means the same thing in every figure. Tasks take the palette's colours in their order.
COLOURS = {
    "train": "#63b4c4",
    "validation": "#17677c",
    "test": "#b8860b",
    "before": "#565656",
    "after": "#ad1457",
    "random": "#b5b5b5",
    "neurons": "#62628a",
}
WRONG, RIGHT = "#b2182b", "#a9cce3"
SIGNED_COLOURS = "RdBu_r"  # red above zero, blue below
ATTENTION_COLOURS = "Purples"
# A line to compare points with.
GUIDE: dict[str, Any] = {"color": "0.6", "linewidth": 0.8, "linestyle": ":"}


@contextmanager
def style() -> Iterator[None]:
    """Apply the look within this block alone."""
    with (
        matplotlib.rc_context(),
        sns.axes_style("whitegrid"),
        sns.plotting_context("notebook", font_scale=0.9),
        sns.color_palette("deep"),
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


def png(figure: Figure) -> bytes:
    """Return the figure as a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
