"""Prepare the standard streams, so that a message or a closed stream never ends a command."""

import os
import re
import sys
from contextlib import suppress
from io import TextIOWrapper
from typing import cast

from toytask_cli.cli.encoding_fallback import register_encoding_fallback

TERMINAL_SIZES = ("COLUMNS", "LINES", "TERMINAL_WIDTH")  # environment variables
SIZE = re.compile(r"0*[1-9]\d{0,5}", re.ASCII)


class MessageStream(TextIOWrapper):
    """A stream that drops what the system refuses to write."""

    def write(self, text: str) -> int:
        """Write a text as far as the system accepts it; return its length."""
        with suppress(OSError):
            super().write(text)
        return len(text)

    def flush(self) -> None:
        """Write what is buffered, as far as the system accepts it."""
        with suppress(OSError):
            super().flush()


def prepare_streams() -> None:
    """Prepare stdin, stdout and stderr, and the size of the terminal, before anything is printed.

    Progress goes to stderr: whoever closes it, or fills its disk, must not end a training.
    """
    _open_closed_streams()
    errors = register_encoding_fallback()
    for stream in (sys.stdin, sys.stdout):
        cast(TextIOWrapper, stream).reconfigure(errors=errors)
    buffer = os.fdopen(sys.stderr.fileno(), "wb", closefd=False)
    sys.stderr = MessageStream(buffer, sys.stderr.encoding, errors, line_buffering=True)
    for variable in TERMINAL_SIZES:
        if not SIZE.fullmatch(os.environ.get(variable, "")):
            os.environ.pop(variable, None)  # rich prints nothing in 0 columns, and fails on others


def _open_closed_streams() -> None:
    """Open the null device for streams that the caller has closed.

    Each gets its own descriptor, the lowest that is free; else a file of the run would get it.
    """
    for name, mode in (("stdin", "r"), ("stdout", "w"), ("stderr", "w")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            setattr(sys, name, os.fdopen(descriptor, mode, encoding="utf-8", closefd=False))


def discard_unwritten() -> None:
    """Discard what stdout cannot write, so that Python's own flush at exit does not fail."""
    try:
        sys.stdout.flush()
    except OSError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
