"""A training run that is ended, at any moment, can be resumed to what an undisturbed one leaves.

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
from conftest import TINY, TOYTASK, Command, environment, options

from toytask_cli.errors import ToytaskError
from toytask_cli.recipe import Recipe
from toytask_cli.runs import files
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session

CPU = torch.device("cpu")
LONGER = TINY | {"epochs": 100, "separate_epochs": 40, "learnt_accuracy": 0.3}
TRAIN = ["train", "--no-figures", "--precision", "float32", *options(LONGER)]
ENVIRONMENT = environment()


def outcome(run: Path) -> dict[str, object]:
    """What a run leaves, apart from times."""
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


def trains_and_dies(recipe: Recipe, precision: torch.dtype, place: Path, *when: Any) -> int:
    """Trains in a copy of this process; gives the child's exit code, negative for a signal."""
    child = os.fork()
    if child:
        return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    try:
        dies_in_write(*when)
        Session.start(recipe, CPU, precision, place).train()
        os._exit(0)
    except BaseException:
        os._exit(1)


def loads_or_says_how_to_go_on(place: Path) -> bool:
    try:
        run = Run.open(place)
        run.model(run.grid(), CPU)
    except ToytaskError as error:
        is_run = (place / "config.json").exists()
        return "\n" not in str(error) and ("--resume" if is_run else "is no run") in str(error)
    return True


def dies_in_write(number: int, is_whole: bool) -> None:
    """Has this process kill itself in its write of this number, before or after the last byte."""
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
    recipe = replace(tiny, epochs=6, separate_epochs=2)
    Session.start(recipe, CPU, precision, tmp_path / "undisturbed").train()
    for number in range(1, 100):
        place = tmp_path / str(number)
        code = trains_and_dies(recipe, precision, place, number, is_whole)
        if code == 0:  # that was one more than it has
            break
        assert code == -signal.SIGKILL
        assert loads_or_says_how_to_go_on(place)
        if (place / "config.json").exists():
            Session.resume(Run.open(place), None, CPU).train()
            assert outcome(place) == outcome(tmp_path / "undisturbed")
        else:
            assert not (place / "metrics.jsonl").exists(), "a finished epoch would be lost"
    assert number > (3 if is_whole else 9)


# At any moment


@pytest.fixture(scope="module")
def undisturbed(tmp_path_factory: pytest.TempPathFactory) -> tuple[dict[str, object], float]:
    """What the command leaves, and how many seconds it takes."""
    place = tmp_path_factory.mktemp("undisturbed")
    start = time.perf_counter()
    command = [*TOYTASK, *TRAIN]
    subprocess.run(command, cwd=place, env=ENVIRONMENT, check=True, capture_output=True)
    return outcome(place / "runs" / "01"), time.perf_counter() - start


def ended(place: Path, after: float, number: int) -> tuple[int, str]:
    """Exit code, and what was said, of a training that got this signal after so many seconds."""
    command = [*TOYTASK, *TRAIN]
    with subprocess.Popen(
        command, cwd=place, env=ENVIRONMENT, text=True,
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE,
    ) as process:  # fmt: skip
        time.sleep(after)
        process.send_signal(number)
        said = process.communicate()[1]
    return process.returncode, said


def has_finished(run: Path) -> bool:
    """Whether it was ended after its last word, when there is nothing left to go on with."""
    report = run / "reports" / "train.json"
    return report.exists() and json.loads(report.read_text())["status"] == "finished"


@pytest.mark.parametrize("name", ["SIGKILL", "SIGTERM", "SIGINT"])
def test_ended_at_a_random_moment_a_run_resumes_to_the_same_bytes(
    toytask: Command, undisturbed, tmp_path, monkeypatch, rounds, name
):
    expected, seconds = undisturbed
    number = signal.Signals[name]
    draw = random.Random(name)
    for count in range(rounds or 1):
        place = tmp_path / str(count)
        place.mkdir()
        monkeypatch.chdir(place)
        after = draw.uniform(0.4, 1.0) * seconds
        code, said = ended(place, after, number)
        when = f"{name} after {after:.3f} s: {code}, {said}"
        # -number: it came before there was a run to save, or after all was done.
        assert code in (0, -number) or (code == 128 + number and name != "SIGKILL"), when
        resumed = "--resume runs/01"
        if not Path("runs/01/config.json").exists():
            assert "resume" not in said, when
            resumed = f"--out runs/02 {' '.join(TRAIN[1:])}"
        elif code == 128 + number and not has_finished(Path("runs/01")):
            assert "next: toytask train --resume runs/01" in said or "epoch" not in said, when
        result = toytask("train", "--no-figures", *resumed.split())
        assert (result.code, "Traceback" in said) == (0, False), f"{when}; {result.err}"
        run = "runs/01" if "resume" in resumed else "runs/02"
        assert outcome(Path(run)) == expected, when
