"""Results go to stdout, progress and messages to stderr; JSON is never wrapped."""

import json
import shlex
import sys
from collections.abc import Mapping
from functools import cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from rich.table import Table

    from toytask_cli.cli.safe_console import SafeConsole


@cache
def out() -> "SafeConsole":
    """Where results go."""
    from toytask_cli.cli.safe_console import SafeConsole

    return SafeConsole()


@cache
def err() -> "SafeConsole":
    """Where progress and messages go."""
    from toytask_cli.cli.safe_console import SafeConsole

    return SafeConsole(stderr=True)


def say(sentence: str) -> None:
    """A result in words: a terminal gets it wrapped between words, a pipe in one line."""
    out().print(sentence, soft_wrap=not out().is_terminal)


def say_error(message: str) -> None:
    """One red line, whatever the message and the width of the terminal."""
    from toytask_cli.cli.safe_console import printable

    err().print(f"error: {printable(message)}", style="red", soft_wrap=True)


def say_next(*words: object) -> None:
    """The command that comes next, as it can be typed into a shell."""
    from rich.text import Text

    command = shlex.join(["toytask", *map(str, words)])
    err().print(Text.assemble("next: ", (command, "bold")), soft_wrap=True)


def print_json(report: Mapping[str, Any]) -> None:
    """The report alone on stdout."""
    sys.stdout.write(json.dumps(report, indent=2, allow_nan=False) + "\n")


def plain_table(*columns: str, title: str | None = None) -> "Table":
    """A table without a frame, its first column to the left and the others to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for number, column in enumerate(columns):
        table.add_column(column, justify="right" if number else "left", overflow="fold")
    return table


def percent(share: float) -> str:
    """0.9966 → 99.66 %."""
    return f"{100 * share:.2f} %"


def interval(ci95: tuple[float, float] | list[float]) -> str:
    """A 95 % interval of a share, in percent."""
    return f"{100 * ci95[0]:.2f} to {100 * ci95[1]:.2f}"


def said(wrong: Mapping[str, str]) -> str:
    """What a wrong answer says; the right digits can be in tokens that are wrong."""
    if wrong["prediction"] == wrong["target"]:
        return f"{wrong['prediction']} (in other tokens)"
    return wrong["prediction"] or "(nothing)"
