"""Faults of disks and other processes: nothing is lost, and one line says what is wrong.

The full count: python -m pytest tests/test_faults.py --rounds 20
"""

import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY_OPTIONS, Command, Result, environment
from processes import start

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files
from toytask_cli.runs.paths import create_numbered
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session

CPU = torch.device("cpu")
ENVIRONMENT = environment()
READERS = [
    ["eval"], ["sparsity"], ["importance", "--pairs", "9"], ["ablate", "--remove", "concat"],
]  # fmt: skip


@pytest.fixture
def disk(tmp_path, monkeypatch) -> Iterator[Path]:
    """A disk of 4 MB, in which we are."""
    root = tmp_path / "disk"
    root.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(root)]
    if shutil.which("mount") is None or _fails(mount):
        pytest.skip("mounting a small disk takes the rights of root")
    monkeypatch.chdir(root)
    yield root
    monkeypatch.undo()
    subprocess.run(["umount", "-l", str(root)], check=True)


def _fails(command: list[str]) -> bool:
    return subprocess.run(command, capture_output=True, check=False).returncode != 0


def snapshot(root: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in sorted(root.rglob("*")) if p.is_file()}


def fill(disk: Path, leave: int) -> Path:
    """A file that leaves so many bytes free."""
    ballast = disk / "ballast"
    with ballast.open("wb") as file:
        free = os.statvfs(disk).f_bavail * os.statvfs(disk).f_bsize
        file.write(bytes(max(0, free - leave)))
    return ballast


def is_one_line(result: Result, *words: str) -> bool:
    return (
        result.code == 1
        and result.err.count("error: ") == 1
        and result.err.strip().splitlines()[-1].startswith("error: ")
        and all(word in result.err for word in words)
    )


def is_shown_and_not_kept(result: Result, *words: str) -> bool:
    warning = result.err.splitlines()[-1]
    return (
        result.code == 0
        and warning.startswith("warning: this was not kept: cannot write ")
        and all(word in warning for word in words)
        and "wrote" not in result.err
    )


# Disks


@pytest.mark.parametrize("epochs_before_it_is_full", [0, 1, 5])
def test_training_on_a_disk_that_fills_up_goes_on_once_there_is_room(
    disk, tiny, epochs_before_it_is_full
):
    Session.start(tiny, CPU, torch.float32, disk / "whole").train()
    expected = (disk / "whole" / "model.safetensors").read_bytes()
    session = Session.start(tiny, CPU, torch.float32, disk / "run")
    if not epochs_before_it_is_full:
        fill(disk, leave=0)

    def count(record):
        if record.epoch == epochs_before_it_is_full:
            fill(disk, leave=0)

    with pytest.raises(ToytaskError, match=r"cannot write .*make room.*--resume .*run`") as error:
        session.train(on_epoch=count)
    assert "\n" not in str(error.value)
    (disk / "ballast").unlink()
    Session.resume(Run.open(disk / "run"), None, CPU).train()
    assert (disk / "run" / "model.safetensors").read_bytes() == expected
    assert not list(disk.rglob("*.partial"))


@pytest.mark.parametrize("command", READERS, ids=lambda c: c[0])
def test_a_full_disk_costs_no_older_report_and_hides_no_result(
    toytask: Command, trained, disk, command
):
    shutil.copytree(trained / "runs", disk / "runs")
    shown = toytask(*command, "--no-figures")
    assert shown.code == 0
    before = snapshot(disk / "runs")
    ballast = fill(disk, leave=0)
    result = toytask(*command, "--no-figures")
    assert is_one_line(result, "cannot write runs/01/", "make room")
    assert result.out == shown.out
    ballast.unlink()
    assert snapshot(disk / "runs") == before


