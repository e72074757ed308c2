"""One look for all figures."""

import io
from collections.abc import Iterator
from contextlib import contextmanager

import matplotlib
import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

WIDTH = 5.0  # inches of one panel
HEIGHT = 3.8
COLUMNS = 3


@contextmanager
def style() -> Iterator[None]:
    """The look, within this block alone."""
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
    """A figure of equal panels, read row by row. Needs no display."""
    figure = Figure(figsize=(width * columns, height * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False)
    return figure, list(np.ravel(axes))


def rows_of_panels(n: int, *, width: float, height: float) -> tuple[Figure, list[Axes]]:
    """A figure of n equal panels, a few in a row."""
    columns = min(COLUMNS, n)
    figure, axes = panels(columns, -(-n // columns), width=width, height=height)
    for spare in axes[n:]:
        spare.remove()
    return figure, axes[:n]


def png(figure: Figure) -> bytes:
    """The figure as the bytes of a PNG file; the same figure gives the same bytes."""
    buffer = io.BytesIO()
    figure.savefig(buffer, format="png", dpi=130, metadata={"Software": None})
    return buffer.getvalue()
