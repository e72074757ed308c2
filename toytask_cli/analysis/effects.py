"""The effect of ablating neurons: each neuron alone, in closed form, or whole sets together.

Removing neuron i subtracts f_i d_i from x. The readout is linear, so the logits change by exactly
−f_i U_i, with U_i = W_u d_i (`logit_weights`). With ℓ the log-probabilities of the model as it is,
the cross-entropy of the target y increases by

    log Σ_v exp(ℓ_v − f_i U_iv) + f_i U_iy

so that one forward pass is enough for all neurons, and a neuron that does not fire has no effect.
Setting neuron i to a mean m_i changes the logits by (m_i − f_i) U_i instead. Where it does not
fire this vector is the same at every position, and the sum is one matrix product over all of
them, Σ_v p_v exp(m_i U_iv). Removing a set S changes the logits by −Σ_{i∈S} f_i U_i.
"""

from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.analysis.evaluate import answer_loss, token_loss
from toytask_cli.analysis.generate import AS_TRAINED
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.dataset import Examples
from toytask_cli.hooks import ablate_neurons, check_error
from toytask_cli.model import Transformer
from toytask_cli.objective import exact_match
from toytask_cli.tokenizer import PAD

# Pairs of a position and a firing neuron to work on at once: a few tensors of this many rows, one
# column for each token of the vocabulary. So few stay in a processor's cache.
ENTRIES = 3072


def logit_weights(model: Transformer) -> Tensor:
    """Return [d_sae, vocabulary] U, what one unit of each neuron adds to the logits."""
    return model.sae.directions @ model.readout.weight.T


class Effects(NamedTuple):
    """Increase of the cross-entropy when one neuron alone is ablated, nats; 0 at pads."""

    zero: Tensor  # [n, length, neuron] its activation set to zero: removed
    mean: Tensor  # [n, length, neuron] its activation set to a mean


@torch.no_grad()
def effects_closed_form(
    model: Transformer, examples: Examples, resid: Tensor, neurons: Tensor, means: Tensor
) -> Effects:
    """Return the effects of ablating each neuron, from x.

    Beside the result and a few numbers for each neuron that fires, memory is bounded by `ENTRIES`
    times the vocabulary.

    Args:
        examples: one batch, on the model's device.
        resid: [n, length, d_model] x at its answers.
        neurons: [k] indices.
        means: [k] the activations that mean ablation sets them to.
    """
    log_probs = model.readout(resid).log_softmax(dim=-1).flatten(0, 1)
    acts = model.sae.encode(resid).flatten(0, 1)[:, neurons]
    targets, weights = examples.answers[:, 1:].flatten(), logit_weights(model)[neurons]
    firing = acts.nonzero()
    at = firing.unbind(dim=1)
    results = []
    for values in (torch.zeros_like(means), means):
        effects = _effects_where_silent(log_probs, targets, weights, values)
        changes = values[at[1]] - acts[at]
        effects[at] = _effects_where_firing(log_probs, targets, weights, firing, changes)
        results.append(effects.unflatten(0, resid.shape[:2]))
    return Effects(*results)


def _effects_where_firing(
    log_probs: Tensor, targets: Tensor, weights: Tensor, firing: Tensor, changes: Tensor
) -> Tensor:
    """Return [entry] effects of changing activations by [entry].

    Args:
        log_probs: [position, vocabulary].
        targets: [position] token ids.
        weights: [neuron, vocabulary].
        firing: [entry, 2] position and neuron.
    """
    # Built for each ablation: kept from zero to mean, these tensors fragment memory (a quarter
    # more at 16,384 neurons) and save one hundredth of the time.
    position = firing[:, 0]
    table = torch.cat([log_probs, weights])
    rows = firing + firing.new_tensor([0, len(log_probs)])
    factors = torch.stack([torch.ones_like(changes), changes], dim=1)
    chunks = (tensor.split(ENTRIES) for tensor in (rows, factors, targets[position]))
    losses = [
        # A row of log-probabilities and a multiple of a neuron's weights, added in one pass.
        token_loss(F.embedding_bag(row, table, per_sample_weights=factor, mode="sum"), target)
        for row, factor, target in zip(*chunks, strict=True)
    ]
    return torch.cat(losses) - token_loss(log_probs, targets)[position]


def _effects_where_silent(
    log_probs: Tensor, targets: Tensor, weights: Tensor, values: Tensor
) -> Tensor:
    """Return [position, neuron] effects of setting silent neurons to values [neuron]; 0 at pads."""
    effects = log_probs.new_zeros(len(log_probs), len(values))
    set_on = values.nonzero().squeeze(-1)
    if len(set_on):
        changes = weights[set_on] * values[set_on].unsqueeze(-1)
        top = changes.amax(dim=-1)  # taken out of the sum, which would overflow
        total = log_probs.exp() @ (changes - top.unsqueeze(-1)).exp().T
        effects[:, set_on] = top + total.log() - changes.T[targets]
        effects[targets == PAD] = 0
    return effects


