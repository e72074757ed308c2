"""The choice of neurons to remove: the rule, its curve over tolerances, the random control.

With r the removed task, k any kept task and τ the tolerance, neuron i is removed if its importance
for r is > 0 and, for every k, its importance for k is ≤ 0, or is < τ and < its importance for r.
Where several tasks are removed, the importance for r is the largest of theirs. An importance of at
most `FLOOR`, above or below 0, counts as 0.

A larger tolerance only ever adds neurons: each has one value of τ above which it is removed.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.effects import right_without
from toytask_cli.analysis.generate import AS_TRAINED
from toytask_cli.analysis.importance import NeuronScores
from toytask_cli.analysis.stats import FLOOR
from toytask_cli.dataset import Grid
from toytask_cli.errors import UsageError, unknown_choice
from toytask_cli.hooks import checked_neurons

# The automatic choice keeps at least this share of every kept task's validation accuracy.
KEPT_SHARE = 0.99

CURVE_POINTS = 60  # at most so many removals are tried

# Of the random control. The live neurons are put in order of density and cut into strata of equal
# size. More than two would match density more closely and tell less: separated tasks differ in the
# density of their neurons, so that fine strata give back the very neurons that were chosen.
STRATA, DRAWS = 2, 20


class Removal(NamedTuple):
    """A tolerance and the neurons that the rule removes with it."""

    tolerance: float  # nats
    neurons: Tensor  # [k] int64, ascending


class Curve(NamedTuple):
    """The removals over all tolerances, from 0 up, and what each does to the validation pairs."""

    removals: list[Removal]
    right: Tensor  # [removal, task, pair] bool
    automatic: Removal | None  # the largest that keeps enough, if one does


NO_CURVE = Curve([], torch.empty(0), None)


class Selection(NamedTuple):
    """The neurons to remove."""

    neurons: Tensor  # [k] int64, ascending
    chosen_by: str  # given, tolerance or automatic
    tolerance: float | None  # nats; None for a given set


def select_neurons(
    scores: NeuronScores,
    remove: Sequence[str],
    *,
    tolerance: float | None = None,
    neurons: Sequence[int] | None = None,
    curve: Curve | None = None,
) -> Selection:
    """Return the neurons to remove: a given set, those of a tolerance, or the automatic choice.

    The automatic choice is the largest removal of the curve that keeps `KEPT_SHARE` of every kept
    task's validation accuracy or, if none does, the smallest one.

    Args:
        remove: names of the tasks to remove.
        tolerance: of the rule, nats.
        neurons: a given set.
        curve: of `measure_curve` for these tasks, measured here if needed and not given.

    Raises:
        UsageError: an unknown task, no task or every task, a neuron that the SAE does not have,
            a tolerance below 0, or both a tolerance and neurons.
    """
    removed = removed_indices(scores.matched.grid, remove)
    if tolerance is not None and neurons is not None:
        raise UsageError("give either a tolerance or neurons, not both")
    if neurons is not None:
        given = checked_neurons(neurons, scores.matched.model.sae.d_sae)
        return Selection(given, "given", None)
    if tolerance is not None:
        chosen = apply_rule(scores.tensors.importance, removed, tolerance)
        return Selection(chosen, "tolerance", tolerance)
    curve = curve or measure_curve(scores, remove)
    tolerance, chosen = curve.automatic or curve.removals[0]
    return Selection(chosen, "automatic", tolerance)


def removed_indices(grid: Grid, remove: Sequence[str]) -> list[int]:
    """Return the indices of the tasks to remove, in the grid's order, each once.

    Raises:
        UsageError: an unknown task, none, or all of them.
    """
    names = grid.task_names
    for name in remove:
        if name not in names:
            raise unknown_choice("task", name, names)
    if not 0 < len(set(remove)) < len(names):
        raise UsageError(f"remove at least one and keep at least one of {', '.join(names)}")
    return [i for i, name in enumerate(names) if name in remove]


def measure_curve(scores: NeuronScores, remove: Sequence[str], error: str = "keep") -> Curve:
    """Measure every removal that some tolerance gives, on the pairs that neurons are chosen on."""
    removed = removed_indices(scores.matched.grid, remove)
    points = removals(scores.tensors.importance, removed)
    sets = [AS_TRAINED, *(point.neurons for point in points)]
    right = right_without(scores.matched, sets, error)
    largest = largest_that_keeps(right[0], right[1:], removed)
    return Curve(points, right[1:], None if largest is None else points[largest])


def largest_that_keeps(before: Tensor, after: Tensor, removed: Sequence[int]) -> int | None:
    """Return the last of the growing removals that keeps `KEPT_SHARE` of every kept task.

    Args:
        before: [task, pair] whether the answer is right.
        after: [removal, task, pair] the same after each removal.
        removed: indices of the tasks that may be lost.
    """
    kept = [i for i in range(len(before)) if i not in removed]
    floor = KEPT_SHARE * before[kept].sum(dim=-1)
    enough = (after[:, kept].sum(dim=-1) >= floor).all(dim=-1).nonzero()
    return int(enough[-1]) if len(enough) else None


def apply_rule(importance: Tensor, removed: Sequence[int], tolerance: float) -> Tensor:
    """Return the neurons that the rule removes, in ascending order.

    Args:
        importance: [task, d_sae] nats.
        removed: indices of the tasks to remove; the others are kept.
        tolerance: τ, nats.

    Raises:
        UsageError: a tolerance that is negative or not finite.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"tolerance is {tolerance}: must be 0 or more")
    entry = entry_tolerances(importance, removed)
    return ((entry == 0) | (entry < tolerance)).nonzero().squeeze(-1)


