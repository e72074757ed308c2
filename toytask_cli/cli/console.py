"""Print results to stdout, progress and messages to stderr."""

import json
import shlex
import sys
from collections.abc import Iterable, Mapping
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toytask_cli.runs.paths import as_typed

if TYPE_CHECKING:
    from rich.console import JustifyMethod
    from rich.table import Table
    from rich.text import Text

    from toytask_cli.cli.safe_console import SafeConsole


@cache
def out() -> "SafeConsole":
    """Return the console for results."""
    from toytask_cli.cli.safe_console import SafeConsole

    return SafeConsole()


@cache
def err() -> "SafeConsole":
    """Return the console for progress and messages."""
    from toytask_cli.cli.safe_console import SafeConsole

    return SafeConsole(stderr=True)


def print_result(text: str, style: str = "") -> None:
    """Print a result in words: wrapped between words in a terminal, on one line in a pipe."""
    out().print(text, style=style, soft_wrap=not out().is_terminal)


def print_message(text: str, style: str = "") -> None:
    """Print a message on one line of stderr, whatever the width of the terminal."""
    err().print(text, style=style, soft_wrap=True)


def print_error(text: str) -> None:
    """Print one red line, whatever characters the text holds."""
    from toytask_cli.cli.safe_console import printable

    print_message(f"error: {printable(text)}", style="red")


def print_next(*words: object) -> None:
    """Print the command that comes next, as it can be typed into a shell."""
    from rich.text import Text

    typed = (as_typed(word) if isinstance(word, Path) else shlex.quote(str(word)) for word in words)
    command = " ".join(["toytask", *typed])
    err().print(Text.assemble("next: ", (command, "bold")), soft_wrap=True)


def print_json(report: Mapping[str, Any]) -> None:
    """Print the report alone on stdout, never wrapped."""
    sys.stdout.write(json.dumps(report, indent=2, allow_nan=False) + "\n")


def task_texts(names: Iterable[str]) -> "list[Text]":
    """Return the names of all tasks of a run, in the colours that they have in figures."""
    from rich.text import Text

    from toytask_cli.figures.colours import TASK_COLOURS

    return [Text(name, colour) for name, colour in zip(names, TASK_COLOURS, strict=False)]


def plain_table(
    headings: "Iterable[str | Text]",
    rows: Iterable[Iterable["str | Text"]],
    title: str | None = None,
) -> "Table":
    """Return a table without a frame; columns with a heading but the first go to the right."""
    from rich import box
    from rich.table import Table

    table = Table(box=box.SIMPLE_HEAD, title=title, title_justify="left", title_style="bold")
    for number, heading in enumerate(headings):
        justify: JustifyMethod = "right" if number and heading else "left"
        table.add_column(heading, justify=justify, overflow="fold")
    for row in rows:
        table.add_row(*row)
    return table


def print_table(
    headings: "Iterable[str | Text]",
    rows: Iterable[Iterable["str | Text"]],
    title: str | None = None,
) -> None:
    """Print a table of results."""
    out().print(plain_table(headings, rows, title))


def percent(share: float) -> str:
    """Format a share: 0.9966 → 99.66 %."""
    return f"{100 * share:.2f} %"


def interval(ci95: tuple[float, float] | list[float]) -> str:
    """Format the 95 % interval of a share, in percent."""
    return f"{100 * ci95[0]:.2f} to {100 * ci95[1]:.2f}"


def prediction_text(wrong: Mapping[str, str]) -> str:
    """Return a wrong answer as text; the digits can be right in tokens that are wrong."""
    if wrong["prediction"] == wrong["target"]:
        return f"{wrong['prediction']} (in other tokens)"
    return wrong["prediction"] or "(nothing)"
