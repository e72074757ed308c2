"""A panel for every two tasks."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toytask_cli.figures.style import rows_of_panels


def pair_panels(n_tasks: int) -> tuple[Figure, list[tuple[int, int, Axes]]]:
    """Return square panels, each with the indices of the tasks for its x axis and its y axis."""
    pairs = list(combinations(range(n_tasks), 2))
    figure, axes = rows_of_panels(len(pairs), width=4.8, height=4.6)
    return figure, [(x, y, axis) for (x, y), axis in zip(pairs, axes, strict=True)]
