"""The table of tasks: a name, the symbol between the operands, and a rule.

A rule returns the numbers that the answer writes one after the other: `47+23` has one, 70, and
`47C23` has two, 47 and 23, written `4723`.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral

from toytask_cli.errors import UsageError, short_repr, unknown_choice

RESERVED = "BE0123456789"  # characters with another meaning in prompts and answers
MAX_NUMBER = 10**18 - 1  # the longest that fits into 64 bits whatever its digits


@dataclass(frozen=True)
class Task:
    """One row of the table."""

    name: str
    symbol: str
    rule: Callable[[int, int], tuple[int, ...]]

    def prompt(self, a: int, b: int) -> str:
        """Return the prompt with its `B` and `E`: `B47+23E`."""
        return f"B{a}{self.symbol}{b}E"

    def answer(self, a: int, b: int) -> str:
        """Return the true answer with its `B` and `E`: `B70E`."""
        return "B" + "".join(f"{number:d}" for number in self.numbers(a, b)) + "E"

    def numbers(self, a: int, b: int) -> tuple[int, ...]:
        """Return the numbers of the true answer in writing order.

        Raises:
            UsageError: the rule fails on these operands, or gives anything but a tuple of
                non-negative integers.
        """
        try:
            numbers = self.rule(a, b)
        except (ArithmeticError, TypeError, ValueError) as error:
            raise UsageError(f"task {self.name}: its rule fails for {a} and {b}: {error}") from None
        if not (isinstance(numbers, tuple) and numbers and all(map(_is_valid, numbers))):
            raise UsageError(
                f"task {self.name}: its rule gives {short_repr(numbers)} for {a} and {b}: must be "
                "a tuple of non-negative integers of at most 18 digits"
            )
        return numbers


def _is_valid(number: object) -> bool:
    return isinstance(number, Integral) and 0 <= int(number) <= MAX_NUMBER


# The order of the rows is the order of the symbols in the vocabulary.
TASKS = {
    task.name: task
    for task in (
        Task("concat", "C", lambda a, b: (a, b)),
        Task("sum", "+", lambda a, b: (a + b,)),
        Task("diff", "-", lambda a, b: (abs(a - b),)),
        Task("max", "M", lambda a, b: (max(a, b),)),
        Task("min", "N", lambda a, b: (min(a, b),)),
        Task("swap", "S", lambda a, b: (b, a)),
    )
}


def find_tasks(names: Sequence[str]) -> tuple[Task, ...]:
    """Return the rows of the table with these names, in this order.

    Raises:
        UsageError: a name that is not in the table, or a symbol that cannot be one.
    """
    for name in names:
        if name not in TASKS:
            raise unknown_choice("task", name, TASKS)
    _check_symbols()
    return tuple(TASKS[name] for name in names)


def _check_symbols() -> None:
    symbols = [task.symbol for task in TASKS.values()]
    for name, symbol in zip(TASKS, symbols, strict=True):
        # Prompts are read without blanks and in capitals.
        character = len(symbol) == 1 and symbol.isprintable() and symbol == symbol.strip().upper()
        if not character or symbol in RESERVED or symbols.count(symbol) > 1:
            raise UsageError(
                f"task {name} has the symbol {short_repr(symbol)}: must be one printable character "
                "that no other task has, and no digit, small letter, blank, B or E"
            )
