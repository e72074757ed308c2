"""Figure of right and wrong answers over the grid of operands."""

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toytask_cli.figures.colours import RIGHT, WRONG
from toytask_cli.figures.style import rows_of_panels, style

MAX_CELLS = 100  # on a side


def draw_correctness(correctness: Mapping[str, NDArray[np.int8]]) -> Figure:
    """Draw a square for each task: the first operand downwards, the second to the right.

    Args:
        correctness: by task, [pair] 1 right, 0 wrong, −1 not measured. Grids of more than 100
            operands are drawn in cells that show the share of right answers.
    """
    with style():
        figure, axes = rows_of_panels(len(correctness), width=4.9, height=5.3)
        colours = ListedColormap(sns.color_palette(f"blend:{WRONG},{RIGHT}", 64))
        for axis, (task, pairs) in zip(axes, correctness.items(), strict=True):
            size = round(len(pairs) ** 0.5)
            shares = _cell_shares(pairs.reshape(size, size))
            sns.heatmap(shares, ax=axis, vmin=0, vmax=1, cmap=colours, square=True, cbar=False)
            axis.set_facecolor("white")
            axis.grid(visible=False)
            measured = pairs[pairs >= 0]
            n_wrong = int((measured == 0).sum())
            axis.set(
                title=f"{task}: {n_wrong:,} of {len(measured):,} wrong",
                xlabel="second operand",
                ylabel="first operand",
            )
            _label_operands(axis.set_xticks, size, len(shares))
            _label_operands(axis.set_yticks, size, len(shares))
        are_shares = len(pairs) > MAX_CELLS**2
        scale = "share right: 1 (blue) to 0 (red)" if are_shares else "right (blue), wrong (red)"
        figure.suptitle(f"answers over both operands: {scale}, not measured (white)", fontsize=11)
        return figure


def _cell_shares(grid: NDArray[np.int8]) -> NDArray[np.float64]:
    """Return the share of right answers in each cell, NaN where nothing was measured."""
    width = -(-len(grid) // MAX_CELLS)
    blocks = grid.reshape(len(grid) // width, width, len(grid) // width, width)
    right, measured = (blocks == 1).sum(axis=(1, 3)), (blocks >= 0).sum(axis=(1, 3))
    shares: NDArray[np.float64] = np.full(right.shape, np.nan)
    return np.divide(right, measured, out=shares, where=measured > 0)


def _label_operands(set_ticks: Callable[..., Any], size: int, cells: int) -> None:
    ticks = np.linspace(0, cells, 11)[:-1].astype(int) if cells > 10 else np.arange(cells)
    set_ticks(ticks + 0.5, labels=[str(t * size // cells) for t in ticks], rotation=0)
