"""The types of wrong answers. Answers are strings without `B` and `E`."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from toytask_cli.prompts import Prompt
from toytask_cli.tasks import Task

# In this order: a wrong answer has the first type that fits.
ERROR_TYPES = {
    "nothing": "the answer is empty",
    "other_task": "the right answer of another task on the same operands",
    "other_tokens": "the right digits, in other tokens or without an end",
    "off_by_one": "a number that is one too large or too small",
    "one_digit": "one digit is wrong, the others are right",
    "wrong_length": "too many or too few digits",
    "other": "none of these",
}


@dataclass(frozen=True)
class WrongAnswer:
    """One example that the model gets wrong."""

    task: str
    prompt: str
    target: str
    prediction: str


def error_type(prediction: str, target: str, other_targets: Sequence[str]) -> str:
    """Return the type of a wrong answer, a key of `ERROR_TYPES`.

    Args:
        other_targets: the answers of the other tasks on the same operands.
    """
    is_number, same_length = _is_number(prediction), len(prediction) == len(target)
    n_wrong_digits = sum(a != b for a, b in zip(prediction, target, strict=False))
    fits = {
        "nothing": not prediction,
        "other_task": prediction in other_targets,
        "other_tokens": prediction == target,
        "off_by_one": prediction in _neighbours(target),
        "one_digit": is_number and same_length and n_wrong_digits == 1,
        "wrong_length": is_number and not same_length,
    }
    return next((kind for kind in ERROR_TYPES if fits.get(kind)), "other")


def count_error_types(kinds: Iterable[str]) -> dict[str, int]:
    """Return the number of wrong answers of every type."""
    counts = Counter(kinds)
    return {kind: counts[kind] for kind in ERROR_TYPES}


def describe_error(
    prediction: str, tokens: Sequence[str], prompt: Prompt, tasks: Sequence[Task]
) -> str:
    """Return in words how a wrong answer is wrong.

    Args:
        tokens: the tokens of the prediction, with its `E` if it has one.
        tasks: all tasks, some of which may have this answer.
    """
    target = prompt.plain_target
    if prediction == target:
        return "right, in other tokens" if "E" in tokens else "right, but it does not end"
    others = {t.name: prompt._replace(task=t).plain_target for t in tasks if t != prompt.task}
    same = " and ".join(name for name, answer in others.items() if answer == prediction)
    kind = error_type(prediction, target, list(others.values()))
    words = {
        "nothing": "no answer",
        "other_task": f"the answer of {same}",
        "one_digit": "one digit wrong",
        "wrong_length": f"too {'many' if len(prediction) > len(target) else 'few'} digits",
    }
    if kind in words:
        return words[kind]
    if not _is_number(prediction):
        return "no number"
    difference = int(prediction) - int(target)
    size = "one" if kind == "off_by_one" else str(abs(difference))
    return f"{size} too {'large' if difference > 0 else 'small'}"


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdigit()


def _neighbours(number: str) -> tuple[str, ...]:
    """Return the numbers before and after; none for `01`, whose zero is a digit to get right."""
    value = int(number)
    return (str(value - 1), str(value + 1)) if str(value) == number else ()
