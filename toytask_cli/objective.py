"""The loss and its terms, as sums that add up over batches.

    loss = CE(logits, answer) + α·MSE(x̂, x) + λ·L1 + β·overlap

All means run over answer positions that are not padding. With m_ti the mean activation of neuron
i over task t's positions, overlap = Σ_i (Σ_t m_ti − max_t m_ti): what a neuron fires for tasks
other than its main one. L1 = mean over positions of Σ_i f_i.
"""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.model import Output
from toytask_cli.tokenizer import PAD


class Sums(NamedTuple):
    """Sums over answer positions; those of two batches add up."""

    ce: Tensor  # [] cross-entropy, nats
    mse: Tensor  # [] squared reconstruction error, averaged over dimensions
    acts: Tensor  # [task, d_sae] activations
    positions: Tensor  # [task] number of positions

    def __add__(self, other: "Sums") -> "Sums":  # type: ignore[override]
        return Sums(*(a + b for a, b in zip(self, other, strict=True)))


class Terms(NamedTuple):
    """The loss and its four terms, unweighted."""

    loss: Tensor
    ce: Tensor
    mse: Tensor
    l1: Tensor
    overlap: Tensor


class Coefficients(NamedTuple):
    """What the terms of the loss are multiplied by; that of CE is 1."""

    alpha: float | Tensor
    lambda_: float | Tensor
    beta: float | Tensor


def one_hot(tasks: Tensor, n_tasks: int) -> Tensor:
    """[n] task indices as [n_tasks, n] zeros and ones; never waits for the device."""
    return (torch.arange(n_tasks, device=tasks.device)[:, None] == tasks).float()


def measure(
    output: Output, answers: Tensor, tasks: Tensor, n_tasks: int, kept: Tensor | None = None
) -> Sums:
    """What the loss needs of one batch.

    Args:
        output: a forward pass over the answers without their last token, [n, length, ...].
        answers: [n, length + 1] token ids.
        tasks: [n] index of each example's task.
        n_tasks: number of tasks.
        kept: the positions that the output is of, [kept, ...], if not all.
    """
    targets = answers[:, 1:]
    targets, tasks = targets.flatten(), tasks.unsqueeze(1).expand_as(targets).flatten()
    if kept is not None:
        targets, tasks = targets[kept], tasks[kept]
    real = (targets != PAD).float()
    of_task = one_hot(tasks, n_tasks) * real
    acts = output.acts.flatten(0, -2)
    errors = (output.recon - output.resid).float().square().mean(dim=-1).flatten()
    return Sums(
        ce=F.cross_entropy(
            output.logits.float().flatten(0, -2), targets, ignore_index=PAD, reduction="sum"
        ),
        mse=(errors * real).sum(),
        # One product sums the widest tensor by task, leaving pads out.
        acts=(of_task.to(acts.dtype) @ acts).float(),
        positions=of_task.sum(dim=-1),
    )


def combine(sums: Sums, by: Coefficients) -> Terms:
    """The loss over all positions that the sums were taken over, with these coefficients."""
    n = sums.positions.sum()
    ce, mse, l1 = sums.ce / n, sums.mse / n, sums.acts.sum() / n
    means = sums.acts / sums.positions.clamp(min=1).unsqueeze(-1)
    overlap = (means.sum(dim=0) - means.amax(dim=0)).sum()
    loss = ce + by.alpha * mse + by.lambda_ * l1 + by.beta * overlap
    return Terms(loss, ce, mse, l1, overlap)


def exact_match(logits: Tensor, answers: Tensor) -> Tensor:
    """[n] whether every token of the answer is the likeliest one, given the true ones before it.

    That is the same as writing the answer greedily from `B` on: the first wrong token fails both.
    """
    targets = answers[:, 1:]
    likeliest = logits.max(dim=-1).indices  # on a CPU in half the time that argmax takes
    return ((likeliest == targets) | (targets == PAD)).all(dim=-1)
