"""The benchmarks that question a run: each runs to its end on a tiny one, and prints its table."""

import runpy
import sys
from pathlib import Path

import pytest

BENCHMARKS = Path(__file__).parent / "benchmarks"


@pytest.fixture
def table(trained: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]):
    """Runs a script on the tiny run; the lines it prints, each a list of cells."""

    def run(name: str, *options: object) -> list[list[str]]:
        monkeypatch.syspath_prepend(BENCHMARKS)
        script = BENCHMARKS / f"{name}.py"
        argv = [script, trained / "runs" / "01", *options]
        monkeypatch.setattr(sys, "argv", list(map(str, argv)))
        capsys.readouterr()
        runpy.run_path(str(script), run_name="__main__")
        lines = capsys.readouterr().out.splitlines()
        return [line.strip("| ").split(" | ") for line in lines if line]

    return run


def test_the_same_answers_are_asked_of_both_tasks(table, tmp_path: Path):
    header, _, *rows = table("same_answer", "--out", tmp_path)
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][:2] == ["sum, all", "20"]
    assert (tmp_path / "same-answer.png").exists()


def test_a_removed_task_is_learnt_anew_beside_the_first_time(table, tmp_path: Path):
    header, _, *rows = table("relearning", "--limit", 2, "--out", tmp_path)
    assert all(len(row) == len(header) for row in rows)
    assert [row[0] for row in rows] == ["sum"] * 5 + ["concat"] * 5
    assert (tmp_path / "relearning.png").exists()


def test_a_probe_looks_before_and_after_each_removal(table):
    header, _, *rows = table("probe")
    assert header == ["probe on", "sum %", "concat %"]
    assert len(rows) == 8


def test_saes_trained_afterwards_stand_beside_the_joint_one(table, tmp_path: Path):
    lines = table("frozen", "--epochs", 2, "--out", tmp_path)
    assert [row[0] for row in lines[2:5]] == [
        "trained with the model",
        "trained afterwards, β 0",
        "trained afterwards, β 0.02",
    ]
    assert len(lines[7:]) == 3 * 2 * 2
    assert (tmp_path / "frozen.png").exists()
