"""Prompts as a person types them: `47+23`, `47C23`, `47 c 23`, `B47+23E`."""

import re
from collections.abc import Sequence
from typing import NamedTuple

from toytask_cli.errors import ToytaskError, shorten
from toytask_cli.tasks import Task

QUOTED = 40  # characters of a prompt that an error quotes


class PromptError(ToytaskError):
    """Text that is not a prompt."""


class Prompt(NamedTuple):
    """A task on two operands."""

    task: Task
    a: int
    b: int

    @property
    def text(self) -> str:
        """The prompt as the model reads it: `B47+23E`."""
        return self.task.prompt(self.a, self.b)

    @property
    def target(self) -> str:
        """The true answer as the model should write it: `B70E`."""
        return self.task.answer(self.a, self.b)

    @property
    def plain(self) -> str:
        """The prompt as a person types it: `47+23`."""
        return self.text[1:-1]

    @property
    def plain_target(self) -> str:
        """The true answer without `B` and `E`: `70`."""
        return self.target[1:-1]


def parse_prompt(text: str, tasks: Sequence[Task], digits: int) -> Prompt:
    """Read a prompt, with or without `B` and `E`, blanks and capitals.

    Raises:
        PromptError: a wrong character or number; the message names it and what would be valid.
    """
    typed, quoted = "".join(text.split()).upper(), shorten(text.strip(), QUOTED)
    by_symbol = {task.symbol: task for task in tasks}
    for letter in typed:
        if not (letter in "0123456789BE" or letter in by_symbol):
            raise PromptError(
                f"{letter!r} in {quoted!r} is not in the vocabulary: "
                f"use digits and one of {' '.join(by_symbol)}"
            )
    symbols = re.escape("".join(by_symbol))
    match = re.fullmatch(rf"B?([0-9]+)([{symbols}])([0-9]+)E?", typed)
    if not match:
        first = next(iter(by_symbol))
        raise PromptError(
            f"{quoted!r} is no prompt: write a number, one of {' '.join(by_symbol)}, "
            f"and a number, such as 4{first}7"
        )
    a, b = (_operand(number, digits) for number in match.group(1, 3))
    return Prompt(by_symbol[match[2]], a, b)


def _operand(number: str, digits: int) -> int:
    significant = number.lstrip("0") or "0"
    if len(significant) > digits:
        raise PromptError(
            f"{shorten(number, QUOTED)} is out of range: operands go from 0 to {10**digits - 1}"
        )
    return int(significant)
