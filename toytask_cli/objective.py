"""The loss and its terms.

    loss = CE(logits, answer) + α·MSE(x̂, x) + sparsity penalty + β·overlap

All means run over answer positions that are not padding. The sparsity penalty is that of the kind
of SAE, a function of L1, the mean of Σ_i f_i, and of L0, the mean number of neurons that fire; for
ReLU it is λ·L1. With m_ti the mean activation of neuron i over task t's positions, overlap =
Σ_i (Σ_t m_ti − max_t m_ti): the activity of neurons on tasks other than their main one. It sees
which task an example is of. Its gradient holds each neuron's total activity fixed, so that it moves
activity to the neuron's main task. The plain gradient silences most neurons instead: with six
tasks, too few were left to reconstruct x from.
"""

from collections.abc import Callable
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.model import Output
from toytask_cli.tokenizer import PAD


class Metric(NamedTuple):
    """A quantity as logs, tables, figures and reports show it."""

    label: str
    definition: str


# What `loss_terms` returns, in this order.
LOSS_TERMS = {
    "loss": Metric(
        "loss", "the whole objective with the coefficients of the phase, lower is better"
    ),
    "ce": Metric(
        "cross-entropy (nats)",
        "mean cross-entropy over answer positions that are not padding, nats, lower is better",
    ),
    "mse": Metric(
        "SAE reconstruction error",
        "mean squared error of the SAE's reconstruction, lower is better",
    ),
    "l1": Metric("L1 of activations", "mean over positions of the summed activations"),
    "l0": Metric("firing neurons (l0)", "neurons that fire at a position, on average"),
    "overlap": Metric(
        "overlap between tasks",
        "activity of neurons on tasks other than their main one, 0 is complete separation",
    ),
}

SMALLEST_TOTAL = 1e-12  # of a neuron's activity; below it, a share of it is 0


class Coefficients(NamedTuple):
    """The factors that change from phase to phase, as numbers or tensors []."""

    alpha: float | Tensor
    beta: float | Tensor


class LossSums(NamedTuple):
    """Sums over answer positions, from which the loss follows; the sums of two batches add up."""

    ce: Tensor  # [] cross-entropy, nats
    mse: Tensor  # [] squared reconstruction error, averaged over dimensions
    l0: Tensor  # [] number of neurons that fire
    acts: Tensor  # [task, d_sae] activations
    positions: Tensor  # [task] number of positions

    def __add__(self, other: "LossSums") -> "LossSums":  # type: ignore[override]
        return LossSums(*(a + b for a, b in zip(self, other, strict=True)))


def one_hot(tasks: Tensor, n_tasks: int) -> Tensor:
    """Return [n_tasks, n] zeros and ones for [n] task indices, without waiting for the device."""
    return (torch.arange(n_tasks, device=tasks.device)[:, None] == tasks).float()


def loss_sums(
    output: Output,
    answers: Tensor,
    tasks: Tensor,
    n_tasks: int,
    probabilities: Tensor | None = None,
) -> LossSums:
    """Sum what the loss needs over one batch.

    Args:
        output: of a forward pass over the answers without their last token, [n, length, …].
        answers: [n, length + 1] token ids.
        tasks: [n] index of each example's task.
        n_tasks: number of tasks.
        probabilities: [n, length, vocabulary] of a teacher, to learn in place of the answers'
            tokens; the answers still say which positions count.
    """
    targets = answers[:, 1:]
    real = (targets != PAD).float()
    of_task = (one_hot(tasks, n_tasks).unsqueeze(-1) * real).flatten(1)  # [task, n · length]
    acts = output.acts.flatten(0, 1)
    errors = (output.recon - output.resid).float().square().mean(dim=-1)
    logits = output.logits.float().flatten(0, 1)
    if probabilities is None:
        ce = F.cross_entropy(logits, targets.flatten(), ignore_index=PAD, reduction="sum")
    else:
        ce = F.cross_entropy(logits, probabilities.flatten(0, 1), reduction="none") @ real.flatten()
    return LossSums(
        ce=ce,
        mse=(errors * real).sum(),
        l0=(output.l0 * real).sum(),
        acts=(of_task.to(acts.dtype) @ acts).float(),
        positions=of_task.sum(dim=1),
    )


def loss_terms(
    sums: LossSums, coefficients: Coefficients, sparsity_penalty: Callable[[Tensor, Tensor], Tensor]
) -> dict[str, Tensor]:
    """Return the loss and its unweighted terms, [] each, by their names in `LOSS_TERMS`.

    Args:
        sums: over all positions.
        coefficients: of the present phase.
        sparsity_penalty: of the SAE.
    """
    n = sums.positions.sum()
    means = sums.acts / sums.positions.clamp(min=1).unsqueeze(-1)
    ce, mse, l1, l0 = sums.ce / n, sums.mse / n, sums.acts.sum() / n, sums.l0 / n
    overlap = _overlap(means)
    sparsity = sparsity_penalty(l1, l0)
    loss = ce + coefficients.alpha * mse + sparsity + coefficients.beta * overlap
    return {"loss": loss, "ce": ce, "mse": mse, "l1": l1, "l0": l0, "overlap": overlap}


def _overlap(means: Tensor) -> Tensor:
    """Return Σ_i (Σ_t m_ti − max_t m_ti), [], of mean activations [task, d_sae].

    Its gradient is that of Σ_i s_i c_i, with s_i the share of neuron i's activity on tasks other
    than its main one, and c_i its total activity, held constant.
    """
    totals = means.sum(dim=0)
    shares = (totals - means.amax(dim=0)) / totals.clamp(min=SMALLEST_TOTAL)
    return (shares * totals.detach()).sum()


def exact_match(logits: Tensor, answers: Tensor) -> Tensor:
    """Return [n] whether every answer token is the likeliest one, given the true ones before it.

    Greedy decoding from `B` on is right for the same examples: the first wrong token fails both.
    """
    targets = answers[:, 1:]
    likeliest = logits.max(dim=-1).indices  # on a CPU in half the time of argmax
    return ((likeliest == targets) | (targets == PAD)).all(dim=-1)