@torch.no_grad()
def effects_with_hooks(
    model: Transformer, examples: Examples, resid: Tensor, neurons: Tensor, means: Tensor
) -> Effects:
    """Return the same by a forward pass for each neuron, which a hook ablates: the reference."""

    def losses() -> Tensor:
        logits = model(examples.prompts, examples.answers[:, :-1]).logits
        return token_loss(logits, examples.answers[:, 1:])

    plain, results = losses(), []
    for values in (torch.zeros_like(means), means):
        replacement = means.new_zeros(model.sae.d_sae).index_copy(0, neurons, values)
        effects = plain.new_zeros(*plain.shape, len(neurons))
        for i, neuron in enumerate(neurons.tolist()):
            with ablate_neurons(model, [neuron], replacement=replacement):
                effects[..., i] = losses() - plain
        results.append(effects)
    return Effects(*results)


Method = Callable[[Transformer, Examples, Tensor, Tensor, Tensor], Effects]
METHODS: dict[str, Method] = {"closed": effects_closed_form, "hooks": effects_with_hooks}


@torch.no_grad()
def logits_without(
    model: Transformer,
    batches: Iterable[tuple[Examples, Tensor]],
    sets: Sequence[Tensor | None],
    error: str = "keep",
) -> Iterator[tuple[int, Examples, Tensor]]:
    """Yield the logits with each set of neurons removed.

    The logits of a set are those of the one before, changed by the neurons in which they differ.

    Args:
        batches: examples and their x [n, length, d_model], on the model's device.
        sets: [k] neuron indices each, or `AS_TRAINED`.
        error: a key of `hooks.ERRORS`.

    Yields:
        For every batch and every set in turn: the set's number, the batch, and its logits
        [n, length, vocabulary], which are overwritten when the next are asked for.

    Raises:
        UsageError: an unknown `error`.
    """
    check_error(error)
    device = model.readout.weight.device
    some = [torch.empty(0, dtype=torch.int64), *(s.cpu() for s in sets if s is not AS_TRAINED)]
    neurons = torch.cat(some).unique().to(device)
    masks = [None if s is AS_TRAINED else torch.isin(neurons, s.to(device)).float() for s in sets]
    weights = logit_weights(model)[neurons]
    for batch, resid in batches:
        all_acts, trained = model.sae.encode(resid), model.readout(resid)
        start = trained if error == "keep" else model.readout(model.sae.decode(all_acts))
        # One neuron's activations side by side, since sets differ in whole neurons.
        acts = all_acts.flatten(0, 1)[:, neurons].T.contiguous()
        logits, removed = start.clone(), torch.zeros_like(weights[:, 0])
        for number, mask in enumerate(masks):
            if mask is None:
                yield number, batch, trained
                continue
            if mask.sum() <= (mask - removed).count_nonzero():
                logits, removed = start.clone(), torch.zeros_like(removed)
            change = mask - removed
            changed = change.nonzero().squeeze(-1)
            signed = weights[changed] * change[changed, None]
            logits.view(-1, logits.shape[-1]).addmm_(acts[changed].T, signed, alpha=-1)
            removed = mask
            yield number, batch, logits


def right_without(
    matched: MatchedPairs, sets: Sequence[Tensor | None], error: str = "keep"
) -> Tensor:
    """Return [set, task, pair] whether the answer is right with each set removed, on the CPU."""
    n_tasks = len(matched.grid.tasks)
    right = torch.empty(len(sets), n_tasks, len(matched.pairs), dtype=torch.bool)
    for task in range(n_tasks):
        start, batches = 0, matched.batches(task)
        for number, batch, logits in logits_without(matched.model, batches, sets, error):
            end = start + len(batch)
            right[number, task, start:end] = exact_match(logits, batch.answers).cpu()
            start = end if number == len(sets) - 1 else start
    return right


def loss_increases(matched: MatchedPairs, pairs: Tensor, sets: Sequence[Tensor]) -> Tensor:
    """Return [set, task] the mean increase of an example's loss when the set is removed, nats.

    Args:
        pairs: [n] those of the matched pairs to take the mean over.
    """
    rows = torch.isin(matched.pairs, pairs).nonzero()[:, 0]
    n_tasks, with_trained = len(matched.grid.tasks), [AS_TRAINED, *sets]
    sums = torch.zeros(len(with_trained), n_tasks, dtype=torch.float64)
    for task in range(n_tasks):
        batches = matched.batches(task, rows)
        for number, batch, logits in logits_without(matched.model, batches, with_trained):
            sums[number, task] += float(answer_loss(logits, batch.answers).sum())
    return (sums[1:] - sums[0]) / len(rows)


@dataclass(frozen=True)
class JointEffect:
    """Increase of the loss when several neurons are removed together; task → nats."""

    neurons: list[int]
    together: dict[str, float]
    sum_of_singles: dict[str, float]


def joint_effects(
    matched: MatchedPairs, pairs: Tensor, sets: Sequence[Tensor], importance: Tensor
) -> list[JointEffect]:
    """Return each set's effect on these pairs beside the sum of its importances [task, d_sae]."""
    names = matched.grid.task_names
    return [
        JointEffect(
            neurons=neurons.tolist(),
            together=dict(zip(names, together.tolist(), strict=True)),
            sum_of_singles=dict(
                zip(names, importance[:, neurons].sum(dim=1).tolist(), strict=True)
            ),
        )
        for neurons, together in zip(sets, loss_increases(matched, pairs, sets), strict=True)
    ]
