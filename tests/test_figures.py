"""What holds for all figures."""

import json
import shutil
import subprocess
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import TINY_OPTIONS, TOYTASK, Command, environment
from matplotlib.colors import to_hex

from toytask_cli.figures.colours import COLOURS, MAP_COLOURS, RIGHT, TASK_COLOURS, WRONG
from toytask_cli.figures.data import NeuronMap
from toytask_cli.figures.neurons import draw_neurons
from toytask_cli.tasks import TASKS


@pytest.fixture
def copy(trained: Path, here: Path) -> Path:
    """A copy of the competent run, named `run`."""
    return Path(shutil.copytree(trained / "runs" / "01", "run"))


def test_a_colour_has_one_meaning():
    assert len(TASK_COLOURS) >= len(TASKS)
    colours = [*TASK_COLOURS, *COLOURS.values(), WRONG, RIGHT]
    assert len(set(colours)) == len(colours)


def luminance(colour: str) -> float:
    """Return the relative luminance of a colour, 0 to 1, as WCAG defines it."""
    channels = [int(colour[i : i + 2], 16) / 255 for i in (1, 3, 5)]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


def test_the_scale_of_activations_and_the_first_two_tasks_can_be_told_apart_in_grey():
    steps = [luminance(colour) ** (1 / 2.2) for colour in MAP_COLOURS]
    assert all(a - b > 0.1 for a, b in pairwise(steps))
    assert contrast(*TASK_COLOURS[:2]) > 1.6


def contrast(*colours: str) -> float:
    """Return the contrast of two colours, as WCAG defines it."""
    darker, lighter = sorted(map(luminance, colours))
    return (lighter + 0.05) / (darker + 0.05)


@pytest.mark.parametrize("colour", [*TASK_COLOURS, *COLOURS.values()])
def test_every_colour_stands_out_from_white(colour: str):
    assert contrast(colour, "#ffffff") >= 3


# Neurons


def square(neuron: int, position: int, removed: bool = False) -> NeuronMap:
    values = np.arange(100, dtype=np.float32).reshape(10, 10) * (neuron + 1)
    values[0, 0] = np.nan
    return NeuronMap(neuron, position, 0.1, values, removed)


def test_neurons_are_drawn_on_one_scale_with_index_token_and_importance():
    figure = draw_neurons("sum", [square(0, 0), square(1, 2)], np.arange(10), "ended")
    first, second, bar = figure.axes
    assert first.get_title() == "0, token 1\n0.1000"
    assert second.get_title() == "1, token 3\n0.1000"
    scales = [axis.images[0].get_clim() for axis in (first, second)]
    assert scales == [(0, 198), (0, 198)]
    assert bar.get_ylabel() == "activation"
    assert "grey: ended" in figure.get_supxlabel()
    assert [label.get_text() for label in first.get_yticklabels()] == ["0", "4", "9"]


def test_a_removed_neuron_is_marked_in_colour_and_in_words():
    figure = draw_neurons("sum", [square(0, 0, removed=True), square(1, 0)], np.arange(10), "")
    removed, kept = figure.axes[:2]
    assert removed.get_title().endswith("removed")
    assert to_hex(removed.spines["left"].get_edgecolor()) == COLOURS["after"]
    assert "removed" not in kept.get_title()


def test_a_task_without_important_neurons_has_a_picture_that_says_so():
    figure = draw_neurons("sum", [], np.arange(10), "")
    assert figure.get_suptitle() == "sum: no neuron is important"
    assert not figure.axes


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
    sound = toytask(name, "run", *options, "--no-figures")
    report = toytask(name, "run", *options, "--no-figures", "--json")
    shutil.rmtree("run/figures", ignore_errors=True)
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
