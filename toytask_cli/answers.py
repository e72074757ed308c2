"""The true answers of a task to every pair of operands."""

from collections.abc import Sequence
from functools import lru_cache

import numpy as np
from numpy.typing import NDArray

from toytask_cli.errors import UsageError
from toytask_cli.tasks import Task

MAX_TOKEN = 10**6 - 1  # a vocabulary of more numbers is too large to train


@lru_cache(maxsize=8)
def answer_numbers(task: Task, digits: int) -> NDArray[np.int64]:
    """Return [pair, number] the numbers of every answer; pair = a · 10^digits + b.

    Raises:
        UsageError: an answer that is not valid, or answers of different counts of numbers.
    """
    operands = range(10**digits)
    rows = [task.numbers(a, b) for a in operands for b in operands]
    try:
        numbers = np.array(rows, np.int64)
    except ValueError:
        raise UsageError(
            f"task {task.name}: its rule gives more numbers for some operands than for others"
        ) from None
    numbers.flags.writeable = False  # shared by all callers
    return numbers


def largest_number(tasks: Sequence[Task], digits: int) -> int:
    """Return the largest number that is one token: an operand, or an answer of one number.

    Raises:
        UsageError: an answer too large to be a token, or not valid.
    """
    largest = 10**digits - 1
    for task in tasks:
        numbers = answer_numbers(task, digits)
        if numbers.shape[1] > 1:
            continue
        top = int(numbers.max())
        if top > MAX_TOKEN:
            a, b = divmod(int(numbers.argmax()), 10**digits)
            raise UsageError(
                f"task {task.name}: its rule gives {top:,} for {a} and {b}: an answer of one "
                f"number must be {MAX_TOKEN:,} at most"
            )
        largest = max(largest, top)
    return largest
