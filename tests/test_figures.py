"""What holds for all figures."""

import json
import shutil
import subprocess
from pathlib import Path

import pytest
import seaborn as sns
from conftest import TINY_OPTIONS, TOYTASK, Command, environment

from toytask_cli.figures.style import COLOURS
from toytask_cli.tasks import TASKS


@pytest.fixture
def copy(trained: Path, here: Path) -> Path:
    """A copy of the competent run, named `run`."""
    return Path(shutil.copytree(trained / "runs" / "01", "run"))


def test_a_colour_has_one_meaning():
    of_tasks = sns.color_palette("deep").as_hex()[: len(TASKS)]
    assert len({*of_tasks, *COLOURS.values()}) == len(TASKS) + len(COLOURS)


@pytest.mark.parametrize(
    "settings", [b"text.usetex: True\nfont.weight: bold\nbackend: TkAgg\nnonsense", b"\xff"]
)
def test_figures_are_the_same_whatever_a_user_has_set(toytask: Command, copy, settings):
    figure = copy / "figures" / "eval-correctness.png"
    toytask("eval", "run")
    expected = figure.read_bytes()
    figure.unlink()
    Path("matplotlibrc").write_bytes(settings)
    done = subprocess.run(
        [*TOYTASK, "eval", "run"],
        env=environment(MPLBACKEND="module://matplotlib_inline.backend_inline"),
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert (done.returncode, done.stderr.splitlines()) == (
        0,
        ["wrote run/reports/eval.json", "next: toytask sparsity run"],
    )
    assert figure.read_bytes() == expected


@pytest.mark.parametrize(
    "command",
    [
        ["eval"], ["sparsity"], ["importance", "--pairs", "9"],
        ["ablate", "--remove", "concat", "--name", "off"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_figures_that_cannot_be_written_hide_no_result(toytask: Command, copy, command):
    name, *options = command
    sound = toytask(name, "run", *options)
    report = toytask(name, "run", *options, "--json")
    shutil.rmtree("run/figures")
    Path("run/figures").touch()
    error = "error: cannot write run/figures (File exists): move it away, or use another name\n"
    result = toytask(name, "run", *options)
    assert (result.code, result.out, result.err) == (1, sound.out, sound.err + error)
    result = toytask(name, "run", *options, "--json")
    assert (result.code, result.out, result.err) == (1, report.out, error)


def test_figures_that_cannot_be_drawn_hide_no_training(toytask: Command, here, monkeypatch):
    def fail(*_):
        raise RuntimeError("no\nfont")

    monkeypatch.setattr("toytask_cli.figures.training.draw_metrics", fail)
    result = toytask("train", *TINY_OPTIONS, "--json")
    report = json.loads(Path("runs/01/reports/train.json").read_text())
    assert (result.code, json.loads(result.out)) == (1, report)
    assert result.err.endswith(
        "next: toytask eval runs/01\n"
        "error: cannot draw the figures of runs/01 (RuntimeError('no\\nfont')): all else is done; "
        "--no-figures leaves them out\n"
    )
