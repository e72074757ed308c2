"""Accuracy and loss on one split: by task, in slices, and the types of the wrong answers."""

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.analysis.error_types import ERROR_TYPES, WrongAnswer, count_error_types, error_type
from toytask_cli.analysis.generate import BATCH, answer_texts, decode_greedily, residuals
from toytask_cli.analysis.stats import Accuracy
from toytask_cli.dataset import Examples, Grid
from toytask_cli.model import Transformer
from toytask_cli.objective import exact_match
from toytask_cli.prompts import Prompt
from toytask_cli.rng import generator
from toytask_cli.tokenizer import PAD

GREEDY_SAMPLE = 1000
WRONG_LISTED = 1000  # of a task
CHUNK = 16 * BATCH  # pairs: texts take far more memory than the tokens that they are read from

DEFINITIONS = {
    "accuracy": "share of answers that match exactly, by teacher forcing, 0 to 1",
    "n": "number of examples",
    "ci95": "Wilson 95 % interval of the accuracy",
    "ce_loss": "mean over examples of the mean cross-entropy of the answer's tokens, nats, "
    "lower is better",
    "slices.carry": "operand pairs of which some column of digits adds up to ten or more",
    "slices.merged_tokens": "answers whose tokens are not the numbers that they write: digits of "
    "neighbouring numbers merge under maximal munch",
    "slices.unseen_token": "answers with a token never seen in training at this position of an "
    "answer of this task and length",
    "error_types": "wrong answers by type, written greedily; the first type that fits counts: "
    + "; ".join(f"{name}: {meaning}" for name, meaning in ERROR_TYPES.items()),
    "wrong": f"wrong answers one by one; of a task with more than {WRONG_LISTED:,} every second, "
    "third, … in the order of their operands; `error_types` counts them all",
    "greedy": "on a random sample, whether greedy decoding is right exactly where teacher "
    "forcing is; agree = n is expected",
}


class Scores(NamedTuple):
    """Each example's exact match and loss by teacher forcing, on the CPU."""

    right: Tensor  # [n] bool, exact match
    loss: Tensor  # [n] mean cross-entropy over the answer's tokens, nats


@dataclass(frozen=True)
class TaskScore(Accuracy):
    """Exact match and loss of one task."""

    ce_loss: float  # nats, mean over examples of the mean over the answer's tokens


@dataclass(frozen=True)
class TaskReport(TaskScore):
    """One task's score, its slices and its wrong answers."""

    slices: dict[str, Accuracy | None]
    error_types: dict[str, int]


@dataclass(frozen=True)
class GreedyCheck:
    """On how many of n examples greedy decoding and teacher forcing agree."""

    n: int
    agree: int


@dataclass(frozen=True)
class Evaluation:
    """The report of `toytask eval`."""

    split: str
    accuracy: float
    n: int
    ci95: tuple[float, float]
    tasks: dict[str, TaskReport]
    greedy: GreedyCheck
    wrong: list[WrongAnswer]
    definitions: dict[str, str]


