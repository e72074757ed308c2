"""The command `toytask`: its subcommands, and how errors are shown."""

import atexit
import os
import signal
import sys
import warnings
from collections.abc import Callable
from typing import Annotated

import typer

from toytask_cli import __version__
from toytask_cli.cli.ablate import ablate
from toytask_cli.cli.attack import attack
from toytask_cli.cli.chat.command import chat
from toytask_cli.cli.console import print_error
from toytask_cli.cli.data import data
from toytask_cli.cli.distill import distill
from toytask_cli.cli.eval import eval_
from toytask_cli.cli.export import export
from toytask_cli.cli.importance import importance
from toytask_cli.cli.report import report
from toytask_cli.cli.sparsity import sparsity
from toytask_cli.cli.streams import discard_unwritten
from toytask_cli.cli.study import study
from toytask_cli.cli.train import train
from toytask_cli.errors import ToytaskError

COMMANDS: dict[str, Callable[..., None]] = {
    "data": data,
    "train": train,
    "eval": eval_,
    "sparsity": sparsity,
    "importance": importance,
    "ablate": ablate,
    "chat": chat,
}
MORE_COMMANDS: dict[str, Callable[..., None]] = {
    "study": study,
    "distill": distill,
    "attack": attack,
    "report": report,
    "export": export,
}

app = typer.Typer(
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
for name, command in COMMANDS.items():
    app.command(name)(command)
for name, command in MORE_COMMANDS.items():
    app.command(name, rich_help_panel="More commands")(command)

debug = False


@app.callback(invoke_without_command=True)
def toytask(
    context: typer.Context,
    version: Annotated[bool, typer.Option("--version", help="Print the version.")] = False,
    debug_: Annotated[
        bool, typer.Option("--debug", help="Show the traceback of an error.")
    ] = False,
) -> None:
    """Train a toy transformer on two tasks, look inside it, and cut one task out."""
    global debug
    debug = debug_
    if version:
        print(f"toytask {__version__}")
    elif context.invoked_subcommand is None:
        print(context.get_help())
    else:
        _check_current_directory()


def main() -> None:
    """Run the command line. Exit codes: 0 done, 1 failed, 2 usage, 129, 130 or 143 interrupted."""
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        exit_code = app(standalone_mode=False)
        if not exit_code:
            sys.stdout.flush()  # while an error can still be explained
        sys.exit(exit_code)
    except BrokenPipeError:  # the reader of the results has stopped reading
        sys.exit(1)
    except Exception as error:
        explained = _explain(error)
        if debug or explained is None:
            raise
        message, exit_code = explained
        print_error(message)
        sys.exit(exit_code)
    finally:
        discard_unwritten()
        # Only the interpreter's own shutdown follows, where an interrupt would be a traceback.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _check_current_directory() -> None:
    """Raise a ToytaskError if the current directory is gone; PyTorch cannot compute without one."""
    try:
        os.getcwd()
    except OSError as error:
        raise ToytaskError(
            f"cannot use the current directory ({error.strerror}): change to another one"
        ) from error


def _explain(error: Exception) -> tuple[str, int] | None:
    """Return the message and exit code of an error that a user can act on; None for a bug."""
    if isinstance(error, ToytaskError):
        return str(error), error.exit_code
    if isinstance(error, typer.TyperException):
        return _global_option(error) or error.format_message(), error.exit_code
    if isinstance(error, OSError):
        name = error.filename or "standard input or output"
        return f"cannot use {name}: {error.strerror or error}", 1
    if _is_out_of_memory(error):
        return "not enough memory: use a smaller batch or model, fewer digits, or free some", 1
    return None


def _global_option(error: typer.TyperException) -> str | None:
    """Return what to type where an option of `toytask` itself follows a command."""
    option, context = getattr(error, "option_name", None), getattr(error, "ctx", None)
    if option is None or context is None or context.parent is None:
        return None
    if not any(option in parameter.opts for parameter in context.parent.command.params):
        return None
    return f"{option} comes before the command: toytask {option} {context.info_name}"


def _is_out_of_memory(error: Exception) -> bool:
    """Return whether memory ran out; on a CPU PyTorch's error differs from others by text alone."""
    texts = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or (
        isinstance(error, RuntimeError) and any(text in str(error) for text in texts)
    )
