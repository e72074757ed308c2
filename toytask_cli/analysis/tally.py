"""Adds up removal costs over pairs: means, halves, bootstrap resamples, answer positions.

All of these are weighted means over pairs, so a chunk of pairs is one matrix product: weights
[row, pair] times costs [pair, neuron]. The bootstrap is Poisson's (Hanley & MacGibbon, 2006):
each pair gets a Poisson(1) weight in each resample, drawn chunk by chunk, so that memory does not
grow with the number of pairs. The tasks share the weights, since they share the pairs.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.matched import Matched
from toytask_cli.analysis.removal_costs import Costs
from toytask_cli.tokenizer import PAD

# Pairs worked on at once. It decides which random numbers a pair gets, so it is no option.
CHUNK = 512

RESAMPLES = 1000


class Tally(NamedTuple):
    """Mean costs over pairs, nats, float32 on the CPU."""

    importance: Tensor  # [task, d_sae] neuron removed
    low: Tensor  # [task, d_sae] lower end of its 95 % percentile interval
    high: Tensor  # [task, d_sae] upper end
    halves: Tensor  # [task, 2, d_sae] importance over each random half of the pairs
    mean_ablation: Tensor  # [task, d_sae] neuron set to its mean
    by_place: Tensor  # [task, place, d_sae] neuron removed, mean over answers that are so long
    at_place: Tensor  # [task, place] int64, number of these


def tally(
    matched: Matched,
    rows: Tensor,
    means: Tensor,
    costs: Costs,
    draw: torch.Generator,
    resamples: int = RESAMPLES,
) -> Tally:
    """Runs through the pairs, chunk by chunk.

    Args:
        rows: [n] of the pairs, to measure on.
        means: [d_sae] what mean ablation sets neurons to; neurons with mean 0 cost nothing.
        costs: how to find the costs of one chunk, a value of `removal_costs.METHODS`.
        draw: where halves and resamples come from.
    """
    model, grid = matched.model, matched.grid
    device = model.readout.weight.device
    means = means.to(device)
    live = means.nonzero().squeeze(-1)
    values = (torch.zeros_like(means[live]), means[live])
    n_tasks, n_places = len(grid.tasks), grid.answers.shape[-1] - 1
    sums = torch.zeros(n_tasks, 3 + resamples, len(live), device=device)
    mean_sums = torch.zeros(n_tasks, len(live), device=device)
    place_sums = torch.zeros(n_tasks, n_places, len(live), device=device)
    at_place = torch.zeros(n_tasks, n_places, dtype=torch.int64, device=device)
    totals = torch.zeros(3 + resamples, device=device)
    halves = torch.randperm(len(rows), generator=draw) % 2
    for chunk, half in zip(rows.split(CHUNK), halves.split(CHUNK), strict=True):
        weights = _weights(half, resamples, draw).to(device)
        totals += weights.sum(dim=1)
        for task in range(n_tasks):
            batch, resid = matched.look(task, chunk)
            removed, averaged = costs(model, batch, resid, live, values)
            real = batch.answers[:, 1:] != PAD
            lengths = real.sum(dim=1, keepdim=True)
            sums[task].addmm_(weights, removed.sum(dim=1) / lengths)
            mean_sums[task] += (averaged.sum(dim=1) / lengths).sum(dim=0)
            place_sums[task, : real.shape[1]] += removed.sum(dim=0)
            at_place[task, : real.shape[1]] += real.sum(dim=0)
    # A half or a resample of very few pairs can be empty; such a resample says what all pairs say.
    found = sums / totals.clamp(min=1).unsqueeze(-1)
    resampled = torch.where(totals[3:, None] > 0, found[:, 3:], found[:, :1])
    low, high = _interval(resampled)

    def wide(part: Tensor) -> Tensor:
        return _widen(part, live, len(means))

    return Tally(
        importance=wide(found[:, 0]),
        low=wide(low),
        high=wide(high),
        halves=wide(found[:, 1:3]),
        mean_ablation=wide(mean_sums / len(rows)),
        by_place=wide(place_sums / at_place.clamp(min=1).unsqueeze(-1)),
        at_place=at_place.cpu(),
    )


def _weights(half: Tensor, resamples: int, draw: torch.Generator) -> Tensor:
    """[3 + resamples, pair] every pair once, those of either half, and the resamples."""
    poisson = torch.poisson(torch.ones(resamples, len(half)), generator=draw)
    return torch.cat([torch.ones(1, len(half)), torch.stack([1 - half, half]), poisson])


def _interval(resampled: Tensor) -> tuple[Tensor, Tensor]:
    """[task, resample, neuron] → ends of the 95 % percentile interval, [task, neuron] each."""
    ordered = resampled.sort(dim=1).values
    last = ordered.shape[1] - 1
    return ordered[:, round(0.025 * last)], ordered[:, round(0.975 * last)]


def _widen(part: Tensor, live: Tensor, d_sae: int) -> Tensor:
    """[..., live] → [..., d_sae] on the CPU, 0 at the neurons that never fire."""
    wide = part.new_zeros(*part.shape[:-1], d_sae)
    wide[..., live] = part
    return wide.cpu()
