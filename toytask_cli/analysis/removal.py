"""Removing sets of neurons, many sets in one pass over the data.

Removal acts on x alone, so a set S leaves the logits W_u x + b_u − Σ_{i∈S} f_i U_i, or the same
from x̂ with the error dropped. The transformer runs once for each batch, whatever the number of
sets, and a set is reached from the one before it by the neurons in which they differ.
"""

from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from toytask_cli.analysis.prediction import answer_loss, residuals
from toytask_cli.analysis.removal_costs import readout_effects
from toytask_cli.dataset import Examples, Grid
from toytask_cli.hooks import check_error
from toytask_cli.model import Transformer
from toytask_cli.objective import exact_match

# In place of a set: the model as it was trained, whatever becomes of the error.
AS_TRAINED = None


@torch.no_grad()
def logits_without(
    model: Transformer, examples: Examples, sets: Sequence[Tensor | None], error: str = "keep"
) -> Iterator[tuple[int, Examples, Tensor]]:
    """The logits with each set of neurons removed.

    Args:
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
    for batch, resid in residuals(model, examples):
        trained, by_example = model.readout(resid), model.sae.activate(resid, removed)
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
            weights = acts[changed] * (mask - gone)[changed, None]
            logits.view(-1, logits.shape[-1]).addmm_(weights.T, effects[changed], alpha=-1)
            gone = mask
            yield number, batch, logits


def right_without(
    model: Transformer,
    grid: Grid,
    pairs: Tensor,
    sets: Sequence[Tensor | None],
    error: str = "keep",
) -> Tensor:
    """[set, task, pair] whether the answer matches exactly with each set removed, on the CPU."""
    right = torch.empty(len(sets), len(grid.tasks), len(pairs), dtype=torch.bool)
    for task, examples in enumerate(grid.matched(pairs)):
        start = 0
        for number, batch, logits in logits_without(model, examples, sets, error):
            end = start + len(batch)
            right[number, task, start:end] = exact_match(logits, batch.answers).cpu()
            start = end if number == len(sets) - 1 else start
    return right


def loss_increases(model: Transformer, grid: Grid, pairs: Tensor, sets: Sequence[Tensor]) -> Tensor:
    """[set, task] mean over pairs of the loss with the whole set removed, less the loss without.

    The loss of an example is the mean cross-entropy over its answer's tokens, in nats; the
    reconstruction error is kept.
    """
    sums = torch.zeros(len(sets) + 1, len(grid.tasks), dtype=torch.float64)
    for task, examples in enumerate(grid.matched(pairs)):
        for number, batch, logits in logits_without(model, examples, [AS_TRAINED, *sets]):
            sums[number, task] += float(answer_loss(logits, batch.answers).sum())
    return (sums[1:] - sums[0]) / len(pairs)
