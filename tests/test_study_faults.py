"""A study whose runs, driver or disk fail: nothing finished is lost, nothing is left behind."""

import errno
import json
import os
import shutil
import signal
import tempfile
import time
from pathlib import Path

import pytest
from conftest import SMALL, STUDY, Command, all_files, options
from processes import start

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files
from toytask_cli.runs.run import Run
from toytask_cli.runs.study_directory import StudyDirectory
from toytask_cli.studies.drive import drive
from toytask_cli.studies.one_run import train_and_measure
from toytask_cli.studies.plan import Plan, cross
from toytask_cli.studies.workers import LocalRuns, RunFailedError, local_workers

SAME = ["study", *options(SMALL), *STUDY, "--no-figures"]
IDS = [f"split-{split}-seed-{seed}" for split in (0, 1) for seed in (0, 1)]


class Killer:
    """An observer that kills the first process it sees in training."""

    def __init__(self, runs: LocalRuns):
        self.runs = runs
        self.killed = False
        self.failures: list[tuple[str, bool]] = []

    def finished(self, run, values):
        pass

    def failed(self, run, reason, again):
        self.failures.append((reason, again))

    def refresh(self, progress):
        if not self.killed and any(progress.values()):
            (_, process) = next(iter(self.runs.running.values()))
            process.kill()
            self.killed = True


def test_a_run_that_is_killed_is_tried_once_more_to_the_same_bytes(studied, here):
    runs = cross("default", [SMALL], {}, seeds=[0], split_seeds=[0])
    plan = Plan(runs, (), (0.1,), "float32", 1)
    study = StudyDirectory.create(Path("study"), plan.to_json())
    with local_workers(1) as workers:
        killer = Killer(workers.train.__self__)
        failed = drive(
            plan, study, runs, workers, device="cpu", observer=killer, stop=lambda: False
        )
    assert failed == {}
    assert killer.failures == [("killed by SIGKILL (out of memory?)", True)]
    again, undisturbed = here / "study", studied / "runs" / "study-01"
    for name in ("model.safetensors", "reports/importance.safetensors", "config.json"):
        path = Path(runs[0].id) / name
        assert (again / path).read_bytes() == (undisturbed / path).read_bytes()


@pytest.mark.usefixtures("studies_here")
def test_a_run_that_diverges_is_listed_with_its_reason_and_the_rest_goes_on(toytask: Command, here):
    args = ["--vary", "lr=1e30,0.004", "--jobs", "2", "--clip", "0", "--optimizer", "adamw"]
    result = toytask("study", *options(SMALL), *args, "--no-figures")
    assert result.code == 1
    assert result.err.count("lr-1e+30-seed-0 failed: the loss is no longer a number") == 2
    assert result.err.endswith("next: toytask study runs/study-01 --jobs 2\n")
    report = json.loads(Path("runs/study-01/reports/study.json").read_text())
    assert [run["status"] for run in report["runs"]] == ["failed", "finished"]
    assert "no longer a number" in report["runs"][0]["reason"]
    assert "no longer a number" in result.out


def job_of(**fields: object) -> dict[str, object]:
    """The job of a run of one epoch."""
    runs = cross("default", [SMALL, {"epochs": 1, "separate_epochs": 0, **fields}], {})
    return Plan(runs, (), (0.1,), "float32", 1).job(runs[0], "runs/x", "cpu")


def test_a_model_that_has_learnt_nothing_is_a_finding_and_no_failure(here):
    train_and_measure(job_of(), here / "run")
    values = Run.open(here / "run").read_report("study")["values"]
    assert values["accuracy.sum"] < 0.2
    assert not any(name.startswith("removed") for name in values)


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        ({"version": "0.0.1"}, "the worker has toytask 0.1.0, the study 0.0.1"),
        ({"device": "gpu"}, "unknown device 'gpu'"),
        ({"recipe": {}}, "missing key"),
    ],
)
def test_a_job_that_cannot_be_done_gives_its_reason(here, change, reason):
    with pytest.raises(ToytaskError, match=reason):
        train_and_measure(job_of() | change, here / "run")