def entry_tolerances(importance: Tensor, removed: Sequence[int]) -> Tensor:
    """Return [d_sae] float64 the tolerance above which the rule removes each neuron.

    It is 0 for a neuron that is removed at every tolerance, infinite for one that is at none.
    Only here are importances [task, d_sae] compared with 0 and with each other.
    """
    values = importance.double()
    values = values.where(values.abs() > FLOOR, 0)
    is_removed = torch.zeros(len(values), dtype=torch.bool)
    is_removed[list(removed)] = True
    gain = values[is_removed].amax(dim=0)
    # What holds for the kept task that the neuron matters to most holds for all of them.
    cost = values[~is_removed].amax(dim=0).clamp(min=0)
    allowed = (gain > 0) & ((cost == 0) | (cost < gain))
    return torch.where(allowed, cost, math.inf)


def removals(importance: Tensor, removed: Sequence[int]) -> list[Removal]:
    """Return the distinct removals over all tolerances, from 0 up, each with one that gives it.

    If there are more than `CURVE_POINTS`, return those at log-spaced tolerances, with both ends.
    """
    entry = entry_tolerances(importance, removed)
    steps = entry[entry.isfinite() & (entry > 0)].unique()
    tolerances = [0.0] + [_between(steps, i) for i in _spread(steps)]
    return [Removal(t, apply_rule(importance, removed, t)) for t in tolerances]


def _spread(steps: Tensor) -> list[int]:
    """Return indices of at most `CURVE_POINTS` − 1 of the steps, the last one among them."""
    if len(steps) < CURVE_POINTS:
        return list(range(len(steps)))
    first, last = steps[[0, -1]].log10().tolist()
    wanted = torch.logspace(first, last, CURVE_POINTS - 1).double()
    indices = torch.searchsorted(steps, wanted).clamp(max=len(steps) - 1)
    indices[-1] = len(steps) - 1
    return indices.unique().tolist()


def _between(steps: Tensor, i: int) -> float:
    """Return the shortest number, of four digits or more, above step i and not above the next."""
    low = float(steps[i])
    high = float(steps[i + 1]) if i + 1 < len(steps) else 4 * low
    middle = math.sqrt(low * high)
    short = (float(f"{middle:.{digits}g}") for digits in range(4, 18))
    return next((number for number in short if low < number <= high), high)


def random_sets(
    density: Tensor, chosen: Tensor, draw: torch.Generator, draws: int = DRAWS
) -> list[Tensor]:
    """Return random sets of live neurons, as large as the chosen one and of matched density.

    A set has as many neurons of each stratum as are chosen there, each drawn with the same chance
    whether it is chosen or not. Chosen neurons that are dead are not matched: removing them does
    nothing.

    Args:
        density: [d_sae] share of positions where each neuron fires.
        chosen: [k] neurons.
        draw: where the sets come from.
        draws: number of sets.
    """
    live = density.nonzero().squeeze(-1)
    ordered = live[density[live].argsort(stable=True)]
    strata = [stratum for stratum in ordered.tensor_split(STRATA) if len(stratum)]
    sizes = [int(torch.isin(stratum, chosen).sum()) for stratum in strata]

    def one_set() -> Tensor:
        orders = [torch.randperm(len(stratum), generator=draw) for stratum in strata]
        drawn = zip(strata, orders, sizes, strict=True)
        neurons = [chosen[:0], *(stratum[order[:size]] for stratum, order, size in drawn)]
        return torch.cat(neurons).sort().values

    return [one_set() for _ in range(draws)]
