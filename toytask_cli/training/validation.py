"""The measurements at an epoch's end: the loss and its terms, and how the tasks and neurons do."""

from collections.abc import Iterable
from functools import reduce
from operator import add

import torch
from torch import Tensor

from toytask_cli.model import Transformer
from toytask_cli.objective import (
    Coefficients,
    Metric,
    exact_match,
    loss_sums,
    loss_terms,
    one_hot,
)

Batch = tuple[Tensor, Tensor, Tensor]  # prompts, answers and tasks, as in `dataset.Examples`

# What `validate` returns beside the terms of the loss, in this order.
EPOCH_METRICS = {
    "accuracy": Metric("exact match", "share of answers that match exactly, 0 to 1, by task"),
    "dead_neurons": Metric("dead neurons", "neurons that fire at no position of the split"),
}


@torch.no_grad()
def validate(
    model: Transformer, batches: Iterable[Batch], n_tasks: int, coefficients: Coefficients
) -> dict[str, Tensor]:
    """Measure a model over all positions of all batches that are not padding.

    Returns:
        `LOSS_TERMS`, [] each, and `EPOCH_METRICS`, [n_tasks] or []; all on the device, which is not
        waited for.
    """
    sums, correct, examples = [], [], []
    for prompts, answers, tasks in batches:
        output = model(prompts, answers[:, :-1])
        sums.append(loss_sums(output, answers, tasks, n_tasks))
        of_task = one_hot(tasks, n_tasks)
        correct.append(of_task @ exact_match(output.logits, answers).float())
        examples.append(of_task.sum(dim=1))
    total = reduce(add, sums)
    return loss_terms(total, coefficients, model.sae.sparsity_penalty) | {
        "accuracy": torch.stack(correct).sum(dim=0) / torch.stack(examples).sum(dim=0),
        "dead_neurons": (total.acts.sum(dim=0) == 0).sum(),
    }
