"""What surrounds the program: variables, the current directory, what its disk can do."""

import errno
import os
import subprocess

import pytest
from conftest import TINY_OPTIONS, TOYTASK, Command, environment

NUMBERS = ("COLUMNS", "LINES", "TERMINAL_WIDTH", "OMP_NUM_THREADS", "MKL_NUM_THREADS")


def shown(command: str, **variables: str) -> tuple[int, str, bool]:
    done = subprocess.run(
        [*TOYTASK, command],
        env=environment(**variables), capture_output=True, text=True, check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, "Traceback" in done.stderr  # OpenMP may warn


@pytest.mark.parametrize("value", ["abc", "", "-5", "²"])
def test_a_variable_that_holds_no_number_changes_nothing(here, value):
    assert shown("--help", **dict.fromkeys(NUMBERS, value)) == shown("--help")


def test_numbers_for_pytorch_that_are_none_change_nothing(toytask: Command, here, monkeypatch):
    for name in NUMBERS:
        monkeypatch.delenv(name, raising=False)
    expected = 0, toytask("data").out, False
    assert shown("data", **dict.fromkeys(NUMBERS, "abc")) == expected


def test_a_current_directory_that_is_gone_is_one_line(run):
    done = subprocess.run(
        ["sh", "-c", 'mkdir gone; cd gone; rmdir ../gone; exec "$@"', "sh",
         *TOYTASK, "eval", str(run.path.absolute()), "--no-figures"],
        env=environment(), capture_output=True, text=True, check=False,
    )  # fmt: skip
    message = "cannot use the current directory (No such file or directory): change to another one"
    assert (done.returncode, done.stdout, done.stderr) == (1, "", f"error: {message}\n")


@pytest.mark.parametrize(
    ("call", "reason"),
    [
        ("os.chmod", errno.EPERM), ("os.fchmod", errno.EPERM),
        ("mmap.mmap", errno.ENODEV), ("safetensors.safe_open", errno.ENODEV),
        ("fcntl.flock", errno.ENOLCK), ("fcntl.flock", errno.ENOTSUP),
        ("fcntl.flock", errno.EINVAL), ("os.fsync", errno.EINVAL), ("os.fsync", errno.ENOTSUP),
    ],
)  # fmt: skip
def test_a_disk_that_cannot_do_all_holds_a_run_all_the_same(
    toytask: Command, here, monkeypatch, call, reason
):
    def refuse(*args, **kwargs):
        raise OSError(reason, os.strerror(reason))

    monkeypatch.setattr(call, refuse)
    small = ["--epochs", "2", "--separate-epochs", "1", "--no-figures"]
    assert toytask("train", *TINY_OPTIONS, *small).code == 0
    assert toytask("eval", "--no-figures").code == 0
