"""`toytask` in a process of its own: a copy of this one, which has loaded PyTorch already.

To load it again takes two seconds. What depends on how a program starts, such as variables that
Python reads, needs `TOYTASK` in place of this.
"""

import os
import signal
import subprocess
import sys
import traceback
from collections.abc import Callable
from typing import Any, NoReturn

import pexpect
from conftest import environment

from toytask_cli import __main__
from toytask_cli.cli import console


def spawn(*args: object, columns: int = 100, variables: Any = None, **how: Any) -> pexpect.spawn:
    """`toytask ARGS` in a pseudo-terminal."""
    become_toytask = successor(args, variables or {})
    return pexpect.spawn(
        sys.executable, preexec_fn=become_toytask, encoding="utf-8", timeout=60,
        dimensions=(40, columns), **how,
    )  # fmt: skip


def start(*args: object, **how: Any) -> "subprocess.Popen[str]":
    """`toytask ARGS`, its output captured unless that is said otherwise."""
    streams = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    become_toytask = successor(args, {})
    return subprocess.Popen(
        sys.executable,
        preexec_fn=become_toytask,  # noqa: PLW1509 - it uses no other thread
        **{"text": True, **streams, **how},
    )


def successor(args: tuple[object, ...], variables: dict[str, str]) -> Callable[[], NoReturn]:
    """Return what a copy of this process does in place of starting another program."""
    env = environment(**variables)
    for size in ("COLUMNS", "LINES"):
        env.pop(size, None)  # the terminal's own are asked

    def become_toytask() -> NoReturn:
        try:
            os.closerange(3, 1024)  # also that which waits for the start of another program
            os.environ.clear()
            os.environ.update(env)
            run_toytask([str(arg) for arg in args])
        finally:
            os._exit(1)

    return become_toytask


def run_toytask(args: list[str]) -> NoReturn:
    """Does in this process what `toytask ARGS` does in one of its own, and ends it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = os.fdopen(number, "w" if number else "r", closefd=False)
        setattr(sys, name, stream)
    console.out.cache_clear()
    console.err.cache_clear()
    sys.argv = ["toytask", *args]
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)  # as Python has it from its start
    code = 1
    try:
        __main__.main()
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)
