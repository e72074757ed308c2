"""Which neurons to remove for a task, without measuring what the removal does on test pairs."""

from collections.abc import Sequence

from toytask_cli.analysis.ablation import largest_that_keeps, removed_indices
from toytask_cli.analysis.importance import NeuronScores
from toytask_cli.analysis.removal import AS_TRAINED, right_without
from toytask_cli.analysis.rule import Removal, choose_neurons, removals


def choose_removal(scores: NeuronScores, remove: Sequence[str], tolerance: float | None) -> Removal:
    """The neurons that `ablation.ablate` takes, chosen on validation pairs.

    Args:
        scores: what `score_neurons` found.
        remove: names of the tasks to remove.
        tolerance: of the rule, nats; None takes the automatic one.

    Raises:
        UsageError: an unknown task, no task or every task, or a tolerance below 0.
    """
    importance, removed = scores.tensors.importance, removed_indices(scores.matched.grid, remove)
    if tolerance is not None:
        return Removal(tolerance, choose_neurons(importance, removed, tolerance))
    points = removals(importance, removed)
    right = right_without(scores.matched, [AS_TRAINED, *(point.neurons for point in points)])
    return points[largest_that_keeps(right[0], right[1:], removed) or 0]
