"""The table of tasks: a name, the symbol that stands between the operands, and a rule.

A rule gives the numbers that the answer writes side by side, so `47+23` has one part, `70`,
and `47C23` has two, `47` and `23`, written `4723`. Rules take plain integers or whole arrays,
so they use nothing but arithmetic that both understand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from toytask_cli.errors import unknown_choice


@dataclass(frozen=True)
class Task:
    """One row: `parts(a, b)` gives the numbers of the answer, in writing order."""

    name: str
    symbol: str
    numbers: Callable[[Any, Any], tuple[Any, ...]]

    def prompt(self, a: int, b: int) -> str:
        """The prompt with its `B` and `E`: `B47+23E`."""
        return f"B{a}{self.symbol}{b}E"

    def answer(self, a: int, b: int) -> str:
        """The true answer with its `B` and `E`: `B70E`."""
        return "B" + "".join(str(number) for number in self.numbers(a, b)) + "E"


# The order of the rows is the order of the symbols in the vocabulary.
TASKS = {
    task.name: task
    for task in (
        Task("concat", "C", lambda a, b: (a, b)),
        Task("sum", "+", lambda a, b: (a + b,)),
        Task("diff", "-", lambda a, b: (abs(a - b),)),
        Task("max", "M", lambda a, b: ((a + b + abs(a - b)) // 2,)),
        Task("min", "N", lambda a, b: ((a + b - abs(a - b)) // 2,)),
        Task("swap", "S", lambda a, b: (b, a)),
    )
}


def find_tasks(names: Sequence[str]) -> tuple[Task, ...]:
    """The rows of the table with these names, in this order.

    Raises:
        UsageError: a name that is not in the table.
    """
    for name in names:
        if name not in TASKS:
            raise unknown_choice("task", name, TASKS)
    return tuple(TASKS[name] for name in names)


def largest_number(tasks: Sequence[Task], digits: int) -> int:
    """The largest number that is a token of its own: an operand, or a whole answer.

    Every rule is at its largest where each operand is its largest or its smallest.
    """
    top = 10**digits - 1
    answers = [task.numbers(a, b) for task in tasks for a in (0, top) for b in (0, top)]
    return int(max([top, *(parts[0] for parts in answers if len(parts) == 1)]))
