"""The command `toytask`: its subcommands, and how errors are shown."""

import atexit
import signal
import sys
import warnings
from io import TextIOWrapper
from typing import Annotated

import typer

from toytask_cli import __version__
from toytask_cli.cli.ablate import ablate
from toytask_cli.cli.chat import chat
from toytask_cli.cli.console import say_error
from toytask_cli.cli.data import data
from toytask_cli.cli.encoding_fallback import use_encoding_fallback
from toytask_cli.cli.eval import eval_
from toytask_cli.cli.importance import importance
from toytask_cli.cli.sparsity import sparsity
from toytask_cli.cli.train import train
from toytask_cli.errors import ToytaskError

app = typer.Typer(
    pretty_exceptions_enable=False, context_settings={"help_option_names": ["-h", "--help"]}
)
app.command("data")(data)
app.command("train")(train)
app.command("eval")(eval_)
app.command("sparsity")(sparsity)
app.command("importance")(importance)
app.command("ablate")(ablate)
app.command("chat")(chat)

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


def main() -> None:
    """Runs the command line. Exit codes: 0 done, 1 failed, 2 usage, 130 or 143 interrupted."""
    for stream in (sys.stdin, sys.stdout, sys.stderr):
        if isinstance(stream, TextIOWrapper):  # it may be closed, or be no file
            stream.reconfigure(errors=use_encoding_fallback())
    warnings.formatwarning = lambda message, *_, **__: f"warning: {message}\n"
    try:
        sys.exit(app(standalone_mode=False))
    except (ToytaskError, typer.TyperException) as error:
        if debug:
            raise
        say_error(error.format_message() if isinstance(error, typer.TyperException) else str(error))
        sys.exit(error.exit_code)
    except OSError as error:
        if debug:
            raise
        say_error(f"cannot use {error.filename or 'input or output'}: {error.strerror or error}")
        sys.exit(1)
    except (MemoryError, RuntimeError) as error:
        if debug or not _is_out_of_memory(error):
            raise
        say_error("not enough memory: use a smaller batch or model, fewer digits, or free some")
        sys.exit(1)
    finally:
        # What follows is the interpreter's own end, in which there is nothing to interrupt.
        atexit.register(signal.signal, signal.SIGINT, signal.SIG_IGN)


def _is_out_of_memory(error: Exception) -> bool:
    """PyTorch raises a RuntimeError for it, on a processor one that only its text tells apart."""
    said = ("out of memory", "can't allocate memory")
    return isinstance(error, MemoryError) or any(words in str(error) for words in said)
