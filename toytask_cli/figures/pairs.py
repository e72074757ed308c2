"""A panel for every two tasks."""

from itertools import combinations

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toytask_cli.figures.style import panels

COLUMNS = 3


def pair_panels(n_tasks: int) -> tuple[Figure, list[tuple[int, int, Axes]]]:
    """Square panels, each with the indices of the tasks for its x axis and its y axis."""
    pairs = list(combinations(range(n_tasks), 2))
    columns = min(COLUMNS, len(pairs))
    figure, axes = panels(columns, -(-len(pairs) // columns), width=4.8, height=4.6)
    for spare in axes[len(pairs) :]:
        spare.remove()
    return figure, [(x, y, axis) for (x, y), axis in zip(pairs, axes, strict=False)]
