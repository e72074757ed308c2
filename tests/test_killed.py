"""A training that is interrupted at any moment, can be resumed to what an undisturbed one leaves.

The full count: python -m pytest tests/test_killed.py --rounds 100
"""

import json
import os
import random
import signal
import subprocess
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from conftest import TINY, Command, options
from processes import start

from toytask_cli.errors import ToytaskError
from toytask_cli.recipe import Recipe
from toytask_cli.runs import files
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session

CPU = torch.device("cpu")
LONGER = TINY | {"epochs": 25, "separate_epochs": 10, "learnt_accuracy": 0.3}
TRAIN = ["train", "--no-figures", "--precision", "float32", *options(LONGER)]


def outcome(run: Path) -> dict[str, object]:
    """Return what a run leaves, apart from times."""
    metrics = [json.loads(line) for line in (run / "metrics.jsonl").read_text().splitlines()]
    report = json.loads((run / "reports" / "train.json").read_text())
    return {
        "model": (run / "model.safetensors").read_bytes(),
        "config": (run / "config.json").read_bytes(),
        "checkpoint": (run / "checkpoint.safetensors").read_bytes(),
        "metrics": [{**m, "seconds": None} for m in metrics],
        "report": {**report, "seconds": None, "run": None, "sha256": None},
        "files": sorted(str(p.relative_to(run)) for p in run.rglob("*")),
    }


# Within a write


def train_and_die(recipe: Recipe, precision: torch.dtype, root: Path, *when: Any) -> int:
    """Train in a copy of this process; return its exit code, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        kill_in_write(*when)
        Session.start(recipe, CPU, precision, root).train()
        os._exit(0)
    except BaseException:
        os._exit(1)


def loads_or_names_the_next_step(root: Path) -> bool:
    try:
        run = Run.open(root)
        run.model(run.grid(), CPU)
    except ToytaskError as error:
        is_run = (root / "config.json").exists()
        return "\n" not in str(error) and ("--resume" if is_run else "is no run") in str(error)
    return True


def kill_in_write(number: int, is_whole: bool) -> None:
    """Have this process kill itself in a write, before or after its last byte."""
    write_all, rename, calls = files.write_all, Path.replace, 0

    def count() -> bool:
        nonlocal calls
        calls += 1
        return calls == number

    def write_half(file, content):
        if count():
            write_all(file, content[: len(content) // 2])
            os.kill(os.getpid(), signal.SIGKILL)
        write_all(file, content)

    def forget_to_rename(path, target):
        if count():
            os.kill(os.getpid(), signal.SIGKILL)
        return rename(path, target)

    if is_whole:
        Path.replace = forget_to_rename
    else:
        files.write_all = write_half


@pytest.mark.parametrize(
    ("is_whole", "precision"),
    [(False, torch.float32), (False, torch.bfloat16), (True, torch.float32)],
)
def test_killed_in_any_of_its_writes_a_run_resumes_to_the_same_bytes(
    tmp_path, tiny, is_whole, precision
):
    recipe = replace(tiny, epochs=4, separate_epochs=2)
    Session.start(recipe, CPU, precision, tmp_path / "undisturbed").train()
    for number in range(1, 100):
        root = tmp_path / str(number)
        code = train_and_die(recipe, precision, root, number, is_whole)
        if code == 0:  # that was one more than it has
            break
        assert code == -signal.SIGKILL
        assert loads_or_names_the_next_step(root)
        if (root / "config.json").exists():
            Session.resume(Run.open(root), None, CPU).train()
            assert outcome(root) == outcome(tmp_path / "undisturbed")
        else:
            assert not (root / "metrics.jsonl").exists(), "a finished epoch would be lost"
    assert number > (3 if is_whole else 9)


# At any moment


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], float]:
    """Return what the command leaves, and how many seconds it takes."""
    root = tmp_path_factory.mktemp("undisturbed")
    began = time.perf_counter()
    with start(*TRAIN, cwd=root) as process:
        process.communicate()
    assert process.returncode == 0
    return outcome(root / "runs" / "01"), time.perf_counter() - began


def train_until_signal(root: Path, after: float, number: int) -> tuple[int, str]:
    """Return exit code and stderr of a training that gets a signal after so many seconds."""
    with start(*TRAIN, cwd=root, stdout=subprocess.DEVNULL) as process:
        time.sleep(after)
        process.send_signal(number)
        printed = process.communicate()[1]
    return process.returncode, printed


def has_finished(run: Path) -> bool:
    """Return whether the run had finished when the signal came, so that nothing is left to do."""
    report = run / "reports" / "train.json"
    return report.exists() and json.loads(report.read_text())["status"] == "finished"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_interrupted_at_a_random_moment_a_run_resumes_to_the_same_bytes(
    toytask: Command, undisturbed, tmp_path, monkeypatch, rounds, name
):
    expected, seconds = undisturbed
    number = signal.Signals[name]
    draw = random.Random(name)
    for count in range(rounds or 1):
        root = tmp_path / str(count)
        root.mkdir()
        monkeypatch.chdir(root)
        after = draw.uniform(0.4, 1.0) * seconds
        code, printed = train_until_signal(root, after, number)
        when = f"{name} after {after:.3f} s: {code}, {printed}"
        # -number: it came before there was a run to save, or after all was done.
        assert code in (0, -number) or (code == 128 + number and name != "SIGKILL"), when
        resumed = "--resume runs/01"
        if not Path("runs/01/config.json").exists():
            assert "resume" not in printed, when
            resumed = f"--out runs/02 {' '.join(TRAIN[1:])}"
        elif code == 128 + number and not has_finished(Path("runs/01")):
            assert "next: toytask train --resume runs/01" in printed or "epoch" not in printed, when
        result = toytask("train", "--no-figures", *resumed.split())
        assert (result.code, "Traceback" in printed) == (0, False), f"{when}; {result.err}"
        run = "runs/01" if "resume" in resumed else "runs/02"
        assert outcome(Path(run)) == expected, when