def evaluate(
    model: Transformer, grid: Grid, split: str, limit: int | None, seed: int
) -> tuple[Evaluation, Tensor]:
    """Measure the model on one split, or on a random sample of it.

    Args:
        split: name of the split.
        limit: number of examples to draw, or None for all.
        seed: of the draws.

    Returns:
        The report, and [task, pair] whether the answer is right: 1, 0, or −1 where not measured.
    """
    examples = grid.split(split)
    if limit is not None and limit < len(examples):
        draw = torch.randperm(len(examples), generator=generator(seed, "limit"))
        examples = examples[draw[:limit].sort().values]
    scores = score(model, examples)
    correctness = torch.full(grid.splits.shape, -1, dtype=torch.int8)
    correctness[examples.tasks, examples.pairs] = scores.right.to(torch.int8)
    properties = _properties(grid)
    tasks: dict[str, TaskReport] = {}
    listed: list[WrongAnswer] = []
    for name, task_score in task_scores(grid, examples, scores).items():
        task = grid.task_names.index(name)
        of_task = examples.tasks == task
        pairs, right = examples.pairs[of_task], scores.right[of_task]
        has = {key: values[task, pairs] for key, values in properties.items()}
        wrong_pairs = pairs[~right]
        types = (kind for kind, _ in wrong_answers(model, grid, task, wrong_pairs))
        tasks[name] = TaskReport(
            **vars(task_score), slices=_slices(has, right), error_types=count_error_types(types)
        )
        step = -(-len(wrong_pairs) // WRONG_LISTED) or 1
        listed += [answer for _, answer in wrong_answers(model, grid, task, wrong_pairs[::step])]
    report = Evaluation(
        split=split,
        **vars(Accuracy.of(scores.right)),
        tasks=tasks,
        greedy=_check_greedy(model, grid, examples, scores, seed),
        wrong=listed,
        definitions=DEFINITIONS,
    )
    return report, correctness


@torch.no_grad()
def score(model: Transformer, examples: Examples) -> Scores:
    """Return exact match and loss of every example."""
    # Allocated first: small results between the batches' large tensors would fragment memory.
    scores = Scores(torch.empty(len(examples), dtype=torch.bool), torch.empty(len(examples)))
    start = 0
    for batch, resid in residuals(model, examples):
        rows, logits = slice(start, start + len(batch)), model.readout(resid)
        scores.right[rows] = exact_match(logits, batch.answers)
        scores.loss[rows] = answer_loss(logits, batch.answers)
        start = rows.stop
    return scores


def answer_loss(logits: Tensor, answers: Tensor) -> Tensor:
    """Return [n] each example's mean cross-entropy over its answer tokens, in nats.

    Args:
        logits: [n, length, vocabulary].
        answers: [n, length + 1] token ids, `B` first.
    """
    targets = answers[:, 1:]
    return token_loss(logits, targets).sum(dim=1) / (targets != PAD).sum(dim=1)


def token_loss(logits: Tensor, targets: Tensor) -> Tensor:
    """Return [...] the cross-entropy of [..., vocabulary] logits in nats, 0 where targets pad."""
    losses = F.cross_entropy(
        logits.flatten(0, -2), targets.flatten(), ignore_index=PAD, reduction="none"
    )
    return losses.view_as(targets)


def task_scores(grid: Grid, examples: Examples, scores: Scores) -> dict[str, TaskScore]:
    """Return each task's accuracy and loss; a task without examples is left out."""
    by_task = {}
    for index, name in enumerate(grid.task_names):
        rows = examples.tasks == index
        if rows.any():
            accuracy, ce_loss = Accuracy.of(scores.right[rows]), float(scores.loss[rows].mean())
            by_task[name] = TaskScore(**vars(accuracy), ce_loss=ce_loss)
    return by_task


def wrong_answers(
    model: Transformer, grid: Grid, task: int, pairs: Tensor
) -> Iterator[tuple[str, WrongAnswer]]:
    """Write one task's answers greedily at [n] pairs where they are wrong; yield type and answer.

    Memory is bounded by the texts of `CHUNK` pairs.
    """
    row, others = grid.tasks[task], [other for i, other in enumerate(grid.tasks) if i != task]
    for chunk in pairs.split(CHUNK) if len(pairs) else ():
        examples = grid.examples(torch.full_like(chunk, task), chunk)
        ids, _ = decode_greedily(model, examples.prompts, grid.answers.shape[-1] - 1)
        operands = (numbers.tolist() for numbers in grid.operands(chunk))
        for a, b, prediction in zip(*operands, answer_texts(grid, ids), strict=True):
            prompt = Prompt(row, a, b)
            other_targets = [prompt._replace(task=other).plain_target for other in others]
            kind = error_type(prediction, prompt.plain_target, other_targets)
            yield kind, WrongAnswer(row.name, prompt.plain, prompt.plain_target, prediction)


def _properties(grid: Grid) -> dict[str, Tensor]:
    """Return [task, pair] each: properties that may make an example harder."""
    carry = has_carry(*grid.operands(torch.arange(grid.n_pairs)))
    return {
        "carry": carry.expand(len(grid.tasks), -1),
        "merged_tokens": grid.merged_tokens(),
        "unseen_token": grid.unseen_token(),
    }


def _slices(properties: dict[str, Tensor], right: Tensor) -> dict[str, Accuracy | None]:
    """Return the accuracy on the examples [n] that have a property, and on those that do not."""
    slices = {}
    for name, has in properties.items():
        for key, rows in ((name, has), (f"no_{name}", ~has)):
            slices[key] = Accuracy.of(right[rows]) if rows.any() else None
    return slices


def has_carry(a: Tensor, b: Tensor) -> Tensor:
    """Return [n] whether some column of digits, with the carry into it, adds up to ten or more."""
    carry = torch.zeros_like(a, dtype=torch.bool)
    unit = 10
    while unit <= 10 * int(torch.cat([a, b]).max().clamp(min=1)):
        carry |= a % unit + b % unit >= unit
        unit *= 10
    return carry


def _check_greedy(
    model: Transformer, grid: Grid, examples: Examples, scores: Scores, seed: int
) -> GreedyCheck:
    rows = torch.randperm(len(examples), generator=generator(seed, "greedy"))[:GREEDY_SAMPLE]
    sample = examples[rows]
    ids, _ = decode_greedily(model, sample.prompts, grid.answers.shape[-1] - 1)
    right = (ids == sample.answers[:, 1:]).all(dim=1)
    return GreedyCheck(len(sample), int((right == scores.right[rows]).sum()))
