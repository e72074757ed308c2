"""The simple pattern over both operands that explains most of a neuron's activation.

A pattern groups the operand pairs by the value of a number, such as a + b, or by a part of it, such
as its last digit. The share of a neuron's variance that it explains is

    ε² = 1 − (SS_within / (n − k)) / (SS_total / (n − 1))

over n pairs in k groups: η², the variance between groups over all variance, less what k groups
explain of noise (Kelley, 1935). A finer grouping explains at least what a coarser one does. So the
number that counts is the one with the fewest values of those that explain at most `MARGIN` less
than the best; then, by the same rule, the best of its parts that explain more than `MOST`.
"""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.answers import answer_numbers
from toytask_cli.dataset import Examples, Grid

MARGIN = 0.1
MOST = 0.5
TOKEN = "answer token"  # known by its id, which has no digits

# The parts of a number.
PARTS = {
    "last digit of {}": lambda value: value % 10,
    "tens digit of {}": lambda value: value // 10 % 10,
    "tens of {}": lambda value: value // 10,
    "hundreds of {}": lambda value: value // 100,
}

DEFINITIONS = {
    "neurons.pattern": "what the activation follows over the operands a and b: of a, b, a + b, any "
    "one number that a task of the run answers with, and the answer token to be written, the one "
    f"with the fewest values that explains at most {MARGIN:g} less than the best; by the same rule "
    f"a digit or size of it that explains more than {MOST:.0%}; null if no number explains more "
    f"than {MOST:.0%}",
    "neurons.explained": "share of the activation's variance over operand pairs that the pattern "
    "explains, or the best number where the pattern is null, 0 to 1: the variance between groups "
    "of pairs over all variance, less what as many groups explain of noise (ε²)",
}


class Pattern(NamedTuple):
    """A grouping of the operand pairs, and what it explains of one neuron's variance."""

    name: str | None  # None: none that is simple
    explained: float
    n_values: int


class Shares(NamedTuple):
    """What a grouping explains of every neuron's variance."""

    explained: Tensor  # [neuron] 0 to 1
    n_values: int


def numbers_at(grid: Grid, examples: Examples, position: int) -> dict[str, Tensor]:
    """Return the numbers whose patterns are tried, [n] each, by name.

    Args:
        examples: of one task.
        position: of the answer token to be written; 0 is the one after `B`.
    """
    a, b = grid.operands(examples.pairs)
    numbers = {"a": a, "b": b, "a + b": a + b}
    for task in grid.tasks:
        answers = answer_numbers(task, grid.spec.digits)
        if answers.shape[1] == 1 and task.name != "sum":
            values = torch.from_numpy(answers[:, 0].copy())
            numbers[f"{task.name}(a, b)"] = values[examples.pairs]
    return numbers | {TOKEN: examples.answers[:, position + 1]}


class GroupSums:
    """Sums of activations over the pairs at which a number has the same value.

    Args:
        n_values: the numbers are below this.
        n_neurons: number of neurons.
    """

    def __init__(self, n_values: int, n_neurons: int):
        self.shape = n_values, n_neurons
        self.sums: dict[str, Tensor] = {}  # number → [value, neuron] float64
        self.counts: dict[str, Tensor] = {}  # number → [value] pairs, float64
        self.squares = torch.zeros(n_neurons, dtype=torch.float64)  # sums of f² over all pairs

    def add(self, acts: Tensor, numbers: Mapping[str, Tensor]) -> None:
        """Add activations [n, neuron] at pairs where the numbers have these values, [n] each."""
        acts = acts.double()
        self.squares += acts.square().sum(dim=0)
        for name, values in numbers.items():
            sums = self.sums.setdefault(name, acts.new_zeros(self.shape))
            counts = self.counts.setdefault(name, acts.new_zeros(self.shape[0]))
            sums.index_add_(0, values, acts)
            counts += values.bincount(minlength=self.shape[0])

    def shares(self) -> "PatternShares":
        """Return what every pattern explains, of which there must be pairs."""
        n = self.counts["a"].sum()
        return PatternShares(
            means=self.sums["a"].sum(dim=0) / n,
            wholes={name: self._shares(name) for name in self.sums},
            parts={
                name: {part.format(name): self._shares(name, part) for part in PARTS}
                for name in self.sums
                if name != TOKEN
            },
        )

    def _shares(self, number: str, part: str | None = None) -> Shares:
        """Return the shares that a number explains, or a part of it."""
        sums, counts = self.sums[number], self.counts[number]
        if part is not None:
            groups = PARTS[part](torch.arange(len(sums)))
            sums = torch.zeros_like(sums).index_add_(0, groups, sums)
            counts = torch.zeros_like(counts).index_add_(0, groups, counts)
        return Shares(explained_share(sums, counts, self.squares), int((counts > 0).sum()))


class PatternShares(NamedTuple):
    """What the patterns explain of each neuron's variance, for one task at one position."""

    means: Tensor  # [neuron] mean activations
    wholes: dict[str, Shares]  # by number
    parts: dict[str, dict[str, Shares]]  # number → its parts

    def pattern_of(self, neuron: int) -> Pattern:
        """Return the pattern of one neuron, by the rule above."""
        numbers = _of_neuron(self.wholes, neuron)
        number = _coarsest(numbers)
        if number.explained <= MOST:
            return Pattern(None, max(each.explained for each in numbers), 0)
        parts = _of_neuron(self.parts.get(str(number.name), {}), neuron)
        parts = [p for p in parts if p.explained > MOST and p.n_values < number.n_values]
        return _coarsest(parts) if parts else number


def explained_share(sums: Tensor, counts: Tensor, squares: Tensor) -> Tensor:
    """Return [neuron] ε², at least 0; 0 where a neuron is constant or every pair its own group.

    Args:
        sums: [group, neuron] of f over the group's pairs, float64.
        counts: [group] pairs.
        squares: [neuron] sum of f² over all pairs.
    """
    n, k = counts.sum(), (counts > 0).sum()
    offset = sums.sum(dim=0).square() / n
    total = squares - offset
    within = squares - (sums.square() / counts.clamp(min=1).unsqueeze(-1)).sum(dim=0)
    varies = total > 1e-9 * squares  # below, rounding of float32 activations
    share = 1 - (within / (n - k).clamp(min=1)) / (total / (n - 1)).clamp(min=1e-300)
    return torch.where(varies & (k < n), share, 0).clamp(0, 1)


def _of_neuron(shares: Mapping[str, Shares], neuron: int) -> list[Pattern]:
    return [Pattern(name, float(s.explained[neuron]), s.n_values) for name, s in shares.items()]


def _coarsest(patterns: Sequence[Pattern]) -> Pattern:
    """Return the pattern of fewest values of those that explain almost as much as the best."""
    least = max(each.explained for each in patterns) - MARGIN
    return min((p for p in patterns if p.explained >= least), key=lambda p: p.n_values)
