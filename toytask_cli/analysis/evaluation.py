"""Accuracy on a part of the data: exact match, how wrong answers are wrong, and where."""

from dataclasses import dataclass

import torch
from torch import Tensor

from toytask_cli.analysis.error_types import ERROR_TYPES, count_error_types
from toytask_cli.analysis.prediction import Scores, decode_greedily, score
from toytask_cli.analysis.statistics import wilson
from toytask_cli.dataset import Examples, Grid
from toytask_cli.model import Transformer
from toytask_cli.prompts import Prompt
from toytask_cli.rng import generator

GREEDY_SAMPLE = 1000
WRONG_LISTED = 1000  # of a task

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
    "error_types": "wrong answers by kind, as written greedily; the first kind that fits counts: "
    + "; ".join(f"{kind}: {meaning}" for kind, meaning in ERROR_TYPES.items()),
    "wrong": f"wrong answers one by one; of a task with more than {WRONG_LISTED:,} every second, "
    "third, … in the order of their operands; `error_types` counts them all",
    "greedy": "on a random sample, whether greedy decoding is right exactly where teacher "
    "forcing is; agree = n is expected",
}


@dataclass(frozen=True)
class Accuracy:
    """Exact match on some examples."""

    accuracy: float  # 0 to 1
    n: int
    ci95: tuple[float, float]  # Wilson

    @classmethod
    def of(cls, right: Tensor) -> "Accuracy | None":
        """From [n] booleans; None where there is no example."""
        n, hits = len(right), int(right.sum())
        return cls(hits / n, n, wilson(hits, n)) if n else None


@dataclass(frozen=True)
class TaskScore(Accuracy):
    """Exact match and loss of one task."""

    ce_loss: float  # nats, mean over examples of the mean over the answer's tokens


@dataclass(frozen=True)
class WrongAnswer:
    """One example that the model gets wrong, without `B` and `E`."""

    task: str
    prompt: str
    target: str
    prediction: str


@dataclass(frozen=True)
class GreedyCheck:
    """Whether greedy decoding is right where teacher forcing is."""

    n: int
    agree: int


@dataclass(frozen=True)
class TaskReport(TaskScore):
    """One task's score, taken apart."""

    slices: dict[str, Accuracy | None]
    error_types: dict[str, int]


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


def task_scores(grid: Grid, examples: Examples, scores: Scores) -> dict[str, TaskScore]:
    """Each task's accuracy and loss; a task without examples is left out."""
    found = {}
    for index, task in enumerate(grid.tasks):
        mine = examples.tasks == index
        if accuracy := Accuracy.of(scores.right[mine]):
            ce_loss = float(scores.loss[mine].mean())
            found[task.name] = TaskScore(accuracy.accuracy, accuracy.n, accuracy.ci95, ce_loss)
    return found


def evaluate(
    model: Transformer, grid: Grid, split: str, limit: int | None, seed: int
) -> tuple[Evaluation, Tensor]:
    """Measures the model on one part of the data, or on a random sample of it.

    Args:
        split: the part's name.
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
    tasks, wrong = {}, []
    for name, scored in task_scores(grid, examples, scores).items():
        index = grid.task_names.index(name)
        mine = examples.tasks == index
        pairs, right = examples.pairs[mine], scores.right[mine]
        error_types, said = count_error_types(model, grid, index, pairs[~right])
        every = -(-len(said) // WRONG_LISTED) or 1
        wrong += wrong_answers(grid, index, pairs[~right][::every], said[::every])
        has = {name: values[index, pairs] for name, values in properties.items()}
        tasks[name] = TaskReport(
            **vars(scored), slices=_slices(has, right), error_types=error_types
        )
    overall = Accuracy.of(scores.right)
    assert overall is not None
    report = Evaluation(
        split=split,
        **vars(overall),
        tasks=tasks,
        greedy=_check_greedy(model, grid, examples, scores, seed),
        wrong=wrong,
        definitions=DEFINITIONS,
    )
    return report, correctness


def wrong_answers(grid: Grid, task: int, pairs: Tensor, said: list[str]) -> list[WrongAnswer]:
    """One task's answers at these pairs, [n], beside what was said there."""
    row = grid.tasks[task]
    operands = zip(*(operand.tolist() for operand in grid.operands(pairs)), strict=True)
    prompts = (Prompt(row, a, b) for a, b in operands)
    return [
        WrongAnswer(row.name, prompt.plain, prompt.plain_target, text)
        for prompt, text in zip(prompts, said, strict=True)
    ]


def _properties(grid: Grid) -> dict[str, Tensor]:
    """[task, pair] each: what may make an example harder."""
    carry = has_carry(*grid.operands(torch.arange(grid.n_pairs)))
    return {
        "carry": carry.expand(len(grid.tasks), -1),
        "merged_tokens": grid.merged_tokens(),
        "unseen_token": grid.unseen_token(),
    }


def _slices(properties: dict[str, Tensor], right: Tensor) -> dict[str, Accuracy | None]:
    """Accuracy on the examples [n] that have a property, and on those that do not."""
    found = {}
    for name, mask in properties.items():
        found[name] = Accuracy.of(right[mask])
        found[f"no_{name}"] = Accuracy.of(right[~mask])
    return found


def has_carry(a: Tensor, b: Tensor) -> Tensor:
    """[n] whether some column of digits adds up to ten or more, carries from the right included."""
    carry = torch.zeros_like(a, dtype=torch.bool)
    unit = 10
    while unit <= 10 * int(torch.cat([a, b]).max().clamp(min=1)):
        carry |= a % unit + b % unit >= unit
        unit *= 10
    return carry


def _check_greedy(
    model: Transformer, grid: Grid, examples: Examples, scores: Scores, seed: int
) -> GreedyCheck:
    draw = torch.randperm(len(examples), generator=generator(seed, "greedy"))[:GREEDY_SAMPLE]
    sample = examples[draw]
    said, _ = decode_greedily(model, sample.prompts, grid.answers.shape[-1] - 1)
    right = (said == sample.answers[:, 1:]).all(dim=1)
    return GreedyCheck(len(sample), int((right == scores.right[draw]).sum()))
