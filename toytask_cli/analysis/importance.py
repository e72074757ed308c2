"""Which neurons matter to which task, measured by removing each one alone.

The importance of neuron i for task t is the mean over pairs of (loss with f_i removed − loss),
the loss of an example being the mean cross-entropy over its answer's tokens, in nats. Positive
means that removing hurts. Pairs are validation pairs that the model answers correctly for every
task, so that tasks are compared on the same operands.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.matched import Matched
from toytask_cli.analysis.removal import loss_increases
from toytask_cli.analysis.removal_costs import METHODS
from toytask_cli.analysis.survey import PairCounts, pairs_to_judge, survey
from toytask_cli.analysis.tally import RESAMPLES, tally
from toytask_cli.dataset import Grid
from toytask_cli.errors import unknown_choice
from toytask_cli.model import Transformer
from toytask_cli.rng import generator


class ImportanceTensors(NamedTuple):
    """The full matrices, float32 on the CPU; nats where they are importances."""

    importance: Tensor  # [task, d_sae]
    low: Tensor  # [task, d_sae] lower end of the 95 % interval
    high: Tensor  # [task, d_sae] upper end
    mean_ablation: Tensor  # [task, d_sae]
    by_place: Tensor  # [task, place, d_sae]
    at_place: Tensor  # [task, place] int64, answers that have a token at this place
    density: Tensor  # [task, d_sae]
    mean_acts: Tensor  # [d_sae] what mean ablation sets activations to
    pairs: Tensor  # [n] int64, the operand pairs that were used

    @property
    def live(self) -> Tensor:
        """[d_sae] whether the neuron fires for some task."""
        return (self.density > 0).any(dim=0)


class NeuronScores(NamedTuple):
    """What `score_neurons` found, and how."""

    matched: Matched  # the candidates: the pairs that neurons are chosen on
    tensors: ImportanceTensors
    halves: Tensor  # [task, 2, d_sae] importance over each random half of the pairs, nats
    pairs: PairCounts
    method: str
    resamples: int


def score_neurons(
    model: Transformer,
    grid: Grid,
    *,
    seed: int,
    pairs: int | None = None,
    method: str = "closed",
    resamples: int = RESAMPLES,
) -> NeuronScores:
    """Measures every neuron for every task.

    Memory is bounded by `matched.KEPT`, by one chunk of `tally.CHUNK` pairs (their activations,
    `ENTRIES` rows of the vocabulary) and by [task, resamples, d_sae] sums, whatever the number of
    pairs.

    Args:
        seed: of the sample of pairs, of the halves and of the bootstrap.
        pairs: size of a random sample of the pairs to use, or None for all.
        method: `closed`, or `hooks` for one forward pass for each neuron.
        resamples: of the bootstrap.

    Raises:
        UsageError: an unknown method, or fewer than one pair asked for.
        ToytaskError: the model answers no candidate correctly for every task.
    """
    if method not in METHODS:
        raise unknown_choice("method", method, METHODS)
    candidates, _ = grid.matched_pairs()
    matched = Matched(model, grid, candidates)
    seen = survey(matched)
    rows, counts = pairs_to_judge(grid, seen.right, pairs, generator(seed, "pairs"))
    found = tally(
        matched, rows, seen.mean_acts, METHODS[method], generator(seed, "importance"), resamples
    )._asdict()
    halves = found.pop("halves")
    tensors = ImportanceTensors(
        **found, density=seen.density, mean_acts=seen.mean_acts, pairs=candidates[rows]
    )
    return NeuronScores(matched, tensors, halves, counts, method, resamples)


@dataclass(frozen=True)
class Joint:
    """Several neurons removed together; task → nats."""

    neurons: list[int]
    together: dict[str, float]
    sum_of_singles: dict[str, float]


def joint_effect(scores: NeuronScores, sets: list[Tensor]) -> list[Joint]:
    """Each set of neurons removed together, on the pairs that importance was measured on."""
    matched, tensors = scores.matched, scores.tensors
    names = matched.grid.task_names
    rows = torch.isin(matched.pairs, tensors.pairs).nonzero()[:, 0]
    together = loss_increases(matched, rows, sets)
    return [
        Joint(
            neurons=neurons.tolist(),
            together=dict(zip(names, row.tolist(), strict=True)),
            sum_of_singles=dict(
                zip(names, tensors.importance[:, neurons].sum(dim=1).tolist(), strict=True)
            ),
        )
        for neurons, row in zip(sets, together, strict=True)
    ]
