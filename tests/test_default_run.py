"""The run that a command takes if none is named, and the reference, which is kept as it is."""

import io
import os
import shutil
import sys
import tomllib
from pathlib import Path

import pytest
from conftest import Command, all_files

from toytask_cli.runs import paths
from toytask_cli.runs.run import Run

WRITERS = [["eval"], ["sparsity"], ["importance"], ["ablate", "--remove", "concat"]]
REFERENCE = Path("runs/reference")


@pytest.fixture
def reference(trained: Path, here: Path) -> Path:
    """A finished run as `runs/reference`, with a file that the program did not make."""
    shutil.copytree(trained / "runs" / "01", REFERENCE)
    (REFERENCE / "notes.txt").write_text("mine")
    return REFERENCE


def add_run(name: str, age: float) -> Path:
    """A copy of the reference whose training ended this long ago, in seconds."""
    run = Path(shutil.copytree(REFERENCE, Path("runs") / name))
    ended = os.stat(REFERENCE / "model.safetensors").st_mtime - age
    os.utime(run / "model.safetensors", (ended, ended))
    return run


def test_the_newest_run_is_the_one_trained_last_whatever_its_name(reference):
    middle, old, new = add_run("09", 200), add_run("10", 300), add_run("mine", 100)
    assert Run.open(None).path == new
    shutil.rmtree(new)
    assert Run.open(None).path == middle
    shutil.rmtree(middle)
    assert Run.open(None).path == old


def test_of_runs_trained_at_the_same_time_the_larger_number_is_newer(reference):
    for name in ("99", "100", "98"):
        add_run(name, 100)
    assert Run.open(None).path == Path("runs/100")


def test_any_other_run_comes_before_the_reference(reference):
    own = add_run("mine", 10**6)
    assert Run.open(None).path == own
    (own / "model.safetensors").unlink()
    assert Run.open(None).path == own


@pytest.mark.parametrize("command", WRITERS, ids=lambda c: c[0])
def test_what_is_measured_on_the_reference_by_default_goes_to_a_copy(
    toytask: Command, reference, command
):
    before = all_files(reference)
    result = toytask(*command, "--no-figures")
    assert result.code == 0, result.err
    said = "runs/reference stays as it is: writing into a copy, runs/01\n"
    assert result.err.startswith(said)
    assert "next: toytask" in result.err
    assert "runs/reference" not in result.out + result.err.removeprefix(said)
    assert all_files(reference) == before
    written = {p.relative_to("runs/01") for p in all_files(Path("runs/01"))}
    assert Path("notes.txt") not in written
    assert Path("checkpoint.safetensors") not in written
    again = toytask(*command, "--no-figures")
    assert (again.code, "stays as it is" in again.err) == (0, False)
    assert again.out == result.out
    assert sorted(os.listdir("runs")) == ["01", "reference"]


def test_the_copy_is_a_whole_run(toytask: Command, reference):
    toytask("ablate", "runs/reference", "--remove", "sum", "--name", "no-sum", "--no-figures")
    toytask("importance", "runs/reference", "--no-figures")
    toytask("eval", "--no-figures")
    copy = Run.open(None)
    for name in ("config.json", "model.safetensors", "metrics.jsonl"):
        assert (copy.path / name).read_bytes() == (reference / name).read_bytes()
    assert copy.read_ablation("no-sum") == Run.open(reference).read_ablation("no-sum")
    assert copy.read_tensors("importance").keys()
    assert copy.read_report("train")["status"] == "finished"


def test_the_reference_is_written_to_where_it_is_named(toytask: Command, reference):
    result = toytask("eval", "runs/reference", "--no-figures")
    assert "wrote runs/reference/reports/eval.json" in result.err
    assert os.listdir("runs") == ["reference"]


def test_what_only_reads_takes_the_reference_itself(toytask: Command, reference, monkeypatch):
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b"4+7\n")))
    assert toytask("chat").out.startswith("4+7 = ")
    assert os.listdir("runs") == ["reference"]


def test_bad_input_makes_no_copy(toytask: Command, reference):
    assert toytask("eval", "--split", "tset").code == 2
    assert toytask("ablate", "--remove", "cncat").code == 2
    assert os.listdir("runs") == ["reference"]


def test_without_any_other_run_the_one_in_the_wheel_is_measured_in_a_copy(
    toytask: Command, reference, monkeypatch
):
    monkeypatch.setattr(paths, "REFERENCES", (REFERENCE, Path("wheel")))
    shutil.copytree(reference, "wheel")
    assert Run.open(None).path == reference
    shutil.rmtree("runs")
    before = all_files(Path("wheel"))
    result = toytask("eval", "--no-figures")
    assert result.err.startswith("wheel stays as it is: writing into a copy, runs/01\n")
    assert "wrote runs/01/reports/eval.json" in result.err
    assert all_files(Path("wheel")) == before


def test_the_wheel_has_the_reference_where_it_is_looked_for():
    root = Path(__file__).parent.parent
    wheel = tomllib.loads((root / "pyproject.toml").read_text())["tool"]["hatch"]["build"]
    target = wheel["targets"]["wheel"]["sources"]["runs/reference"]
    assert root / target == paths.REFERENCES[1]
