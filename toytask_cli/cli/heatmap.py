"""Heatmaps in the terminal: shades that are legible without colour, and colours for the sign."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

SHADES = "·░▒▓█"
ABOVE, BELOW = "medium_purple", "green3"  # as in figures
MAX_WIDTH, MIN_WIDTH = 128, 8


def cell_size(row_length: int, columns: int) -> int:
    """Return how many values share a cell, so that a row fits into so many columns."""
    return -(-row_length // min(max(columns, MIN_WIDTH), MAX_WIDTH))


def heatmap(labels: Sequence[str], rows: Sequence[Sequence[float]], columns: int) -> "Text":
    """Return one line for each row: its label, then cells that show their value of largest size.

    Args:
        labels: one for each row.
        rows: all of one length.
        columns: characters in a line.
    """
    from rich.text import Text

    margin = max(map(len, labels)) + 1
    size = cell_size(len(rows[0]), columns - margin)
    top = abs(largest([value for row in rows for value in row]))
    text = Text(no_wrap=True, overflow="crop")
    for label, row in zip(labels, rows, strict=True):
        text.append("\n" if text else "").append(label.rjust(margin - 1) + " ")
        for start in range(0, len(row), size):
            value = largest(row[start : start + size])
            text.append(shade(value, top), style=ABOVE if value > 0 else BELOW)
    return text


def largest(values: Sequence[float]) -> float:
    """Return the value of largest size, with its sign."""
    return max(values, key=abs)


def shade(value: float, top: float) -> str:
    """Return `·` for zero alone; else one of four shades, for the quarters of the largest size."""
    return SHADES[min(1 + int(4 * abs(value) / top), 4)] if value else SHADES[0]