@pytest.mark.parametrize("leave", [0, 60_000])
def test_no_part_of_a_copy_of_the_reference_is_left_on_a_full_disk(
    toytask: Command, trained, disk, leave
):
    shutil.copytree(trained / "runs" / "01", disk / "runs" / "reference")
    fill(disk, leave)
    result = toytask("eval", "--no-figures")
    assert is_one_line(result, "cannot write runs/", "make room")
    assert result.out.startswith("exact match on the test split of runs/reference\n")
    assert os.listdir("runs") == ["reference"]


def test_there_is_no_run_where_the_disk_is_full_from_the_start(toytask: Command, disk):
    ballast = fill(disk, leave=0)
    assert is_one_line(toytask("train", *TINY_OPTIONS), "cannot write runs/01/checkpoint")
    assert is_one_line(toytask("data", "--out", "d"), "cannot write d/tokens.safetensors")
    ballast.unlink()
    assert toytask("train", *TINY_OPTIONS, "--no-figures").code == 0


@pytest.mark.parametrize(
    "command", [["train", *TINY_OPTIONS], ["data", "--out", "d"]], ids=lambda c: c[0]
)
def test_a_read_only_disk_is_one_line(toytask: Command, disk, command):
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    assert is_one_line(toytask(*command), "Read-only file system")


@pytest.mark.parametrize("name", ["01", "reference"])
@pytest.mark.parametrize("command", READERS, ids=lambda c: c[0])
def test_on_a_read_only_disk_results_are_shown_and_not_kept(
    toytask: Command, trained, disk, command, name
):
    shutil.copytree(trained / "runs" / "01", disk / "runs" / name)
    shown = toytask(*command, f"runs/{name}", "--no-figures", "--json").out
    subprocess.run(["mount", "-o", "remount,ro", str(disk)], check=True)
    result = toytask(*command, "--json")
    assert is_shown_and_not_kept(result, "Read-only file system")
    assert result.out == shown


@pytest.mark.parametrize("command", READERS, ids=lambda c: c[0])
def test_of_a_run_of_somebody_else_results_are_shown_and_not_kept(
    toytask, trained, tmp_path, monkeypatch, command
):
    closed = tmp_path / "closed"
    closed.mkdir(mode=0o700)
    monkeypatch.chdir(closed)
    run = shutil.copytree(trained / "runs" / "01", tmp_path / "run")
    name, *options = command
    shown = toytask(name, run, *options, "--no-figures").out
    before = snapshot(run)
    for folder in (run, run / "reports", run / "ablations", run / "figures"):
        folder.chmod(0o555)
    with as_nobody(tmp_path):
        result = toytask(name, run, *options)
    assert is_shown_and_not_kept(result, "Permission denied", "a copy of your own")
    assert result.out == shown
    assert snapshot(run) == before


@contextmanager
def as_nobody(reach: Path) -> Iterator[None]:
    """Root may do anything, so for a while this process is somebody else."""
    was_root = os.geteuid() == 0
    if was_root:
        for folder in (reach, *reach.parents[:-2]):
            folder.chmod(folder.stat().st_mode | 0o055)
        os.seteuid(65534)
    try:
        yield
    finally:
        if was_root:
            os.seteuid(0)


def test_a_run_whose_directory_vanishes_is_one_line(tmp_path, tiny):
    session = Session.start(tiny, CPU, torch.float32, tmp_path / "run")

    def vanish(record):
        if record.epoch == 3:
            shutil.rmtree(tmp_path / "run")

    with pytest.raises(ToytaskError, match=r"cannot write .*its directory is gone") as error:
        session.train(on_epoch=vanish)
    assert "\n" not in str(error.value)
    assert not (tmp_path / "run").exists()


# Time


def test_a_clock_that_runs_backwards_changes_nothing(tmp_path, tiny, monkeypatch):
    Session.start(tiny, CPU, torch.float32, tmp_path / "whole").train()
    clock = iter(range(10**9, 0, -3600))
    monkeypatch.setattr(time, "time", lambda: float(next(clock)))
    session = Session.start(tiny, CPU, torch.float32, tmp_path / "run")
    session.train(stop=lambda: session.trainer.progress.epoch == 5)
    for file in (tmp_path / "run").iterdir():
        os.utime(file, (4e9, 4e9))  # the year 2096
    Session.resume(Run.open(tmp_path / "run"), None, CPU).train()
    models = [(tmp_path / run / "model.safetensors").read_bytes() for run in ("whole", "run")]
    assert models[0] == models[1]
    seconds = [r["seconds"] for r in Run.open(tmp_path / "run").read_metrics()]
    assert all(0 < s < 60 for s in seconds)


