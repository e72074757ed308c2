"""The figures of a study: their titles, their descriptions, and which of them fit on the page."""

from collections.abc import Mapping, Sequence, Set
from itertools import combinations

TEXT_BYTES = 1000  # of the page, at most, beside the picture itself
IN_TABLES = "The tables above hold the numbers."


def figure_texts(varied: Sequence[str]) -> dict[str, tuple[str, str]]:
    """Return name → title and description of every figure that a study can have.

    Args:
        varied: the keys of the fields that vary.
    """
    one = {f"by-{key}": _by_field(key) for key in varied}
    two = {f"by-{a}-{b}": _by_two(a, b) for a, b in combinations(varied, 2)}
    return {
        "runs": (
            "Every run",
            "A panel for each quantity, with every run as a point and the mean of each recipe as a "
            f"line. {IN_TABLES}",
        ),
        "left-and-kept": (
            "Left and kept",
            "A panel for each removal, with every run as a point: across, the accuracy left of the "
            f"removed task; up, the least share that another task keeps. {IN_TABLES}",
        ),
        **one,
        **two,
        "seeds-and-splits": _by_two("split", "seed"),
    }


def _by_field(key: str) -> tuple[str, str]:
    description = f"A panel for each quantity over {key}: every run a point, the mean a line."
    return f"Quantities over {key}", f"{description} {IN_TABLES}"


def _by_two(across: str, down: str) -> tuple[str, str]:
    title = f"Mean at each {across} and {down}"
    return title, f"A table in colours for each quantity: its mean at each {across} and {down}."


def fitting(figures: Mapping[str, bytes], room: int) -> Set[str]:
    """Return the names of the figures that fit on the page; the largest are left out first.

    Args:
        figures: name → PNG.
        room: the bytes that the page has left.
    """
    shown: set[str] = set()
    for name, png in sorted(figures.items(), key=lambda item: len(item[1])):
        room -= len(png) * 4 // 3 + TEXT_BYTES  # base64 writes three bytes as four letters
        if room < 0:
            break
        shown.add(name)
    return shown
