"""What the blocks hold for one prompt and its true answer, recorded through hooks."""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.dataset import Grid
from toytask_cli.hooks import HOOK_POINTS, cache_activations
from toytask_cli.model import Transformer
from toytask_cli.prompts import Prompt

# Entries listed for each position.
STRONGEST = 4


class Snapshot(NamedTuple):
    """One block's output for one prompt, on the CPU."""

    positions: list[str]  # prompt tokens: `47`; answer tokens, with what they predict: `B→70`
    values: Tensor  # [position, width]


@dataclass(frozen=True)
class Entry:
    """One neuron of the SAE, or one dimension of the residual stream."""

    index: int
    value: float


@dataclass(frozen=True)
class Position:
    """One row of a snapshot in short."""

    position: str
    nonzero: int
    strongest: list[Entry]  # by size, whatever the sign; zeros left out


@torch.no_grad()
def record_prompt(model: Transformer, grid: Grid, prompt: Prompt) -> dict[str, Snapshot]:
    """Every block of `hooks.HOOK_POINTS` on a prompt, the true answer being fed to the decoder."""
    asked, answer = (grid.tokenizer.encode(text) for text in (prompt.text, prompt.target))
    device = model.readout.weight.device
    with cache_activations(model) as record:
        model(torch.tensor([asked], device=device), torch.tensor([answer[:-1]], device=device))
    prompt_tokens, answer_tokens = (
        [grid.tokenizer.tokens[i] for i in row] for row in (asked, answer)
    )
    steps = [f"{a}→{b}" for a, b in pairwise(answer_tokens)]
    return {
        block: Snapshot(prompt_tokens if block == "encoder" else steps, record[block][0].cpu())
        for block in HOOK_POINTS
        if "attention" not in block
    }


def describe(snapshot: Snapshot) -> list[Position]:
    """The snapshot in short, position by position."""
    rows = zip(snapshot.positions, snapshot.values, strict=True)
    return [
        Position(position, int(row.count_nonzero()), list(_strongest(row)))
        for position, row in rows
    ]


def _strongest(row: Tensor) -> Sequence[Entry]:
    best = row.abs().topk(min(STRONGEST, len(row))).indices.tolist()
    return [Entry(i, float(row[i])) for i in best if row[i] != 0]
