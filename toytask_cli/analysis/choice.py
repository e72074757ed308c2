"""Which neurons to remove for a task, without measuring what the removal does on test pairs."""

from collections.abc import Sequence

from toytask_cli.analysis.ablation import largest_that_keeps, removed_indices
from toytask_cli.analysis.importance import ImportanceTensors
from toytask_cli.analysis.removal import AS_TRAINED, right_without
from toytask_cli.analysis.rule import Removal, choose_neurons, removals
from toytask_cli.dataset import Grid
from toytask_cli.model import Transformer


def choose_removal(
    model: Transformer,
    grid: Grid,
    found: ImportanceTensors,
    remove: Sequence[str],
    tolerance: float | None,
) -> Removal:
    """The neurons that `ablation.ablate` takes, chosen on validation pairs.

    Args:
        found: what `score_neurons` found for the same model and grid.
        remove: names of the tasks to remove.
        tolerance: of the rule, nats; None takes the automatic one.

    Raises:
        UsageError: an unknown task, no task or every task, or a tolerance below 0.
    """
    removed = removed_indices(grid, remove)
    if tolerance is not None:
        return Removal(tolerance, choose_neurons(found.importance, removed, tolerance))
    points = removals(found.importance, removed)
    pairs, _ = grid.matched_pairs()
    right = right_without(model, grid, pairs, [AS_TRAINED, *(point.neurons for point in points)])
    return points[largest_that_keeps(right[0], right[1:], removed) or 0]
