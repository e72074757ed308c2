"""A heatmap in the terminal: shades that read without colour, and colours that tell the sign."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.text import Text

SHADES = "·░▒▓█"
ABOVE, BELOW = "dark_orange", "dodger_blue1"
WIDEST, NARROWEST = 128, 8


def cell_size(row_length: int, columns: int) -> int:
    """Values in a cell, so that a row fits into so many columns."""
    return -(-row_length // min(max(columns, NARROWEST), WIDEST))


def heatmap(labels: Sequence[str], rows: Sequence[Sequence[float]], columns: int) -> "Text":
    """One line for each row: its label, then cells that show their value of largest size.

    Args:
        labels: one for each row.
        rows: all of one length.
        columns: characters in a line.
    """
    from rich.text import Text

    margin = max(map(len, labels)) + 1
    size = cell_size(len(rows[0]), columns - margin)
    top = largest([value for row in rows for value in row])
    text = Text(no_wrap=True, overflow="crop")
    for label, row in zip(labels, rows, strict=True):
        text.append("\n" if text else "").append(label.rjust(margin - 1) + " ")
        for start in range(0, len(row), size):
            value = largest(row[start : start + size])
            text.append(_shade(value, abs(top)), style=ABOVE if value > 0 else BELOW)
    return text


def largest(values: Sequence[float]) -> float:
    """The value of largest size, with its sign."""
    return max(values, key=abs)


def _shade(value: float, top: float) -> str:
    """`·` for zero alone; else a quarter of the largest size for each shade."""
    return SHADES[min(1 + int(4 * abs(value) / top), 4)] if value else SHADES[0]
