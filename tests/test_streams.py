"""Streams that close, fill up or have gone, and terminals that can show little."""

import re
import signal
import subprocess
import sys
from pathlib import Path

import pexpect
import pytest
from conftest import TINY_OPTIONS, TOYTASK, environment
from memorised_run import memorised_run
from processes import spawn, start

from toytask_cli.cli.signals import stop_on_signal
from toytask_cli.runs.run import Run

NO_SPACE = "error: cannot use standard input or output: No space left on device\n"
has_full_device = pytest.mark.skipif(
    not Path("/dev/full").exists(), reason="a device without space is Linux's"
)


def shell(command: str, *args: object, **more: str) -> subprocess.CompletedProcess[str]:
    """Runs a shell's command line, in which `"$@"` stands for `toytask ARGS`."""
    return subprocess.run(
        ["sh", "-c", command, "sh", *TOYTASK, *map(str, args)],
        env=environment(**more), capture_output=True, text=True, check=False, timeout=120,
    )  # fmt: skip


def train_status() -> str:
    """The status of the newest run, whose weights can be read."""
    run = Run.open(None)
    run.read_saved_model(run.grid())
    return run.read_report("train")["status"]


# Streams that close or fill up


def test_a_training_goes_on_when_nobody_reads_its_output(here):
    with start("train", *TINY_OPTIONS, stderr=subprocess.STDOUT) as process:
        assert process.stdout is not None
        assert process.stdout.readline()
        process.stdout.close()
    assert process.returncode == 0
    assert train_status() == "finished"
    assert Run.open(None).has_figure("accuracy")


def test_figures_are_drawn_although_the_reader_of_the_results_has_stopped(tmp_path):
    run = memorised_run(tmp_path)
    with start("eval", run.path) as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.close()
        assert "next: toytask sparsity" in process.stderr.read()
    assert run.has_figure("eval-correctness")


def test_a_chat_ends_when_nobody_reads_its_answers(tmp_path):
    run = memorised_run(tmp_path)
    done = shell('yes 4+7 | "$@" | head -n 1', "chat", run.path)
    assert done.stdout.startswith("4+7 = 11")
    assert done.stderr == ""


@has_full_device
def test_a_training_goes_on_when_the_disk_under_its_log_is_full(here):
    with open("/dev/full", "w") as full:
        process = start("train", *TINY_OPTIONS, "--no-figures", stderr=full)
    out, _ = process.communicate(timeout=120)
    assert process.returncode == 0
    assert "best weights from epoch" in out
    assert train_status() == "finished"


@has_full_device
@pytest.mark.parametrize("option", ["--version", "--help"])
def test_a_full_disk_under_the_results_is_one_line(option):
    done = shell('"$@" >/dev/full', option)
    assert (done.returncode, done.stderr) == (1, NO_SPACE)
    assert shell('"$@" >/dev/full 2>/dev/full', option).returncode == 1


@has_full_device
def test_a_report_is_in_the_run_even_if_it_cannot_be_printed(tmp_path):
    run = memorised_run(tmp_path)
    with open("/dev/full", "w") as full:
        process = start("eval", run.path, "--no-figures", stdout=full)
    _, err = process.communicate(timeout=120)
    assert (process.returncode, err) == (1, NO_SPACE)
    assert run.read_report("eval")["tasks"].keys() == {"sum", "concat"}


# Streams that are closed from the start


def test_a_training_needs_no_stream_at_all(here):
    done = shell('"$@" <&- >&- 2>&-', "train", *TINY_OPTIONS, "--no-figures", "--json")
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")
    assert train_status() == "finished"


@pytest.mark.parametrize("closed", ["<&-", ">&-"])
def test_a_chat_without_input_or_output_ends_in_order(tmp_path, closed):
    run = memorised_run(tmp_path)
    done = shell(f'echo 4+7 | "$@" {closed}', "chat", run.path)
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


@pytest.mark.parametrize("closed", ["<&-", ">&-", "2>&-"])
def test_closed_streams_change_neither_results_nor_errors(closed):
    done, failed = (shell(f'"$@" {closed}', arg) for arg in ("--version", "evl"))
    assert (done.returncode, done.stderr, failed.returncode) == (0, "", 2)
    assert done.stdout.startswith("toytask ") == (closed != ">&-")
    assert failed.stderr.startswith("error: ") == (closed != "2>&-")


def test_no_file_gets_the_number_of_a_closed_stream():
    code = (
        "import os, sys, toytask_cli.__main__\n"
        "from toytask_cli.cli import app\n"
        "app.main = lambda: sys.exit(not all(\n"
        "    os.path.samestat(os.fstat(n), os.stat(os.devnull)) for n in (0, 1, 2)\n"
        "))\n"
        "toytask_cli.__main__.main()"
    )
    closed = ["sh", "-c", '"$@" <&- >&- 2>&-', "sh", sys.executable, "-c", code]
    assert subprocess.run(closed, check=False).returncode == 0


# Terminals


@pytest.mark.parametrize("columns", ["0", "00", "9" * 5000])
def test_a_width_that_no_terminal_has_is_ignored(columns):
    shown = [shell('"$@"', "--help", COLUMNS=width) for width in ("80", columns)]
    assert shown[0].stdout == shown[1].stdout != ""
    refused = shell('"$@"', "evl", COLUMNS=columns, LINES=columns)
    assert (refused.returncode, refused.stderr.count("\n")) == (2, 1)
    assert "Did you mean 'eval'" in refused.stderr


def spawn_training(*args: str, **more: str) -> pexpect.spawn:
    """A training in a pseudo-terminal."""
    return spawn("train", *TINY_OPTIONS, "--no-figures", *args, variables=more)


def test_a_terminal_that_cannot_redraw_gets_a_line_for_each_epoch(here):
    child = spawn_training(TERM="dumb")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
    assert "\x1b" not in child.before
    epochs = re.findall(r"^epoch (\d+) ", child.before, re.MULTILINE)
    assert list(map(int, epochs)) == list(range(1, 13))


def test_a_terminal_that_is_closed_leaves_the_best_weights(here, hangup):
    hangup(lambda *_: None)  # not ignored, as under `nohup`
    child = spawn_training("--epochs", "4000", "--learnt-accuracy", "1")
    child.expect("validation loss")
    child.ptyproc.fileobj.close()
    child.wait()
    assert child.exitstatus == 128 + signal.SIGHUP
    assert train_status() == "interrupted"


# Signals


@pytest.fixture
def hangup():
    """Sets what this process, and any that it starts, does about SIGHUP."""
    before = signal.getsignal(signal.SIGHUP)
    yield lambda action: signal.signal(signal.SIGHUP, action)
    signal.signal(signal.SIGHUP, before)


def test_a_second_hangup_is_ignored_and_another_second_signal_is_not(hangup):
    hangup(lambda *_: None)  # not ignored, and not the end of this process
    messages: list[str] = []
    with stop_on_signal(messages.append) as stop:
        signal.raise_signal(signal.SIGHUP)
        signal.raise_signal(signal.SIGHUP)
        assert (stop(), stop.exit_code, len(messages)) == (True, 129, 1)
        with pytest.raises(SystemExit, match="130"):
            signal.raise_signal(signal.SIGINT)


def test_a_hangup_that_the_caller_ignores_does_not_stop(hangup):
    hangup(signal.SIG_IGN)  # as `nohup` does
    with stop_on_signal(lambda message: None) as stop:
        signal.raise_signal(signal.SIGHUP)
        assert not stop()
