"""Figure of the attention pattern of each head, for one prompt."""

from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.image import AxesImage

from toytask_cli.figures.data import AttentionPattern
from toytask_cli.figures.style import ATTENTION_COLOURS, style

CELL, SMALL_CELL = 0.38, 0.2  # inches
MOST_HEADS_WITH_NUMBERS = 8  # with more heads the cells are small
MARGINS = 3.0, 1.1  # inches of width and height beside the heatmaps
AXIS_LABELS = 0.35  # inches below each row of heatmaps
DARK = 0.6  # cells above this have white numbers


def draw_attention(title: str, patterns: Sequence[AttentionPattern]) -> Figure:
    """Draw a heatmap for each head (columns) and kind of attention (rows), on one colour scale."""
    n_heads = len(patterns[0].values)
    has_numbers = n_heads <= MOST_HEADS_WITH_NUMBERS
    cell = CELL if has_numbers else SMALL_CELL
    heights = [len(pattern.query_tokens) for pattern in patterns]
    width = cell * n_heads * (max(len(pattern.key_tokens) for pattern in patterns) + 0.5)
    height = cell * sum(heights) + AXIS_LABELS * len(patterns)
    with style():
        size = (width + MARGINS[0], height + MARGINS[1])
        figure = Figure(figsize=size, layout="constrained")
        axes = figure.subplots(len(patterns), n_heads, squeeze=False, height_ratios=heights)
        for row, pattern in zip(axes, patterns, strict=True):
            for axis, weights in zip(row, pattern.values, strict=True):
                image = _draw_head(axis, weights, pattern.key_tokens, has_numbers)
            _label_row(row[0], pattern)
        for head, axis in enumerate(axes[0]):
            axis.set_title(f"head {head}", fontsize=10)
        bar = figure.colorbar(image, ax=axes, aspect=30, pad=0.02, panchor=False)
        bar.set_label("attention weight", fontsize=9)
        figure.suptitle(f"attention for {title}", fontsize=12)
        units = "; numbers in %" if has_numbers else ""
        figure.supxlabel(
            f"rows: the token that attends; columns: the token attended to{units}", fontsize=9
        )
        return figure


def _draw_head(
    axis: Axes, weights: np.ndarray, key_tokens: list[str], has_numbers: bool
) -> AxesImage:
    """Draw one head's weights [queries, keys], with percentages where there is space."""
    image = axis.imshow(weights, cmap=ATTENTION_COLOURS, vmin=0, vmax=1)
    axis.set_anchor("W")  # in line with the wider heatmaps above and below
    axis.grid(visible=False)
    axis.tick_params(length=0, labelsize=9)
    axis.set_xticks(range(len(key_tokens)), labels=key_tokens)
    axis.set_yticks([])
    for (query, key), weight in np.ndenumerate(weights):
        if has_numbers and weight >= 0.005:
            colour = "white" if weight > DARK else "black"
            text = f"{100 * weight:.0f}"
            axis.text(key, query, text, ha="center", va="center", fontsize=9, color=colour)
    return image


def _label_row(axis: Axes, pattern: AttentionPattern) -> None:
    axis.set_yticks(range(len(pattern.query_tokens)), labels=pattern.query_tokens)
    title = pattern.title.replace(" ", "\n")
    axis.set_ylabel(title, rotation=0, ha="right", va="center", fontsize=10, labelpad=8)
