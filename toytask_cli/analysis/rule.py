"""Which neurons to remove: the rule, and every removal that some tolerance gives.

With r the removed task, k any kept task and τ the tolerance, neuron i is removed if its importance
for r is > 0 and, for every k, its importance for k is ≤ 0, or is < τ and < its importance for r.
Where several tasks are removed, the importance for r is the largest of theirs.

A larger tolerance only ever adds neurons: each has one value of τ above which it is removed.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.errors import UsageError

# No more removals than this are tried; below the floor, in nats, importances are mostly rounding.
CURVE_POINTS, CURVE_FLOOR = 60, 1e-7


class Removal(NamedTuple):
    """A tolerance and the neurons it removes, in ascending order."""

    tolerance: float  # nats
    neurons: Tensor  # [k] int64


def choose_neurons(importance: Tensor, removed: Sequence[int], tolerance: float) -> Tensor:
    """The neurons that the rule removes, in ascending order.

    Args:
        importance: [task, d_sae] nats.
        removed: indices of the tasks to remove; the others are kept.
        tolerance: τ, nats.

    Raises:
        UsageError: a tolerance that is negative or not finite.
    """
    if not (math.isfinite(tolerance) and tolerance >= 0):
        raise UsageError(f"tolerance is {tolerance}: must be 0 or more")
    starts = entry_tolerances(importance, removed)
    return ((starts == 0) | (starts < tolerance)).nonzero().squeeze(-1)


def entry_tolerances(importance: Tensor, removed: Sequence[int]) -> Tensor:
    """[d_sae] float64, the tolerance above which each neuron is removed.

    0 where it is removed at every tolerance, infinite where at none.
    """
    values = importance.double()
    is_removed = torch.zeros(len(values), dtype=torch.bool)
    is_removed[list(removed)] = True
    gain = values[is_removed].amax(dim=0)
    cost = values[~is_removed].amax(dim=0).clamp(min=0)
    # What holds for the kept task that the neuron matters to most holds for all of them.
    allowed = (gain > 0) & ((cost == 0) | (cost < gain))
    return torch.where(allowed, cost, math.inf)


def removals(importance: Tensor, removed: Sequence[int]) -> list[Removal]:
    """The distinct removals over all tolerances, from 0 up, each with a tolerance that gives it.

    Where there are more than `CURVE_POINTS`, those at log-spaced tolerances, with both ends.
    """
    starts = entry_tolerances(importance, removed)
    steps = starts[starts.isfinite() & (starts > 0)].unique()
    tolerances = [0.0] + [_between(steps, i) for i in _spread(steps)]
    return [Removal(t, choose_neurons(importance, removed, t)) for t in tolerances]


def _spread(steps: Tensor) -> list[int]:
    """Indices of at most `CURVE_POINTS` − 1 of the steps, the last one among them."""
    if len(steps) < CURVE_POINTS:
        return list(range(len(steps)))
    first = max(float(steps[0]), CURVE_FLOOR)
    last = max(float(steps[-1]), first)
    wanted = torch.logspace(math.log10(first), math.log10(last), CURVE_POINTS - 1).double()
    found = torch.searchsorted(steps, wanted).clamp(max=len(steps) - 1)
    found[-1] = len(steps) - 1
    return found.unique().tolist()


def _between(steps: Tensor, i: int) -> float:
    """The shortest number above step i, of four digits or more, and not above the next one."""
    low = float(steps[i])
    high = float(steps[i + 1]) if i + 1 < len(steps) else 4 * low
    middle = math.sqrt(low * high)
    short = (float(f"{middle:.{digits}g}") for digits in range(4, 18))
    return next((number for number in short if low < number <= high), high)
