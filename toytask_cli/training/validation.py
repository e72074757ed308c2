"""The measurements at an epoch's end: the loss and its terms, and how the tasks and neurons do."""

from collections.abc import Callable, Iterable
from functools import partial, reduce
from operator import add
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.model import Transformer
from toytask_cli.objective import (
    Coefficients,
    LossSums,
    Metric,
    exact_match,
    loss_sums,
    loss_terms,
    one_hot,
)
from toytask_cli.training.workers import Workers

Batch = tuple[Tensor, Tensor, Tensor]  # prompts, answers and tasks, as in `dataset.Examples`

# A teacher: prompts, and answers without their last token → [n, length, vocabulary] probabilities
# to learn in place of the answers' tokens.
Distribution = Callable[[Tensor, Tensor], Tensor]

# What `validate` returns beside the terms of the loss, in this order.
EPOCH_METRICS = {
    "accuracy": Metric("exact match", "share of answers that match exactly, 0 to 1, by task"),
    "dead_neurons": Metric("dead neurons", "neurons that fire at no position of the split"),
}


class ValidationSums(NamedTuple):
    """Sums over one batch, on the device."""

    loss: LossSums
    correct: Tensor  # [task] answers that match exactly
    examples: Tensor  # [task]

    def __add__(self, other: "ValidationSums") -> "ValidationSums":  # type: ignore[override]
        return ValidationSums(*map(add, self, other))


def validate(
    model: Transformer,
    batches: Iterable[Batch],
    n_tasks: int,
    coefficients: Coefficients,
    workers: Workers,
    teacher: Distribution | None = None,
) -> dict[str, Tensor]:
    """Measure a model over all positions of all batches that are not padding.

    Returns:
        `LOSS_TERMS`, [] each, and `EPOCH_METRICS`, [n_tasks] or []; all on the device, which is not
        waited for. The accuracy of a task without examples is not a number.
    """
    total = reduce(add, workers.map(partial(_sums, model, n_tasks, teacher), batches))
    return loss_terms(total.loss, coefficients, model.sae.sparsity_penalty) | {
        "accuracy": total.correct / total.examples,
        "dead_neurons": (total.loss.acts.sum(dim=0) == 0).sum(),
    }


@torch.no_grad()
def _sums(
    model: Transformer, n_tasks: int, teacher: Distribution | None, batch: Batch
) -> ValidationSums:
    prompts, answers, tasks = batch
    inputs = answers[:, :-1]
    output = model(prompts, inputs)
    probabilities = teacher(prompts, inputs) if teacher else None
    of_task = one_hot(tasks, n_tasks)
    return ValidationSums(
        loss=loss_sums(output, answers, tasks, n_tasks, probabilities),
        correct=of_task @ exact_match(output.logits, answers).float(),
        examples=of_task.sum(dim=1),
    )
