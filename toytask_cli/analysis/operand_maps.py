"""The activation of neurons over both operands: one square a neuron, task and answer position.

The pairs are all pairs of up to `MOST_OPERANDS` operands, seen in training or not.
"""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.dataset import Examples, Grid
from toytask_cli.model import Transformer
from toytask_cli.rng import generator
from toytask_cli.tokenizer import PAD

MOST_OPERANDS = 100  # all pairs of these; where there are more operands, as many are drawn
MATTERS = 0.1  # of the largest of a neuron's values: positions with less are not shown
SMALL = 50  # cells on a side of a small map, at most
LEVELS = 16  # of a small map


def at_all_operands(model: Transformer, grid: Grid) -> MatchedPairs:
    """Return all tasks at all pairs of the shown operands, in the order of both."""
    operands = shown_operands(grid)
    pairs = operands[:, None] * 10**grid.spec.digits + operands
    return MatchedPairs(model, grid, pairs.flatten())


def shown_operands(grid: Grid) -> Tensor:
    """Return [k] all operands; of more than `MOST_OPERANDS` a random sample, in order.

    Evenly spaced ones would have too few last digits.
    """
    draw = generator(grid.spec.split_seed, "operands")
    return torch.randperm(10**grid.spec.digits, generator=draw)[:MOST_OPERANDS].sort().values


@torch.no_grad()
def activations(
    matched: MatchedPairs, task: int, neurons: Tensor
) -> Iterator[tuple[Examples, Tensor]]:
    """Yield batches of one task, on the CPU, and activations [n, length, neuron], 0 at pads.

    Args:
        matched: the pairs.
        task: index of the task.
        neurons: [neuron] indices.
    """
    for batch, resid in matched.batches(task):
        acts = matched.model.sae.encode(resid)[..., neurons.to(resid.device)]
        real = (batch.answers[:, 1:] != PAD).unsqueeze(-1)
        yield batch.to("cpu"), (acts * real).cpu()


def activation_maps(matched: MatchedPairs, task: int, neurons: Tensor) -> Tensor:
    """Return [neuron, position, k, k] activations, NaN where the answer has ended.

    Rows are first operands, columns second operands.

    Args:
        matched: of `at_all_operands`.
        task: index of the task.
        neurons: [neuron] indices.
    """
    n_pairs, n_positions = len(matched.pairs), matched.grid.answers.shape[-1] - 1
    maps, start = torch.full((n_pairs, n_positions, len(neurons)), torch.nan), 0
    for batch, acts in activations(matched, task, neurons):
        ended = (batch.answers[:, 1:] == PAD).unsqueeze(-1)
        maps[start : start + len(batch), : acts.shape[1]] = acts.masked_fill(ended, torch.nan)
        start += len(batch)
    side = round(n_pairs**0.5)
    return maps.permute(2, 1, 0).unflatten(-1, (side, side))


def shown_positions(values: Tensor) -> list[int]:
    """Return the positions that matter, from a neuron's values [position]; none if all are ≤ 0."""
    least = MATTERS * float(values.max())
    return [i for i, value in enumerate(values.tolist()) if value > 0 and value >= least]


def shrink(values: Tensor, cells: int) -> Tensor:
    """Return [..., k, k] maps with `cells` on a side at most, each cell the largest of its values.

    Where the answer has ended, the activation counts as 0.
    """
    width = -(-values.shape[-1] // cells)
    return F.max_pool2d(values.nan_to_num(), width, ceil_mode=True)


class SmallMaps(NamedTuple):
    """Maps of several neurons, each on a scale of its own."""

    map_neurons: Tensor  # [neuron] int64 indices
    map_peaks: Tensor  # [neuron] the largest activation, at the highest level
    map_levels: Tensor  # [neuron, side, side / 2] uint8, two cells in a byte, the left one high


def small_maps(
    matched: MatchedPairs, neurons: Tensor, tasks: Tensor, positions: Tensor
) -> SmallMaps:
    """Return one small map of each neuron.

    Args:
        matched: of `at_all_operands`.
        neurons: [neuron] indices.
        tasks: [neuron] the task to map it in.
        positions: [neuron] the answer position.
    """
    side = shrink(torch.empty(1, *2 * [round(len(matched.pairs) ** 0.5)]), SMALL).shape[-1]
    maps = torch.zeros(len(neurons), side, side)
    for task in tasks.unique().tolist():
        rows = (tasks == task).nonzero().squeeze(-1)
        of_task = activation_maps(matched, task, neurons[rows])
        maps[rows] = shrink(of_task[torch.arange(len(rows)), positions[rows]], SMALL)
    peaks = maps.amax(dim=(1, 2))
    scaled = maps / peaks.clamp(min=1e-30)[:, None, None]
    levels = (scaled * (LEVELS - 1)).ceil().to(torch.uint8)  # what fires at all is not level 0
    return SmallMaps(neurons, peaks, levels[..., ::2] * LEVELS + levels[..., 1::2])
