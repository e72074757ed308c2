"""Sums over answer positions, recorded through hooks, from which sparsity is worked out.

They are taken batch by batch, so memory does not grow with the data and the size of a batch
changes nothing. Padding is left out before anything is summed.
"""

from collections.abc import Sequence
from typing import NamedTuple

import torch.nn.functional as F
from torch import Tensor

from toytask_cli.analysis.prediction import BATCH, outputs
from toytask_cli.dataset import Examples
from toytask_cli.hooks import cache_activations
from toytask_cli.model import Transformer
from toytask_cli.tokenizer import PAD

# Bins of the histogram; the first and the last also hold what lies beyond. Zero is an edge.
BINS, REACH = 200, 10.0


class Totals(NamedTuple):
    """Sums over answer positions, float64 on the CPU; those of two batches add up."""

    positions: Tensor  # []
    examples: Tensor  # []
    ce: Tensor  # [] cross-entropy, nats
    ce_with_sae: Tensor  # [] the same with x̂ in place of x
    squared_error: Tensor  # [] ‖x − x̂‖²
    resid: Tensor  # [d_model] x
    resid_squared: Tensor  # [] ‖x‖²
    nonzero_pre: Tensor  # [] values p that are not zero
    acts: Tensor  # [d_sae] f
    fired: Tensor  # [d_sae] positions with f > 0
    histogram_pre: Tensor  # [BINS] values p

    def __add__(self, other: "Totals") -> "Totals":  # type: ignore[override]
        return Totals(*(a + b for a, b in zip(self, other, strict=True)))


def sum_up(
    model: Transformer, examples: Examples, n_tasks: int, batch_size: int = BATCH
) -> list[Totals]:
    """The totals of each task over the examples, which must hold some of every task."""
    found: list[list[Totals]] = [[] for _ in range(n_tasks)]
    with cache_activations(model) as record:
        for batch, out in outputs(model, examples, batch_size):
            targets = batch.answers[:, 1:]
            for task in batch.tasks.unique().tolist():
                real = (targets != PAD) & (batch.tasks == task)[:, None]
                found[task].append(_totals(model, record, out.logits, targets, real))
    return [added(totals) for totals in found]


def _totals(
    model: Transformer, record: dict[str, Tensor], logits: Tensor, targets: Tensor, real: Tensor
) -> Totals:
    """One batch's totals over the positions [n, length] that are marked as real."""
    resid, recon = record["decoder"][real].float(), record["recon"][real].float()
    pre_acts, acts = record["sae-pre"][real].float(), record["sae"][real].float()
    sums = Totals(
        positions=real.sum(),
        examples=real.any(dim=1).sum(),
        ce=_cross_entropy(logits[real], targets[real]),
        ce_with_sae=_cross_entropy(model.readout(record["recon"][real]), targets[real]),
        squared_error=(resid - recon).square().sum(),
        resid=resid.sum(dim=0),
        resid_squared=resid.square().sum(),
        nonzero_pre=pre_acts.count_nonzero(),
        acts=acts.sum(dim=0),
        fired=(acts > 0).sum(dim=0),
        histogram_pre=pre_acts.cpu().clamp(-REACH, REACH).histc(BINS, -REACH, REACH),
    )
    return Totals(*(value.detach().cpu().double() for value in sums))


def _cross_entropy(logits: Tensor, targets: Tensor) -> Tensor:
    return F.cross_entropy(logits.float(), targets, reduction="sum")


def added(totals: Sequence[Totals]) -> Totals:
    """The totals of all these together; at least one."""
    together = totals[0]
    for more in totals[1:]:
        together = together + more
    return together
