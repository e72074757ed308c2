"""Where on the grid of operands the answers are right."""

from collections.abc import Mapping

import numpy as np
import seaborn as sns
from matplotlib.colors import ListedColormap
from matplotlib.figure import Figure
from numpy.typing import NDArray

from toytask_cli.figures.style import rows_of_panels, style

LARGEST = 100  # cells on a side


def draw_correctness(correctness: Mapping[str, NDArray[np.int8]]) -> Figure:
    """One square for each task: the first operand downwards, the second to the right.

    Args:
        correctness: by task, [pair] 1 right, 0 wrong, −1 not measured. Grids of more than 100
            operands are drawn in cells that show the share of right answers.
    """
    with style():
        figure, axes = rows_of_panels(len(correctness), width=4.9, height=5.3)
        for axis, (task, pairs) in zip(axes, correctness.items(), strict=True):
            size = round(len(pairs) ** 0.5)
            share = _cells(pairs.reshape(size, size))
            sns.heatmap(
                share,
                ax=axis,
                vmin=0,
                vmax=1,
                cmap=ListedColormap(sns.color_palette("blend:#b2182b,#a9cce3", 64)),
                square=True,
                cbar=False,
            )
            axis.set_facecolor("white")
            axis.grid(visible=False)
            measured = pairs[pairs >= 0]
            wrong = int((measured == 0).sum())
            axis.set(
                title=f"{task}: {wrong:,} of {len(measured):,} wrong",
                xlabel="second operand",
                ylabel="first operand",
            )
            _label(axis.set_xticks, size, len(share))
            _label(axis.set_yticks, size, len(share))
        are_shares = len(pairs) > LARGEST**2
        colours = "share right: 1 (blue) to 0 (red)" if are_shares else "right (blue), wrong (red)"
        figure.suptitle(f"{colours}, not in this part (white)", fontsize=10)
        return figure


def _cells(grid: NDArray[np.int8]) -> NDArray[np.float64]:
    """Share of right answers in each cell, NaN where nothing was measured."""
    width = -(-len(grid) // LARGEST)
    blocks = grid.reshape(len(grid) // width, width, len(grid) // width, width)
    right, measured = (blocks == 1).sum(axis=(1, 3)), (blocks >= 0).sum(axis=(1, 3))
    share: NDArray[np.float64] = np.full(right.shape, np.nan)
    return np.divide(right, measured, out=share, where=measured > 0)


def _label(set_ticks: object, size: int, cells: int) -> None:
    ticks = np.linspace(0, cells, 11)[:-1].astype(int) if cells > 10 else np.arange(cells)
    set_ticks(ticks + 0.5, labels=[str(t * size // cells) for t in ticks], rotation=0)  # type: ignore[operator]
