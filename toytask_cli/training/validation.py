"""The measurements at an epoch's end: the loss and its terms, and how the tasks and neurons do."""

from collections.abc import Callable, Iterable
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
from toytask_cli.tokenizer import PAD

Batch = tuple[Tensor, Tensor, Tensor]  # prompts, answers and tasks, as in `dataset.Examples`

# A teacher: prompts, and answers without their last token → [n, length, vocabulary] probabilities
# to learn in place of the answers' tokens.
Distribution = Callable[[Tensor, Tensor], Tensor]

# What `validate` returns beside the terms of the loss, in this order.
EPOCH_METRICS = {
    "accuracy": Metric("exact match", "share of answers that match exactly, 0 to 1, by task"),
    "l0": Metric("l0", "neurons that fire at a position, on average"),
    "dead_neurons": Metric("dead neurons", "neurons that fire at no position of the split"),
}


@torch.no_grad()
def validate(
    model: Transformer,
    batches: Iterable[Batch],
    n_tasks: int,
    coefficients: Coefficients,
    teacher: Distribution | None = None,
) -> dict[str, Tensor]:
    """Measure a model over all positions of all batches that are not padding.

    Returns:
        `LOSS_TERMS`, [] each, and `EPOCH_METRICS`, [n_tasks] or []; all on the device, which is not
        waited for. The accuracy of a task without examples is not a number.
    """
    sums, correct, examples, firing = [], [], [], []
    for prompts, answers, tasks in batches:
        inputs = answers[:, :-1]
        output = model(prompts, inputs)
        probabilities = teacher(prompts, inputs) if teacher else None
        sums.append(loss_sums(output, answers, tasks, n_tasks, probabilities))
        of_task = one_hot(tasks, n_tasks)
        correct.append(of_task @ exact_match(output.logits, answers).float())
        examples.append(of_task.sum(dim=1))
        # `sign` and not `> 0`: booleans are summed as int64, four times as slowly.
        n_firing = output.acts.sign().sum(dim=-1, dtype=torch.float32)
        firing.append((n_firing * (answers[:, 1:] != PAD)).sum())
    total = reduce(add, sums)
    return loss_terms(total, coefficients) | {
        "accuracy": torch.stack(correct).sum(dim=0) / torch.stack(examples).sum(dim=0),
        "l0": torch.stack(firing).sum() / total.positions.sum(),
        "dead_neurons": (total.acts.sum(dim=0) == 0).sum(),
    }
