"""Run the model: forward passes over the true answers, and answers written greedily."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.error_types import describe_error
from toytask_cli.dataset import Examples, Grid
from toytask_cli.hooks import ablate_neurons, check_error, checked_neurons
from toytask_cli.model import Output, Transformer
from toytask_cli.prompts import Prompt
from toytask_cli.tokenizer import BOS, EOS, PAD

BATCH = 1024

# Stands for the model as trained where a set of neurons to remove is expected.
AS_TRAINED = None


@torch.no_grad()
def teacher_forced(
    model: Transformer, examples: Examples, batch_size: int = BATCH
) -> Iterator[tuple[Examples, Output]]:
    """Yield batches on the model's device and their forward passes over the true answers.

    Each batch is cut to its longest answer, so lengths differ between batches.
    """
    for batch in _batches(model, examples, batch_size):
        yield batch, model(batch.prompts, batch.answers[:, :-1])


@torch.no_grad()
def residuals(model: Transformer, examples: Examples) -> Iterator[tuple[Examples, Tensor]]:
    """Yield batches as `teacher_forced` does, each with its x [n, length, d_model] alone."""
    for batch in _batches(model, examples, BATCH):
        yield batch, model.residual(batch.prompts, batch.answers[:, :-1])


def all_residuals(model: Transformer, examples: Examples) -> Tensor:
    """Return [n, length, d_model] x of all examples, on the model's device; arbitrary at pads."""
    shape = len(examples), examples.answers.shape[1] - 1, model.readout.in_features
    all_resid, start = torch.zeros(shape, device=model.readout.weight.device), 0
    for batch, resid in residuals(model, examples):
        all_resid[start : start + len(batch), : resid.shape[1]] = resid
        start += len(batch)
    return all_resid


def _batches(model: Transformer, examples: Examples, size: int) -> Iterator[Examples]:
    for batch in examples.batches(size):
        yield batch.cut().to(model.readout.weight.device)


def decode_greedily(model: Transformer, prompts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    """Write answers from `B` on, each time the likeliest token, until `E`.

    Args:
        prompts: [n, prompt length] token ids.
        length: number of tokens to write at most.

    Returns:
        [n, length] the tokens, pads after `E`, and [n, length] their probabilities, arbitrary at
        pads; both on the CPU.
    """
    batches = prompts.to(model.readout.weight.device).split(BATCH)
    decoded = [_decode_batch(model, batch, length) for batch in batches]
    tokens, probabilities = (torch.cat(column).cpu() for column in zip(*decoded, strict=True))
    return tokens, probabilities


@torch.no_grad()
def _decode_batch(model: Transformer, prompts: Tensor, length: int) -> tuple[Tensor, Tensor]:
    source = model.encode(prompts)
    answers = torch.full_like(prompts[:, :1], BOS)
    tokens = answers.new_full((len(prompts), length), PAD)
    probabilities = torch.zeros(len(prompts), length, device=prompts.device)
    ended = torch.zeros_like(prompts[:, 0], dtype=torch.bool)
    for position in range(length):
        distribution = model.readout(model.decode(answers, source)[:, -1]).softmax(dim=-1)
        probabilities[:, position], token = distribution.max(dim=-1)
        tokens[:, position] = token.masked_fill(ended, PAD)
        ended = ended | (token == EOS)
        if ended.all():
            break
        answers = torch.cat([answers, token[:, None]], dim=1)
    return tokens, probabilities


def answer_texts(grid: Grid, tokens: Tensor) -> list[str]:
    """Return the text of each row of [n, length] token ids, up to its `E` and without `B`."""
    texts = (grid.tokenizer.decode(row) for row in tokens.tolist())
    return [text.removeprefix("B").split("E")[0] for text in texts]


class Variant(NamedTuple):
    """The model as trained, or with some neurons ablated; or another model in its place."""

    neurons: Tensor | None = AS_TRAINED  # [k] int64, ascending
    error: str = "keep"  # a key of `hooks.ERRORS`
    other_model: Transformer | None = None  # of the same vocabulary

    @classmethod
    def from_report(cls, report: Mapping[str, Any], d_sae: int) -> "Variant":
        """Return the variant that an ablation's report describes.

        Raises:
            UsageError: a neuron that an SAE of this width does not have, or an unknown `error`.
        """
        check_error(report["error"])
        return cls(checked_neurons(report["neurons"], d_sae), report["error"])

    def applied_to(self, model: Transformer) -> AbstractContextManager[None]:
        """Return a context in which the model is this variant."""
        if self.neurons is AS_TRAINED:
            return nullcontext()
        return ablate_neurons(model, self.neurons, self.error)

    def removed(self) -> set[int]:
        """Return the ablated neurons."""
        return set() if self.neurons is AS_TRAINED else set(self.neurons.tolist())

    def is_same_as(self, other: "Variant") -> bool:
        """Return whether the other variant ablates the same neurons in the same way."""
        return (self.removed(), self.error) == (other.removed(), other.error)

    def decode(self, model: Transformer, grid: Grid, examples: Examples) -> tuple[Tensor, Tensor]:
        """Return the variant's answers as `decode_greedily` does."""
        model = self.other_model or model
        with self.applied_to(model):
            return decode_greedily(model, examples.prompts, grid.answers.shape[-1] - 1)


@dataclass(frozen=True)
class Answer:
    """One variant's answer to one prompt, written greedily."""

    text: str  # without `B` and `E`
    tokens: list[str]  # with the final `E`
    probabilities: list[float]  # of each token, given those before it
    correct: bool  # exact match, token by token
    closest: str | None  # in words, how it is wrong; None where it is correct


def generate(
    model: Transformer, grid: Grid, prompts: Sequence[Prompt], variants: Mapping[str, Variant]
) -> list[dict[str, Answer]]:
    """Return, for each prompt, the answer of each variant by name."""
    if not prompts:
        return []
    columns = [_answers(model, grid, prompts, variant) for variant in variants.values()]
    return [dict(zip(variants, row, strict=True)) for row in zip(*columns, strict=True)]


def examples_for(grid: Grid, prompts: Sequence[Prompt]) -> Examples:
    """Return the prompts' rows of the grid."""
    indices = torch.tensor([grid.index_of(*prompt) for prompt in prompts], dtype=torch.int64)
    return grid.examples(*indices.view(-1, 2).unbind(dim=1))


def _answers(
    model: Transformer, grid: Grid, prompts: Sequence[Prompt], variant: Variant
) -> list[Answer]:
    examples = examples_for(grid, prompts)
    ids, probabilities = variant.decode(model, grid, examples)
    correct = (ids == examples.answers[:, 1:]).all(dim=1).tolist()
    answers = []
    for i, text in enumerate(answer_texts(grid, ids)):
        real = ids[i] != PAD
        tokens = [grid.tokenizer.tokens[j] for j in ids[i][real].tolist()]
        closest = None if correct[i] else describe_error(text, tokens, prompts[i], grid.tasks)
        answers.append(Answer(text, tokens, probabilities[i][real].tolist(), correct[i], closest))
    return answers
