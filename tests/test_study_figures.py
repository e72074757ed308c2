"""The figures of a study, drawn from reports on made-up numbers."""

import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from conftest import environment

from toytask_cli.figures.study import (
    draw_against,
    draw_heatmaps,
    draw_left_and_kept,
    draw_runs,
    study_figures,
)
from toytask_cli.figures.style import png
from toytask_cli.studies.plan import Plan, cross
from toytask_cli.studies.report import build_report

REMOVAL = "removed.sum.tol0.1.keep"


def report(vary: dict[str, list[Any]], missing: int = 0, **crossed: Any) -> dict[str, Any]:
    """The report of a study; the last runs are missing."""
    runs = cross("default", [], vary, **crossed)
    plan = Plan(runs, tuple(vary), (0.1,), "float32", 1)
    finished = {
        run.id: {"accuracy.sum": i / 100, f"{REMOVAL}.left": i / 200, f"{REMOVAL}.kept.max": 0.5}
        for i, run in enumerate(runs[: len(runs) - missing])
    }
    return build_report(plan, Path("s"), finished, {})


def n_points(axis: Any) -> int:
    return sum(len(line.get_xdata()) for line in axis.lines if line.get_marker() == "o")


@pytest.mark.parametrize(
    ("vary", "crossed", "names"),
    [
        ({}, {"seeds": [0, 1]}, set()),
        ({}, {"seeds": [0, 1], "split_seeds": [0, 1, 2]}, {"seeds-and-splits"}),
        ({}, {"seeds": [0, 1], "folds": 3}, {"seeds-and-splits"}),
        ({"beta": [0.0, 0.1]}, {"seeds": [0, 1]}, {"by-beta"}),
        ({"split_by": ["pair", "example"]}, {"seeds": [0, 1]}, set()),
        ({"beta": [0.0, 0.1], "lambda_": [0.0, 0.1]}, {"seeds": [0, 1]}, {"by-beta-lambda"}),
        ({"tasks": [("sum", "max"), ("sum", "diff")], "epochs": [3, 4]}, {}, {"by-tasks-epochs"}),
    ],
)
def test_a_study_has_the_figures_that_it_has_data_for(vary, crossed, names):
    assert study_figures(report(vary, **crossed)).keys() == {"runs", "left-and-kept"} | names
    incomplete = study_figures(report(vary, missing=1, **crossed))
    for name in names or incomplete:
        assert png(incomplete[name])


def test_every_run_is_a_point():
    runs = report({"beta": [0.0, 0.1]}, seeds=[0, 1, 2])["runs"]
    axes = draw_runs(runs).axes
    assert [axis.get_title() for axis in axes] == [
        "accuracy of sum (%)", "sum removed at 0.1, keep: left (%)",
        "sum removed at 0.1, keep: max kept (%)",
    ]  # fmt: skip
    assert n_points(axes[0]) == 6
    assert [label.get_text() for label in axes[0].get_xticklabels()] == ["beta 0.0", "beta 0.1"]
    (axis, *_) = draw_against(runs, "beta").axes
    assert n_points(axis) == 6
    (mean,) = (line for line in axis.lines if line.get_marker() != "o")
    assert list(mean.get_ydata()) == pytest.approx([1, 4])


def test_left_is_drawn_against_the_least_share_kept_in_percent():
    runs = report({}, seeds=[0, 1, 2])["runs"]
    (axis,) = draw_left_and_kept(runs).axes
    (points,) = axis.collections
    assert points.get_offsets().tolist() == [[0, 50], [0.5, 50], [1, 50]]


def test_a_heatmap_shows_the_mean_of_each_cell():
    runs = report({"beta": [0.0, 0.1], "epochs": [3, 4]}, seeds=[0, 1])["runs"]
    axis = draw_heatmaps(runs, "beta", "epochs").axes[0]
    assert [text.get_text() for text in axis.texts] == ["0.5", "4.5", "2.5", "6.5"]


def test_the_figures_of_a_study_import_no_torch():
    code = "import sys, toytask_cli.figures.study; sys.exit('torch' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], env=environment(), check=False)
    assert done.returncode == 0
