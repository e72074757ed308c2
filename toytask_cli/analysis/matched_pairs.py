"""All tasks at the same operand pairs: x at their answers, what is right, what fires."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.generate import BATCH, all_residuals
from toytask_cli.dataset import Examples, Grid
from toytask_cli.errors import NoPairsError, UsageError
from toytask_cli.model import Transformer
from toytask_cli.objective import exact_match
from toytask_cli.splits import SPLITS
from toytask_cli.tokenizer import PAD

# Bytes of x to cache at most: enough for 20,000 pairs of two tasks; 2,000 and 5,000 are usual.
CACHE_BYTES = 2**27

KNOWN = 0.01  # a task of which less than this share is right is one that the model does not know


class FiringStats(NamedTuple):
    """Right answers and firing neurons on matched pairs, on the CPU."""

    right: Tensor  # [task, pair] bool, exact match
    density: Tensor  # [task, d_sae] share of the task's answer positions where the neuron fires
    mean_acts: Tensor  # [d_sae] mean activation over the answer positions of all tasks


class MatchedPairs:
    """All tasks at the same operand pairs, and the model's x at their answers.

    Everything about neurons follows from x, so x is computed once and cached, or again for each
    batch if the cache would take more than `CACHE_BYTES`.

    Args:
        model: its weights must not change while these pairs are in use.
        grid: the examples.
        pairs: [n] operand pairs.
    """

    def __init__(self, model: Transformer, grid: Grid, pairs: Tensor):
        self.model, self.grid, self.pairs = model, grid, pairs
        positions = len(grid.tasks) * len(pairs) * (grid.answers.shape[-1] - 1)
        self._caches = 4 * positions * model.readout.in_features <= CACHE_BYTES
        self._cache: dict[int, Tensor] = {}

    def batches(self, task: int, rows: Tensor | None = None) -> Iterator[tuple[Examples, Tensor]]:
        """Yield `batch` of all pairs, or of these rows [n] of them, some at a time."""
        rows = torch.arange(len(self.pairs)) if rows is None else rows
        return (self.batch(task, chunk) for chunk in rows.split(BATCH))

    @torch.no_grad()
    def batch(self, task: int, rows: Tensor) -> tuple[Examples, Tensor]:
        """Return one task's examples at these rows [n] of `pairs`, and their x.

        Returns:
            The examples, cut to the longest answer, and x [n, length, d_model], arbitrary at
            pads; both on the model's device.
        """
        device = self.model.readout.weight.device
        examples = self._examples(task, self.pairs[rows]).cut().to(device)
        inputs = examples.answers[:, :-1]
        if not self._caches:
            return examples, self.model.residual(examples.prompts, inputs)
        if task not in self._cache:
            self._cache[task] = all_residuals(self.model, self._examples(task, self.pairs))
        return examples, self._cache[task][rows.to(device), : inputs.shape[1]]

    @torch.no_grad()
    def firing_stats(self) -> FiringStats:
        """Return statistics over all of the pairs, of which there must be some."""
        model, n_tasks = self.model, len(self.grid.tasks)
        right = torch.empty(n_tasks, len(self.pairs), dtype=torch.bool)
        fired = torch.zeros(n_tasks, model.sae.d_sae, dtype=torch.float64)
        acts_sum, n_positions = torch.zeros_like(fired), torch.zeros_like(fired[:, :1])
        for task in range(n_tasks):
            start = 0
            for batch, resid in self.batches(task):
                end = start + len(batch)
                right[task, start:end] = exact_match(model.readout(resid), batch.answers)
                acts = model.sae.encode(resid[batch.answers[:, 1:] != PAD])
                acts_sum[task] += acts.sum(dim=0).cpu()
                fired[task] += (acts > 0).sum(dim=0).cpu()
                n_positions[task] += len(acts)
                start = end
        mean_acts = acts_sum.sum(dim=0) / n_positions.sum()
        return FiringStats(right, (fired / n_positions).float(), mean_acts.float())

    def _examples(self, task: int, pairs: Tensor) -> Examples:
        return self.grid.examples(torch.full_like(pairs, task), pairs)


@dataclass(frozen=True)
class PairCounts:
    """The number of operand pairs that importance is measured on, and of those left out."""

    twin_elsewhere: int  # dropped: validation for some task, but in another split for another
    candidates: int  # validation for every task, and not kept back for the report
    wrong: dict[str, int]  # dropped: task → candidates that the model gets wrong for it
    unknown: list[str]  # tasks that the model does not know, in which it may be wrong
    right: int  # candidates that the model gets right for every other task
    used: int  # those, or the sample that was drawn from them


def pairs_to_use(
    grid: Grid, right: Tensor, limit: int | None, draw: torch.Generator
) -> tuple[Tensor, PairCounts]:
    """Return the rows of the candidates that are right for every task, or a random sample of them.

    A task that the model does not know at all, because it was removed, is not asked for.

    Args:
        right: [task, candidate] whether the model gets them right.
        limit: number of pairs to draw at most, or None for all.
        draw: where the sample comes from.

    Raises:
        UsageError: a limit below 1.
        NoPairsError: no pair is right for every task, or no task is known.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"pairs is {limit}: must be 1 or more")
    is_known = right.double().mean(dim=1) >= KNOWN
    known = right[is_known].all(dim=0).nonzero()[:, 0]
    if not (is_known.any() and len(known)):
        raise NoPairsError(
            "the model answers no validation pair correctly for every task: train it longer"
        )
    used = known
    if limit is not None:
        used = known[torch.randperm(len(known), generator=draw)[:limit].sort().values]
    validation = grid.splits == SPLITS.index("validation")
    return used, PairCounts(
        twin_elsewhere=int((validation.any(dim=0) & ~validation.all(dim=0)).sum()),
        candidates=right.shape[1],
        wrong=dict(zip(grid.task_names, (~right).sum(dim=1).tolist(), strict=True)),
        unknown=[
            name for name, is_one in zip(grid.task_names, is_known, strict=True) if not is_one
        ],
        right=len(known),
        used=len(used),
    )
