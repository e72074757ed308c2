"""What the model knows and which neurons fire, on pairs that every task shares."""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.matched import Matched
from toytask_cli.dataset import SPLITS, Grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.objective import exact_match
from toytask_cli.tokenizer import PAD


class Survey(NamedTuple):
    """What one look at all tasks at the same pairs says, on the CPU."""

    right: Tensor  # [task, pair] bool, exact match
    density: Tensor  # [task, d_sae] share of the task's answer positions where the neuron fires
    mean_acts: Tensor  # [d_sae] mean activation over the answer positions of all tasks


@torch.no_grad()
def survey(matched: Matched) -> Survey:
    """Looks at all tasks at these pairs, of which there must be some, padding left out."""
    model = matched.model
    rights = torch.empty(len(matched.grid.tasks), len(matched.pairs), dtype=torch.bool)
    fired, positions = [], []
    acts = torch.zeros(model.sae.encoder.out_features, dtype=torch.float64)
    for task, right in enumerate(rights):
        counts, n, start = torch.zeros_like(acts), 0, 0
        for batch, resid in matched.batches(task):
            right[start : start + len(batch)] = exact_match(model.readout(resid), batch.answers)
            start += len(batch)
            real = model.sae.encode(resid[batch.answers[:, 1:] != PAD])
            acts += real.sum(dim=0).cpu()
            counts += (real > 0).sum(dim=0).cpu()
            n += len(real)
        fired.append(counts)
        positions.append(n)
    density = torch.stack(fired) / torch.tensor(positions)[:, None]
    return Survey(rights, density.float(), (acts / sum(positions)).float())


@dataclass(frozen=True)
class PairCounts:
    """Which operand pairs neurons are judged on, and why others are not."""

    twin_elsewhere: int  # dropped: validation for some task, but trained or tested on for another
    candidates: int  # validation for every task, and not kept back for the report
    wrong: dict[str, int]  # dropped: task → candidates that the model gets wrong for it
    right: int  # candidates that the model gets right for every task
    used: int  # those, or the sample that was drawn from them


def pairs_to_judge(
    grid: Grid, right: Tensor, limit: int | None, draw: torch.Generator
) -> tuple[Tensor, PairCounts]:
    """The rows of the candidates that are right for every task, or of a random sample of them.

    Args:
        right: [task, candidate] whether the model gets them right.
        limit: number of pairs to draw, or None for all; all as well where there are fewer.
        draw: where the sample comes from.

    Raises:
        UsageError: a limit below 1.
        ToytaskError: no pair is right for every task.
    """
    if limit is not None and limit < 1:
        raise UsageError(f"pairs is {limit}: must be 1 or more")
    known = right.all(dim=0).nonzero()[:, 0]
    if not len(known):
        raise ToytaskError(
            "the model answers no validation pair correctly for every task: train it longer"
        )
    used = known
    if limit is not None:
        used = known[torch.randperm(len(known), generator=draw)[:limit].sort().values]
    validation = grid.splits == SPLITS.index("validation")
    return used, PairCounts(
        twin_elsewhere=int((validation.any(dim=0) & ~validation.all(dim=0)).sum()),
        candidates=right.shape[1],
        wrong={task.name: int((~right[i]).sum()) for i, task in enumerate(grid.tasks)},
        right=len(known),
        used=len(used),
    )
