"""Each experiment runs to its end on a tiny run and prints its tables; each script has a help."""

import runpy
import sys
from collections.abc import Callable
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, all_files

from toytask_cli.dataset import build_grid
from toytask_cli.recipe import resolve

BENCHMARKS = Path(__file__).parent / "benchmarks"
SCRIPTS = sorted(path for path in BENCHMARKS.glob("*/*.py") if path.name != "shared.py")
OWN = {path.stem for path in BENCHMARKS.glob("*/*.py")}
Script = Callable[..., str]


@pytest.fixture
def script(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Script:
    """Runs a script in this process and returns what it prints."""

    def run(path: Path, *args: object) -> str:
        # Both folders have a module `shared`.
        for name in OWN & sys.modules.keys():
            monkeypatch.delitem(sys.modules, name)
        monkeypatch.syspath_prepend(path.parent)
        monkeypatch.setattr(sys, "argv", list(map(str, [path, *args])))
        capsys.readouterr()
        runpy.run_path(str(path), run_name="__main__")
        return capsys.readouterr().out

    return run


@pytest.fixture
def table(trained: Path, script: Script) -> Callable[..., list[list[str]]]:
    """Runs an experiment on the tiny run and returns the lines it prints, each a list of cells."""

    def run(name: str, *args: object, run: object = trained / "runs/01") -> list[list[str]]:
        path = BENCHMARKS / "experiments" / f"{name}.py"
        lines = script(path, run, *args).splitlines()
        return [line.strip("| ").split(" | ") for line in lines if line]

    return run


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.stem)
def test_every_script_has_a_help_and_names_its_own_path(path: Path, script: Script):
    with pytest.raises(SystemExit) as end:
        script(path, "--help")
    assert not end.value.code
    assert f"python {path.relative_to(BENCHMARKS.parent.parent)} " in path.read_text()


def test_both_tasks_are_asked_for_the_same_answers(table, tmp_path: Path):
    header, _, *rows = table("same_answer", "--out", tmp_path)
    assert all(len(row) == len(header) for row in rows)
    assert rows[0][:2] == ["sum, all", "20"]
    assert (tmp_path / "same-answer.png").exists()


def test_saes_trained_afterwards_are_compared_with_the_joint_one(table, tmp_path: Path):
    lines = table("frozen", "--epochs", 2, "--out", tmp_path)
    assert [row[0] for row in lines[2:5]] == [
        "trained with the model",
        "trained afterwards, β 0",
        "trained afterwards, β 0.2",
    ]
    assert len(lines[7:]) == 3 * 2 * 2
    assert (tmp_path / "frozen.png").exists()


def test_ways_of_removal_are_compared_with_a_control_and_measured_once(toytask, table, here):
    train = [*TINY_OPTIONS, "--batch-size", "16", "--no-figures"]  # enough to learn concat
    toytask("train", *train, "--out", "study/seed-0")
    for error in ("keep", "drop"):
        removal = ("--remove", "concat", "--tolerance", "0.1", "--error", error, "--no-figures")
        toytask("ablate", "study/seed-0", *removal)
    args = ("--seeds", 0, "--ways", 4, "--steps", 6, "--out", "lasting")
    _, _, *rows = table("lasting", *args, run="study")
    assert [row[0] for row in rows] == [
        "taught the other task alone",
        "mask, error kept",
        "mask, error dropped",
        "student of the mask, error kept",
    ]
    assert rows[0][4:6] == ["1.00", "1.00"]
    assert all(float(row[4]) < 1 for row in rows[1:3])
    before = all_files(here / "lasting")
    assert table("lasting", *args, run="study")[2:] == rows
    assert all_files(here / "lasting") == before


def test_spelled_examples_read_the_same_with_a_token_for_each_character(monkeypatch):
    folder = BENCHMARKS / "experiments"
    monkeypatch.delitem(sys.modules, "shared", raising=False)
    monkeypatch.syspath_prepend(folder)
    grid = build_grid(resolve("default", {"digits": 1}))
    spelled = runpy.run_path(str(folder / "characters.py"))["spelled"](grid)
    assert {len(token) for token in spelled.tokenizer.tokens} == {1}
    for task in range(2):
        for rows in ("prompts", "answers"):
            whole, single = (getattr(each, rows)[task].tolist() for each in (grid, spelled))
            assert [spelled.tokenizer.decode(ids) for ids in single] == [
                grid.tokenizer.decode(ids) for ids in whole
            ]


@pytest.mark.usefixtures("studies_here")
def test_kinds_are_compared_by_what_the_study_of_each_found(toytask, table, here):
    varied = ("--sae", "topk", "--vary", "beta=0.2", "--seeds", 0)
    toytask("study", *TINY_OPTIONS, *varied, "--no-figures", "--out", "topk")
    header, _, row = table("kinds", "--out", here, run="topk")
    assert row[:3] == ["topk", "", "0.2"]
    assert len(row) == len(header)
    assert (here / "kinds.png").exists()
