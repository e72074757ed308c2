"""What a model says: by teacher forcing for measuring, by greedy decoding as it would speak."""

from collections.abc import Iterator
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.dataset import Examples
from toytask_cli.model import Output, Transformer
from toytask_cli.objective import exact_match
from toytask_cli.tokenizer import BOS, EOS, PAD

BATCH = 1024


class Scores(NamedTuple):
    """How well each example's answer is predicted."""

    right: Tensor  # [n] bool, exact match
    loss: Tensor  # [n] mean cross-entropy over the answer's tokens, nats


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """[...] cross-entropy of [..., vocabulary] logits at each target, nats; 0 at pads."""
    losses = F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=PAD, reduction="none"
    )
    return losses.view_as(targets)


def answer_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """[n] each example's mean cross-entropy over its answer tokens, in nats.

    Args:
        logits: [n, length, vocabulary].
        answers: [n, length + 1] token ids, `B` first.
    """
    targets = answers[:, 1:]
    return token_loss(logits, targets).sum(dim=1) / (targets != PAD).sum(dim=1)


@torch.no_grad()
def outputs(
    model: Transformer, examples: Examples, batch_size: int = BATCH
) -> Iterator[tuple[Examples, Output]]:
    """Teacher-forced forward passes in float32, batch by batch, on the model's device.

    A batch's answers are cut to its longest, so that lengths differ from batch to batch.
    """
    for batch in _batches(model, examples, batch_size):
        yield batch, model(batch.prompts, batch.answers[:, :-1])


@torch.no_grad()
def residuals(model: Transformer, examples: Examples) -> Iterator[tuple[Examples, Tensor]]:
    """The same as far as x, all that many a question takes.

    Yields:
        Each batch and its x, [n, length, d_model], where the length is that of its longest answer.
    """
    for batch in _batches(model, examples, BATCH):
        yield batch, model.residual(batch.prompts, batch.answers[:, :-1])


def all_residuals(model: Transformer, examples: Examples) -> Tensor:
    """[n, length, d_model] x of all of them together, on the model's device, anything at pads."""
    shape = len(examples), examples.answers.shape[1] - 1, model.readout.in_features
    found, start = torch.zeros(shape, device=model.readout.weight.device), 0
    for batch, resid in residuals(model, examples):
        found[start : start + len(batch), : resid.shape[1]] = resid
        start += len(batch)
    return found


def _batches(model: Transformer, examples: Examples, size: int) -> Iterator[Examples]:
    """In order, on the model's device, answers no longer than the longest of the batch."""
    for batch in examples.batches(size):
        yield batch.cut().to(model.readout.weight.device)


@torch.no_grad()
def score(model: Transformer, examples: Examples) -> Scores:
    """Exact match and loss of every example, on the CPU."""
    # Made beforehand: small results between the batches' large tensors would fragment memory.
    scores = Scores(torch.empty(len(examples), dtype=torch.bool), torch.empty(len(examples)))
    start = 0
    for batch, resid in residuals(model, examples):
        rows, logits = slice(start, start + len(batch)), model.readout(resid)
        scores.right[rows] = exact_match(logits, batch.answers)
        scores.loss[rows] = answer_loss(logits, batch.answers)
        start = rows.stop
    return scores


def decode_greedily(model: Transformer, prompts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Writes answers from `B` on, each time the likeliest token, until `E`.

    Args:
        prompts: [n, prompt length] token ids.
        length: tokens to write at most.

    Returns:
        [n, length] the tokens, pads after `E`, and [n, length] their probabilities, anything at
        pads.
    """
    batches = prompts.to(model.readout.weight.device).split(BATCH)
    written = [_decode_batch(model, batch, length) for batch in batches]
    tokens, probabilities = (torch.cat(column).cpu() for column in zip(*written, strict=True))
    return tokens, probabilities


@torch.no_grad()
def _decode_batch(model: Transformer, prompts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """`decode_greedily` of one batch, on the model's device."""
    source = model.encode(prompts)
    answers = torch.full_like(prompts[:, :1], BOS)
    written = answers.new_full((len(prompts), length), PAD)
    probabilities = torch.zeros(len(prompts), length, device=prompts.device)
    over = torch.zeros_like(prompts[:, 0], dtype=torch.bool)
    for at in range(length):
        chances = model.readout(model.decode(answers, source)[:, -1]).softmax(dim=-1)
        probabilities[:, at], token = chances.max(dim=-1)
        written[:, at] = token.masked_fill(over, PAD)
        over = over | (token == EOS)
        if over.all():
            break
        answers = torch.cat([answers, token[:, None]], dim=1)
    return written, probabilities
