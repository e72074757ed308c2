"""Handle Ctrl-C and the system's request to end."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


def exit_on_early_interrupt() -> None:
    """Let Ctrl-C end the program at once, silently, until PyTorch has been imported.

    PyTorch swallows an interrupt during its import and goes on without numpy. Until then there is
    no work to lose. Ctrl-C stays ignored where the caller has it ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):
        os._exit(128 + number)
    signal.default_int_handler(number, frame)


class StopRequest:
    """The signal that asked the program to stop, if one came."""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Return whether a signal came."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """The exit code that a shell expects of a program ended by this signal: 130 or 143."""
        return 128 + (self.signal or 0)


@contextmanager
def stop_on_signal(print_message: Callable[[str], None]) -> Iterator[StopRequest]:
    """Turn the first SIGINT or SIGTERM into a request to stop, and the second into `SystemExit`."""
    stop = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop():
            sys.exit(128 + number)
        stop.signal = number
        with suppress(RuntimeError):  # the signal came while another message was written
            print_message("stopping after this step; Ctrl-C again leaves at once")

    handlers = {number: signal.signal(number, handle) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)
