"""How a wrong answer is wrong."""

from collections import Counter
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor

from toytask_cli.analysis.prediction import BATCH, decode_greedily
from toytask_cli.dataset import Grid
from toytask_cli.model import Transformer

CHUNK = 16 * BATCH  # pairs: texts take far more memory than the tokens that they are read from

# In this order: the first that fits is the one that counts.
ERROR_TYPES = {
    "nothing": "the answer is empty",
    "other_task": "the right answer of another task on the same operands",
    "other_tokens": "the right digits, in other tokens or without an end",
    "off_by_one": "a number that is one too large or too small",
    "one_digit": "one digit is wrong, the others are right",
    "wrong_length": "too many or too few digits",
    "other": "none of these",
}


def error_type(said: str, truth: str, other_answers: Sequence[str]) -> str:
    """The kind of a wrong answer, a key of `ERROR_TYPES`. Strings without `B` and `E`."""
    is_number = said.isascii() and said.isdigit()
    as_long = is_number and len(said) == len(truth)
    fits = {
        "nothing": not said,
        "other_task": said in other_answers,
        "other_tokens": said == truth,
        "off_by_one": said in _neighbours(truth),
        "one_digit": as_long and sum(a != b for a, b in zip(said, truth, strict=True)) == 1,
        "wrong_length": is_number and not as_long,
    }
    return next((kind for kind in ERROR_TYPES if fits.get(kind)), "other")


def _neighbours(number: str) -> tuple[str, ...]:
    """The numbers before and after this one; none of `01`, whose zero is a digit to get right."""
    value = int(number)
    return (str(value - 1), str(value + 1)) if str(value) == number else ()


def answer_texts(grid: Grid, tokens: Tensor) -> list[str]:
    """[n, length] token ids → what they write, up to the first `E`, without `B`."""
    texts = (grid.tokenizer.decode(row) for row in tokens.tolist())
    return [text.removeprefix("B").split("E")[0] for text in texts]


def count_error_types(
    model: Transformer, grid: Grid, task: int, pairs: Tensor
) -> tuple[dict[str, int], list[str]]:
    """What the model says, greedily, where it is wrong on one task.

    Args:
        task: index of the task.
        pairs: [n] operand pairs whose answers are known to be wrong.

    Returns:
        How many answers are of each kind of mistake, and the answers themselves.
    """
    kinds: Counter[str] = Counter()
    said: list[str] = []
    for chunk in pairs.split(CHUNK) if len(pairs) else ():
        texts = _said(model, grid, task, chunk)
        truth, *others = (answer_texts(grid, rows[chunk]) for rows in _own_first(grid, task))
        kinds.update(map(error_type, texts, truth, zip(*others, strict=True)))
        said += texts
    return {kind: kinds[kind] for kind in ERROR_TYPES}, said


def _said(model: Transformer, grid: Grid, task: int, pairs: Tensor) -> list[str]:
    """What the model writes for one task at each of these pairs."""
    examples = grid.examples(torch.full_like(pairs, task), pairs)
    tokens, _ = decode_greedily(model, examples.prompts, grid.answers.shape[-1] - 1)
    return answer_texts(grid, tokens)


def _own_first(grid: Grid, task: int) -> Iterator[Tensor]:
    """Each task's answers, [pair, length], this one's before the others'."""
    yield grid.answers[task]
    yield from (rows for other, rows in enumerate(grid.answers) if other != task)
