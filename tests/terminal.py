"""`toytask` in a pseudo-terminal."""

import os
import sys
import traceback
from typing import Any, NoReturn

import pexpect
from conftest import environment

from toytask_cli import __main__
from toytask_cli.cli import console


def spawn(*args: object, columns: int = 100, variables: Any = None, **how: Any) -> pexpect.spawn:
    """`toytask ARGS` in a pseudo-terminal.

    It is a copy of this process, which has loaded PyTorch; to load it again takes two seconds.
    """
    env = environment(**(variables or {}))
    for size in ("COLUMNS", "LINES"):
        env.pop(size, None)  # the terminal's own are asked

    def become_toytask() -> None:
        try:
            os.closerange(3, 1024)  # also that which waits for the start of another program
            os.environ.clear()
            os.environ.update(env)
            run_toytask([str(arg) for arg in args])
        finally:
            os._exit(1)

    return pexpect.spawn(
        sys.executable, preexec_fn=become_toytask, encoding="utf-8", timeout=60,
        dimensions=(40, columns), **how,
    )  # fmt: skip


def run_toytask(args: list[str]) -> NoReturn:
    """Does in this process what `toytask ARGS` does in one of its own, and ends it."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        stream = os.fdopen(number, "w" if number else "r", closefd=False)
        setattr(sys, name, stream)
    console.out.cache_clear()
    console.err.cache_clear()
    sys.argv = ["toytask", *args]
    code = 1
    try:
        __main__.main()
    except SystemExit as left:
        code = int(left.code or 0)
    except BaseException:
        traceback.print_exc()
    sys.stdout.flush()
    os._exit(code)
