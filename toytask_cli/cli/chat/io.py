"""The input of a chat: a person at a terminal, with line editing, or lines from a pipe."""

import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from io import BufferedReader
from pathlib import Path
from typing import Any, cast

from rich.console import RenderableType
from rich.text import Text

from toytask_cli.analysis.generate import Answer
from toytask_cli.cli.chat.commands import COMMANDS, completions, run_command
from toytask_cli.cli.chat.session import Chat
from toytask_cli.cli.chat.view import answers_view, one_line
from toytask_cli.cli.console import err, out, print_error, print_message
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.prompts import Prompt, PromptError

HISTORY_LENGTH = 1000  # lines
BLOCK = 8192  # bytes, some thousand prompts
PROMPT = "> "
PIPE_SECONDS = 0.05  # for `tee` to show an answer before the next prompt


def run_terminal(chat: Chat) -> None:
    """Answer line by line until `:quit`, Ctrl-D, or Ctrl-C at the prompt."""
    out().print(_greeting(chat))
    try:
        with line_editing(lambda words: completions(chat, words)):
            while True:
                _answer(chat, input(PROMPT).strip())
    except (EOFError, KeyboardInterrupt):
        out().print()


def _greeting(chat: Chat) -> Text:
    tasks = ", ".join(f"{task.name} ({task.symbol})" for task in chat.grid.tasks)
    largest = 10**chat.grid.spec.digits - 1
    return Text(f"{chat.run.path}: {tasks} of numbers from 0 to {largest}; :help lists commands")


def _answer(chat: Chat, line: str) -> None:
    if not line:
        return
    try:
        out().print(run_command(chat, line) if line.startswith(":") else _ask(chat, line))
    except ToytaskError as error:
        print_error(str(error))
    except KeyboardInterrupt:
        out().print()  # the terminal shows ^C
        print_message("stopped; :quit leaves the chat")


def _ask(chat: Chat, line: str) -> RenderableType:
    word = f":{line.split(maxsplit=1)[0].lower()}"
    if word in COMMANDS:
        raise UsageError(f"commands begin with a colon: {word}")
    prompt = chat.parse(line)
    return answers_view(prompt, chat.ask([prompt])[0])


@contextmanager
def line_editing(complete: Callable[[list[str]], Iterable[str]]) -> Iterator[None]:
    """Give `input` line editing, history and completion, where Python has readline.

    Args:
        complete: the words of a line so far → what the next one can be.
    """
    try:
        import readline
    except ImportError:  # as on Windows
        yield
        return

    def completion(text: str, state: int) -> str | None:
        words = readline.get_line_buffer()[: readline.get_begidx()].split()
        matches = [f"{word} " for word in complete(words) if word.startswith(text)]
        return matches[state] if state < len(matches) else None

    readline.set_completer_delims(" ")
    readline.set_completer(completion)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    readline.set_history_length(HISTORY_LENGTH)
    history = state_directory() / "history"
    # Without a history that can be read or written, the chat works all the same.
    with suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with suppress(OSError):
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(history)


def state_directory() -> Path:
    """Return the directory in which this platform keeps a user's state for toytask."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return base / "toytask"


def answer_lines(chat: Chat, as_json: bool) -> bool:
    """Answer standard input, one prompt a line; return whether all were prompts.

    Lines are answered as they arrive, so that another program can wait for each answer.
    """
    all_valid = True
    number = 0
    for lines in _blocks_of_lines():
        prompts = []
        for line in lines:
            number += 1
            try:
                prompts += [chat.parse(line)] if line.strip() else []
            except PromptError as error:
                print_error(f"line {number}: {error}")
                all_valid = False
        for prompt, answers in zip(prompts, chat.ask(prompts), strict=True):
            if as_json:
                sys.stdout.write(json.dumps(_as_json(prompt, answers), allow_nan=False) + "\n")
            else:
                out().print(one_line(prompt, answers), soft_wrap=True)
        sys.stdout.flush()
        if out().quiet:  # the reader of the answers has stopped
            break
    return all_valid


def _blocks_of_lines() -> Iterator[list[str]]:
    """Yield the lines of standard input as they arrive, several at a time."""
    rest = bytearray()
    while block := _read_block():
        rest += block
        if b"\n" in block:
            *lines, rest = rest.split(b"\n")
            yield [_decode(line) for line in lines]
    yield [_decode(rest)]


def _read_block() -> bytes:
    """Read what has arrived; where a person types, print a prompt, even if answers go elsewhere."""
    stdin = cast(BufferedReader, sys.stdin.buffer)
    if not (sys.stdin.isatty() and err().is_terminal):
        return stdin.read1(BLOCK)
    time.sleep(PIPE_SECONDS)
    err().print(PROMPT, end="")
    block = stdin.read1(BLOCK)
    err().print(end="" if block else "\n")  # Ctrl-D ends no line
    return block


def _decode(line: bytearray) -> str:
    """Return a line as text, without the byte-order mark that a file may begin with."""
    return line.decode("utf-8-sig", errors="replace")


def _as_json(prompt: Prompt, answers: dict[str, Answer]) -> dict[str, Any]:
    keys = ("text", "correct", "probabilities")
    by_column = {name: {k: getattr(answer, k) for k in keys} for name, answer in answers.items()}
    return {"prompt": prompt.plain, "target": prompt.plain_target, "answers": by_column}
