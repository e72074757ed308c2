"""The run that comes with the repository is what its reports say, on any processor."""

import json
from copy import deepcopy
from pathlib import Path

import pytest
import torch
from torch import Tensor

from toytask_cli.analysis.ablate import ablate
from toytask_cli.analysis.evaluate import evaluate
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.analysis.neurons import neuron_summary, sample_residuals
from toytask_cli.analysis.select import apply_rule
from toytask_cli.analysis.sparsity import measure_sparsity
from toytask_cli.analysis.stats import FLOOR
from toytask_cli.runs.run import Run

REFERENCE = Path(__file__).parent.parent / "runs" / "reference"


@pytest.fixture(scope="module")
def run() -> Run:
    return Run.open(REFERENCE)


@pytest.fixture(scope="module")
def grid(run):
    return run.grid()


@pytest.fixture(scope="module")
def model(run, grid):
    return run.model(grid, torch.device("cpu"))


@pytest.fixture(scope="module")
def scores(model, grid):
    return score_neurons(model, grid, seed=0, resamples=10)


def test_it_is_a_default_run_and_small_enough_for_a_repository(run):
    default = type(run.config.recipe)()
    assert run.config.recipe == default
    assert sum(p.stat().st_size for p in REFERENCE.rglob("*") if p.suffix == ".safetensors") < 12e6


def test_its_accuracy_is_what_its_reports_say(run, model, grid):
    report = run.read_report("eval")
    found, _ = evaluate(model, grid, "test", None, seed=0)
    for name, task in report["tasks"].items():
        assert found.tasks[name].accuracy == pytest.approx(task["accuracy"], abs=5e-4)
        assert found.tasks[name].ce_loss == pytest.approx(task["ce_loss"], rel=1e-3)
        assert run.read_report("train")["tasks"][name]["accuracy"] == task["accuracy"]


def test_its_sparsity_is_what_its_report_says(run, model, grid):
    report = run.read_report("sparsity")
    found, _ = measure_sparsity(model, grid, "test")
    for name, numbers in {"all": found.all, **found.tasks}.items():
        written = report["all"] if name == "all" else report["tasks"][name]
        for key in ("l0", "l1", "explained_variance", "mse", "ce_loss", "ce_loss_with_sae"):
            assert getattr(numbers, key) == pytest.approx(written[key], rel=1e-3)


def test_a_neuron_looked_at_fires_as_often_as_the_sparsity_report_says(run, model, grid):
    density = run.read_tensors("sparsity")["density"]
    sample = sample_residuals(model, grid)
    for neuron in density.amax(dim=0).topk(3).indices.tolist():
        found = neuron_summary(model, grid, sample, neuron).density
        assert list(found.values()) == pytest.approx(density[:, neuron].tolist(), abs=1e-3)


def test_its_importance_is_what_its_report_says(run, scores):
    written = run.read_tensors("importance")["importance"]
    torch.testing.assert_close(scores.tensors.importance, written, rtol=1e-3, atol=1e-6)
    assert run.read_report("importance")["pairs"]["used"] == len(scores.tensors.pairs)


@pytest.mark.parametrize("task", ["sum", "concat"])
def test_a_removal_is_what_its_report_says_and_complete(run, scores, task):
    report = run.read_ablation(f"remove-{task}-tol0.1")
    found = ablate(scores, remove=[task], tolerance=0.1)
    assert found.neurons == report["neurons"]
    for when in ("before", "after"):
        for name, written in report["test"][when].items():
            accuracy = getattr(found.test, when)[name].accuracy
            assert accuracy == pytest.approx(written["accuracy"], abs=2e-3)
    kept = report["kept_tasks"][0]
    assert report["test"]["after"][task]["accuracy"] <= 0.005
    assert report["test"]["after"][kept]["accuracy"] >= 0.995


@pytest.fixture(scope="module")
def exact(model, grid) -> Tensor:
    """[task, d_sae] the importances in float64."""
    double = deepcopy(model).double()
    torch.set_default_dtype(torch.float64)
    try:
        return score_neurons(double, grid, seed=0, resamples=1).tensors.importance
    finally:
        torch.set_default_dtype(torch.float32)


def test_the_floor_of_importance_is_above_all_rounding(scores, exact):
    rounding = (scores.tensors.importance - exact).abs()
    assert rounding.max() < FLOOR
    assert rounding[exact.abs() < 10 * FLOOR].max() < FLOOR / 1000
    # No neuron is so close to the floor that rounding of this size could move it over.
    assert not ((exact.abs() / FLOOR).log().abs() < 1e-3).any()


@pytest.mark.parametrize("tolerance", [0.0, 1e-5, 0.1])
@pytest.mark.parametrize("removed", [0, 1])
def test_float32_and_float64_remove_the_same_neurons(scores, exact, removed, tolerance):
    chosen = apply_rule(scores.tensors.importance, [removed], tolerance)
    assert torch.equal(chosen, apply_rule(exact, [removed], tolerance))


def test_everything_in_it_was_made_from_its_weights(run):
    bound = [*(REFERENCE / "reports").glob("*.json"), *(REFERENCE / "ablations").glob("*.json")]
    assert {p.stem for p in bound} >= {"train", "eval", "sparsity", "importance"}
    hashes = {json.loads(path.read_text())["weights_sha256"] for path in bound}
    assert hashes == {run.weights_sha256()}
