"""Removing sets of neurons, many sets in one pass over the data.

Removal acts on x alone, so a set S leaves the logits W_u x + b_u − Σ_{i∈S} f_i U_i, or the same
from x̂ with the error dropped. A set is reached from the one before it by the neurons in which they
differ.
"""

from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from toytask_cli.analysis.matched import Matched
from toytask_cli.analysis.prediction import answer_loss
from toytask_cli.analysis.removal_costs import readout_effects
from toytask_cli.dataset import Examples
from toytask_cli.hooks import check_error
from toytask_cli.model import Transformer
from toytask_cli.objective import exact_match

# In place of a set: the model as it was trained, whatever becomes of the error.
AS_TRAINED = None


@torch.no_grad()
def logits_without(
    model: Transformer,
    batches: Iterable[tuple[Examples, Tensor]],
    sets: Sequence[Tensor | None],
    error: str = "keep",
) -> Iterator[tuple[int, Examples, Tensor]]:
    """The logits with each set of neurons removed.

    Args:
        batches: examples and their x [n, length, d_model], on the model's device.
        sets: [k] neuron indices each, or `AS_TRAINED`.
        error: a key of `hooks.ERRORS`.

    Yields:
        For every batch, and every set in turn: the set's number, the batch and its logits
        [n, length, vocabulary], which are overwritten when the next are asked for.

    Raises:
        UsageError: an unknown `error`.
    """
    check_error(error)
    device = model.readout.weight.device
    some = [torch.empty(0, dtype=torch.int64), *(s.cpu() for s in sets if s is not AS_TRAINED)]
    removed = torch.cat(some).unique().to(device)
    masks = [None if s is AS_TRAINED else torch.isin(removed, s.to(device)).float() for s in sets]
    effects = readout_effects(model)[removed]
    for batch, resid in batches:
        trained, by_example = model.readout(resid), model.sae.encode(resid)[..., removed]
        acts = by_example.flatten(0, 1).T.contiguous()  # a neuron's activations lie side by side
        start = trained if error == "keep" else model.readout(model.sae(resid)[2])
        logits, gone = start.clone(), torch.zeros_like(effects[:, 0])
        for number, mask in enumerate(masks):
            if mask is None:
                yield number, batch, trained
                continue
            if mask.sum() <= (mask - gone).count_nonzero():
                logits, gone = start.clone(), torch.zeros_like(gone)
            changed = (mask - gone).nonzero().squeeze(-1)
            signed = effects[changed] * (mask - gone)[changed, None]
            logits.view(-1, logits.shape[-1]).addmm_(acts[changed].T, signed, alpha=-1)
            gone = mask
            yield number, batch, logits


def right_without(matched: Matched, sets: Sequence[Tensor | None], error: str = "keep") -> Tensor:
    """[set, task, pair] whether the answer matches exactly with each set removed, on the CPU."""
    n_tasks = len(matched.grid.tasks)
    right = torch.empty(len(sets), n_tasks, len(matched.pairs), dtype=torch.bool)
    for task in range(n_tasks):
        start, batches = 0, matched.batches(task)
        for number, batch, logits in logits_without(matched.model, batches, sets, error):
            end = start + len(batch)
            right[number, task, start:end] = exact_match(logits, batch.answers).cpu()
            start = end if number == len(sets) - 1 else start
    return right


def loss_increases(matched: Matched, rows: Tensor, sets: Sequence[Tensor]) -> Tensor:
    """[set, task] mean over these pairs of the loss with the whole set removed, less that without.

    The loss of an example is the mean cross-entropy over its answer's tokens, in nats; the
    reconstruction error is kept.
    """
    n_tasks, both = len(matched.grid.tasks), [AS_TRAINED, *sets]
    sums = torch.zeros(len(both), n_tasks, dtype=torch.float64)
    for task in range(n_tasks):
        batches = matched.batches(task, rows)
        for number, batch, logits in logits_without(matched.model, batches, both):
            sums[number, task] += float(answer_loss(logits, batch.answers).sum())
    return (sums[1:] - sums[0]) / len(rows)
