"""Answers to single prompts, by the model as trained and with neurons removed, side by side."""

from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.error_types import answer_texts, error_type
from toytask_cli.analysis.prediction import BATCH, decode_greedily
from toytask_cli.analysis.removal import AS_TRAINED
from toytask_cli.dataset import Examples, Grid
from toytask_cli.hooks import ablate_neurons, check_error, checked_neurons
from toytask_cli.model import Transformer
from toytask_cli.prompts import Prompt
from toytask_cli.tasks import Task
from toytask_cli.tokenizer import PAD


class Variant(NamedTuple):
    """The model as trained, or with some neurons removed."""

    neurons: Tensor | None = AS_TRAINED  # [k] int64, ascending
    error: str = "keep"  # a key of `hooks.ERRORS`

    @classmethod
    def from_report(cls, report: Mapping[str, Any], d_sae: int) -> "Variant":
        """What an ablation's report removes.

        Raises:
            UsageError: a neuron that an SAE of this width does not have, or an unknown `error`.
        """
        check_error(report["error"])
        return cls(checked_neurons(report["neurons"], d_sae), report["error"])

    def applied_to(self, model: Transformer) -> AbstractContextManager[None]:
        """While it is open, the model is this variant."""
        if self.neurons is None:
            return nullcontext()
        return ablate_neurons(model, self.neurons, self.error)

    def removed(self) -> set[int]:
        """The neurons that are off."""
        return set() if self.neurons is None else set(self.neurons.tolist())


@dataclass(frozen=True)
class Answer:
    """What one variant writes to one prompt, greedily."""

    text: str  # without `B` and `E`
    tokens: list[str]  # as written, the final `E` among them
    probabilities: list[float]  # of each token, given those before it
    correct: bool  # exact match, token by token
    closest: str | None  # in words; None where it is correct


def answer_prompts(
    model: Transformer, grid: Grid, prompts: Sequence[Prompt], variants: Mapping[str, Variant]
) -> list[dict[str, Answer]]:
    """For each prompt, the answer of every variant, in batches."""
    found: list[dict[str, Answer]] = [{} for _ in prompts]
    for start in range(0, len(prompts), BATCH):
        batch = prompts[start : start + BATCH]
        for name, variant in variants.items():
            answers = _answers(model, grid, batch, variant)
            for place, answer in enumerate(answers, start):
                found[place][name] = answer
    return found


def look_up(grid: Grid, prompts: Sequence[Prompt]) -> Examples:
    """The prompts' rows of the grid."""
    places = torch.tensor([grid.index_of(*prompt) for prompt in prompts], dtype=torch.int64)
    return grid.examples(*places.view(-1, 2).T)


def write_answers(
    model: Transformer, grid: Grid, examples: Examples, variant: Variant
) -> tuple[Tensor, Tensor]:
    """[n, length] the tokens that the variant writes, greedily, and their probabilities."""
    with variant.applied_to(model):
        return decode_greedily(model, examples.prompts, grid.answers.shape[-1] - 1)


def _answers(
    model: Transformer, grid: Grid, prompts: Sequence[Prompt], variant: Variant
) -> list[Answer]:
    examples = look_up(grid, prompts)
    written, probabilities = write_answers(model, grid, examples, variant)
    correct = (written == examples.answers[:, 1:]).all(dim=1).tolist()
    found = []
    for i, text in enumerate(answer_texts(grid, written)):
        real = written[i] != PAD
        tokens = [grid.tokenizer.tokens[j] for j in written[i][real].tolist()]
        closest = None if correct[i] else describe_error(text, tokens, prompts[i], grid.tasks)
        found.append(Answer(text, tokens, probabilities[i][real].tolist(), correct[i], closest))
    return found


def describe_error(said: str, tokens: Sequence[str], prompt: Prompt, tasks: Sequence[Task]) -> str:
    """What a wrong answer is closest to, in words.

    Args:
        said: the answer without `B` and `E`.
        tokens: what it was written with.
        prompt: what was asked.
        tasks: all tasks, some of which may give this answer.
    """
    truth = prompt.plain_target
    if said == truth:
        return "right, in other tokens" if "E" in tokens else "right, but it does not end"
    others = {t.name: prompt._replace(task=t).plain_target for t in tasks if t != prompt.task}
    kind = error_type(said, truth, list(others.values()))
    if kind == "other_task":
        names = [name for name, answer in others.items() if answer == said]
        return f"the answer of {' and '.join(names)}"
    return _in_words(kind, said, truth)


def _in_words(kind: str, said: str, truth: str) -> str:
    if kind == "nothing":
        return "no answer"
    if kind == "one_digit":
        return "one digit wrong"
    if kind == "wrong_length":
        return "too many digits" if len(said) > len(truth) else "too few digits"
    if not (said.isascii() and said.isdigit()):
        return "no number"
    difference = int(said) - int(truth)
    size = "one" if kind == "off_by_one" else str(abs(difference))
    return f"{size} too {'large' if difference > 0 else 'small'}"
