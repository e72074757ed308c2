"""Handle Ctrl-C and the system's request to end."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType

HANGUP: int | None = getattr(signal, "SIGHUP", None)  # which Windows lacks


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
        """The exit code that a shell expects of a program ended by this signal, such as 130."""
        return 128 + (self.signal or 0)


@contextmanager
def stop_on_signal(print_message: Callable[[str], None]) -> Iterator[StopRequest]:
    """Turn the first SIGINT, SIGTERM or SIGHUP into a request to stop, a second to `SystemExit`.

    SIGHUP is ignored under `nohup`, and when it comes second: as a terminal closes, the kernel and
    the shell may both send one.
    """
    stop = StopRequest()

    def handle(number: int, frame: FrameType | None) -> None:
        if stop() and number == HANGUP:
            return
        if stop():
            sys.exit(128 + number)
        stop.signal = number
        with suppress(RuntimeError):  # the signal came while another message was written
            print_message("stopping after this step; Ctrl-C again leaves at once")

    handlers = {number: signal.signal(number, handle) for number in _stop_signals()}
    try:
        yield stop
    finally:
        for number, handler in handlers.items():
            signal.signal(number, handler)


def _stop_signals() -> list[int]:
    numbers: list[int] = [signal.SIGINT, signal.SIGTERM]
    if HANGUP is not None and signal.getsignal(HANGUP) is not signal.SIG_IGN:
        numbers.append(HANGUP)
    return numbers
