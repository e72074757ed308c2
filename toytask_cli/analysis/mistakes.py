"""How a wrong answer is wrong."""

from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor

from toytask_cli.analysis.prediction import decode_greedily
from toytask_cli.dataset import Grid
from toytask_cli.model import Transformer

# In this order: the first that fits is the one that counts.
MISTAKES = {
    "nothing": "the answer is empty",
    "other_task": "the right answer of another task on the same operands",
    "off_by_one": "a number that is one too large or too small",
    "one_digit": "one digit is wrong, the others are right",
    "wrong_length": "too many or too few digits",
    "other": "none of these",
}


def classify(said: str, truth: str, other_answers: Sequence[str]) -> str:
    """The kind of a wrong answer, a key of `MISTAKES`. Strings without `B` and `E`."""
    if not said:
        return "nothing"
    if said in other_answers:
        return "other_task"
    if not (said.isascii() and said.isdigit()):
        return "other"
    if abs(int(said) - int(truth)) == 1:
        return "off_by_one"
    if len(said) != len(truth):
        return "wrong_length"
    wrong_digits = sum(a != b for a, b in zip(said, truth, strict=True))
    return "one_digit" if wrong_digits == 1 else "other"


def answer_texts(grid: Grid, tokens: Tensor) -> list[str]:
    """[n, length] token ids → what they write, up to the first `E`, without `B`."""
    texts = (grid.tokenizer.decode(row) for row in tokens.tolist())
    return [text.removeprefix("B").split("E")[0] for text in texts]


def count_mistakes(
    model: Transformer, grid: Grid, task: int, pairs: Tensor
) -> tuple[dict[str, int], list[str]]:
    """What the model says, greedily, where it is wrong on one task.

    Args:
        task: index of the task.
        pairs: [n] operand pairs whose answers are known to be wrong.

    Returns:
        How many answers are of each kind of mistake, and the answers themselves.
    """
    if len(pairs) == 0:
        return dict.fromkeys(MISTAKES, 0), []
    examples = grid.examples(torch.full_like(pairs, task), pairs)
    tokens, _ = decode_greedily(model, examples.prompts, grid.answers.shape[-1] - 1)
    said, truths = answer_texts(grid, tokens), answer_texts(grid, examples.answers)
    others = [
        answer_texts(grid, grid.answers[other, pairs])
        for other in range(len(grid.tasks))
        if other != task
    ]
    kinds = Counter(map(classify, said, truths, zip(*others, strict=True)))
    return {kind: kinds[kind] for kind in MISTAKES}, said