def test_the_reason_comes_back_from_the_process():
    with pytest.raises(RunFailedError, match="^the worker has toytask 0.1.0, the study 0.0.1$"):
        LocalRuns().train(job_of() | {"version": "0.0.1"})


# The driver


def wait_for(condition, seconds: float = 60.0) -> bool:
    """Return whether the condition comes true in this time."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        if condition():
            return True
        time.sleep(0.05)
    return False


def in_training(temporary: Path) -> list[Path]:
    """The directories of runs that have finished an epoch."""
    return [log.parent for log in temporary.glob("toytask-*/metrics.jsonl") if log.stat().st_size]


@pytest.fixture
def temporary(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of our own for temporary files, also of other processes."""
    path = tmp_path / "temporary"
    path.mkdir()
    monkeypatch.setenv("TMPDIR", str(path))
    monkeypatch.setattr(tempfile, "tempdir", None)
    return path


def begin(studied: Path, *names: str) -> Path:
    """The study in the present directory, only these of its runs finished."""
    finished, study = studied / "runs" / "study-01", Path("runs/study-01")
    study.mkdir(parents=True)
    shutil.copy(finished / "study.json", study)
    for name in names:
        shutil.copytree(finished / name, study / name)
    return study


def is_undisturbed(study: Path, studied: Path) -> bool:
    """Return whether every run has the weights of the study that nothing happened to."""
    expected = studied / "runs" / "study-01"
    names = [path.relative_to(expected) for path in expected.glob("*/model.safetensors")]
    return len(names) == 4 and all(
        (study / name).read_bytes() == (expected / name).read_bytes() for name in names
    )


def test_a_killed_driver_leaves_whole_runs_only_and_no_process(
    studied, here, temporary, toytask: Command
):
    study = begin(studied, *IDS[:3])
    finished = all_files(study)
    driver = start(*SAME)
    assert wait_for(lambda: in_training(temporary))
    driver.kill()
    driver.communicate()
    assert wait_for(lambda: not list(temporary.iterdir())), "its run went on"
    assert not (study / IDS[3]).exists()
    assert toytask(*SAME).code == 0
    assert {path: path.read_bytes() for path in finished} == finished
    assert is_undisturbed(study, studied)


def test_an_interrupt_ends_the_runs_keeps_what_is_finished_and_names_what_goes_on(
    studied, here, temporary
):
    study = begin(studied, IDS[0])
    driver = start(*SAME, "--jobs", "1")
    assert wait_for(lambda: in_training(temporary))
    driver.send_signal(signal.SIGINT)
    out, err = driver.communicate()
    assert driver.returncode == 130
    assert list(temporary.iterdir()) == []
    assert "1 of 4 runs finished, 0 failed, 3 left" in out
    assert err.endswith("next: toytask study runs/study-01 --jobs 1\n")
    report = json.loads((study / "reports" / "study.json").read_text())
    assert [run["status"] for run in report["runs"]] == ["finished", "left", "left", "left"]


def test_a_disk_that_fills_up_in_mid_study_costs_no_finished_run(
    studied, here, toytask: Command, monkeypatch
):
    study = begin(studied, *IDS[:3])
    finished = all_files(study)

    def write_half(file, content: bytes) -> None:
        file.write(content[: len(content) // 2])
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(files, "write_all", write_half)
        result = toytask(*SAME)
    assert (result.code, result.out) == (1, "")
    assert result.err.count("error: ") == 1
    assert "make room on the disk, then go on with `toytask study runs/study-01`" in result.err
    result = toytask("study", "runs/study-01", "--no-figures")
    assert (result.code, "3 finished, 1 to train" in result.err) == (0, True)
    assert {path: path.read_bytes() for path in finished} == finished
    assert is_undisturbed(study, studied)
    assert not list(study.glob(f".*{files.PARTIAL}"))
