"""The chat with a person: the loop, line editing, history and completion."""

import os
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from rich.console import RenderableType
from rich.text import Text

from toytask_cli.cli.chat_commands import COMMANDS, candidates, obey
from toytask_cli.cli.chat_render import answers_view
from toytask_cli.cli.chat_session import Chat
from toytask_cli.cli.console import out, say_error
from toytask_cli.errors import ToytaskError, UsageError

HISTORY_LENGTH = 1000  # lines


def talk(chat: Chat) -> None:
    """Answers line by line until `:quit`, Ctrl-D or Ctrl-C."""
    out().print(_greeting(chat))
    try:
        with line_editing(lambda words: candidates(chat, words)):
            while True:
                _answer(chat, input("> ").strip())
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
        out().print(obey(chat, line) if line.startswith(":") else _ask(chat, line))
    except ToytaskError as error:
        say_error(str(error))


def _ask(chat: Chat, line: str) -> RenderableType:
    word = f":{line.split(maxsplit=1)[0].lower()}"
    if word in COMMANDS:
        raise UsageError(f"commands begin with a colon: {word}")
    prompt = chat.parse(line)
    return answers_view(prompt, chat.ask([prompt])[0])


@contextmanager
def line_editing(follow: Callable[[list[str]], Iterable[str]]) -> Iterator[None]:
    """Gives `input` line editing, history and completion, where Python has readline.

    Args:
        follow: the words of a line so far → what the next one can be.
    """
    try:
        import readline
    except ImportError:  # as on Windows
        yield
        return

    def complete(text: str, state: int) -> str | None:
        words = readline.get_line_buffer()[: readline.get_begidx()].split()
        fitting = [f"{word} " for word in follow(words) if word.startswith(text)]
        return fitting[state] if state < len(fitting) else None

    readline.set_completer_delims(" ")
    readline.set_completer(complete)
    libedit = "libedit" in (readline.__doc__ or "")
    readline.parse_and_bind("bind ^I rl_complete" if libedit else "tab: complete")
    readline.set_history_length(HISTORY_LENGTH)
    history = state_directory() / "history"
    # A home that cannot be read or written to is no reason not to talk.
    with suppress(OSError):
        readline.read_history_file(history)
    try:
        yield
    finally:
        with suppress(OSError):
            history.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            readline.write_history_file(history)


def state_directory() -> Path:
    """Where this platform keeps a user's state for toytask."""
    home = Path(os.path.expanduser("~"))
    if sys.platform == "win32":
        base = Path(os.environ.get("LOCALAPPDATA") or home / "AppData" / "Local")
    elif sys.platform == "darwin":
        base = home / "Library" / "Application Support"
    else:
        base = Path(os.environ.get("XDG_STATE_HOME") or home / ".local" / "state")
    return base / "toytask"