# Other processes


def at_once(root: Path, commands: list[list[str]]) -> list[Result]:
    """Runs these side by side."""
    started = [start(*command, cwd=root) for command in commands]
    printed = [process.communicate() for process in started]
    return [
        Result(process.returncode, *texts) for process, texts in zip(started, printed, strict=True)
    ]


def test_trainings_that_start_together_take_a_number_each(tmp_path):
    train = ["train", *TINY_OPTIONS, "--no-figures"]
    done = at_once(tmp_path, [train] * 2)
    assert [d.code for d in done] == [0] * 2, [d.err for d in done]
    runs = sorted((tmp_path / "runs").iterdir())
    assert [run.name for run in runs] == ["01", "02"]
    assert len({(run / "model.safetensors").read_bytes() for run in runs}) == 1


def test_however_many_claim_a_number_each_gets_its_own(tmp_path, rounds):
    for count in range(rounds or 3):
        with ThreadPoolExecutor(16) as pool:
            created = list(pool.map(create_numbered, [tmp_path / str(count)] * 64))
        assert sorted(int(path.name) for path in created) == list(range(1, 65))


def test_commands_that_write_the_same_report_leave_a_whole_one(trained, tmp_path):
    shutil.copytree(trained / "runs", tmp_path / "runs")
    command = ["eval", "--no-figures", "--json"]
    done = at_once(tmp_path, [command] * 2)
    assert [d.code for d in done] == [0] * 2, [d.err for d in done]
    report = json.loads((tmp_path / "runs/01/reports/eval.json").read_text())
    assert all(json.loads(d.out) == report for d in done)
    assert not list(tmp_path.rglob("*.partial"))


def test_a_file_that_is_written_while_it_is_read_is_always_whole(tmp_path, rounds):
    path = tmp_path / "report.json"
    versions = [{"n": n, "filling": "x" * 50_000 * n} for n in range(1, 5)]
    files.write_json(path, versions[0])
    with ThreadPoolExecutor(4) as pool:
        for values in versions * (rounds or 5):
            pool.submit(files.write_json, path, values)
        for _ in range(20 * (rounds or 5)):
            assert files.read_json(path) in versions


def test_a_run_in_training_cannot_be_trained_by_another_process(tmp_path, tiny):
    session = Session.start(replace(tiny, epochs=6), CPU, torch.float32, tmp_path / "run")

    def resume_too(record):
        if record.epoch == 3:
            other = Session.resume(Run.open(tmp_path / "run"), None, CPU)
            with pytest.raises(ToytaskError, match="is being trained by another process"):
                other.train()

    assert session.train(on_epoch=resume_too)["epochs"] == 6


# Memory


@pytest.mark.skipif(sys.platform != "linux", reason="other systems do not limit it so")
def test_too_large_a_model_is_one_line(tmp_path):
    code = (
        "import resource, sys, torch\n"
        "from pathlib import Path\n"
        "from toytask_cli.cli.app import main\n"
        "held = int(Path('/proc/self/statm').read_text().split()[0]) * resource.getpagesize()\n"
        "resource.setrlimit(resource.RLIMIT_AS, (held + 2**30, -1))\n"
        "sys.argv = ['toytask', 'train', '--batch-size', '6000', '--d-ff', '20000']\n"
        "main()"
    )
    done = subprocess.run(
        [sys.executable, "-c", code],
        cwd=tmp_path, env=ENVIRONMENT, capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.splitlines()[-1].startswith("error: not enough memory: use a smaller batch")
    assert "Traceback" not in done.stderr
