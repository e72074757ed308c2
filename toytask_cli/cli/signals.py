"""Ctrl-C, and a system's request to end: the first lets work end in order, the second does not."""

import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from types import FrameType


def leave_while_starting() -> None:
    """Has Ctrl-C end the program at once, without a word, until PyTorch has been imported.

    Amid its import PyTorch swallows an interrupt, and goes on without numpy. By then nothing has
    been done that could be lost. Whoever has the program ignore Ctrl-C has it ignored.
    """
    if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
        signal.signal(signal.SIGINT, _interrupt)


def _interrupt(number: int, frame: FrameType | None) -> None:
    torch = sys.modules.get("torch")
    if torch is None or getattr(torch.__spec__, "_initializing", False):
        os._exit(128 + number)
    signal.default_int_handler(number, frame)


class StopRequest:
    """A question: was the program asked to stop?"""

    def __init__(self) -> None:
        self.signal: int | None = None

    def __call__(self) -> bool:
        """Whether a signal came."""
        return self.signal is not None

    @property
    def exit_code(self) -> int:
        """What a shell expects of a program that a signal ended: 130 or 143."""
        return 128 + (self.signal or 0)


@contextmanager
def stop_on_signal(say: Callable[[str], None]) -> Iterator[StopRequest]:
    """Turns SIGINT and SIGTERM into a request, and the second of them into `SystemExit`."""
    stop = StopRequest()

    def ask(number: int, frame: FrameType | None) -> None:
        if stop():
            sys.exit(128 + number)
        stop.signal = number
        with suppress(RuntimeError):  # the signal came amid another message
            say("stopping after this step; Ctrl-C again leaves at once")

    before = {number: signal.signal(number, ask) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield stop
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
