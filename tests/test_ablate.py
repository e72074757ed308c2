"""Removing a task: what is reported is what removing through hooks does."""

import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from functools import cache

import pytest
import torch
from memorised import memorised

from toytask_cli.analysis.ablate import ablate, selectivity_gap
from toytask_cli.analysis.ablation_report import Ablation, left_and_kept
from toytask_cli.analysis.evaluate import score
from toytask_cli.analysis.generate import Variant, generate
from toytask_cli.analysis.importance import NeuronScores, score_neurons
from toytask_cli.analysis.select import apply_rule
from toytask_cli.analysis.stats import wilson
from toytask_cli.errors import UsageError
from toytask_cli.hooks import ablate_neurons
from toytask_cli.prompts import parse_prompt

MODEL, GRID = memorised("sum", "concat")
CHOOSE, REPORT = GRID.matched_pairs()


@cache
def found(*tasks: str) -> NeuronScores:
    model, grid = memorised(*tasks)
    return score_neurons(model, grid, seed=0, resamples=20)


def run(remove: Sequence[str] = ("concat",), **options: object) -> Ablation:
    return ablate(found("sum", "concat"), remove=remove, **options)  # type: ignore[arg-type]


def share_right(task: int, pairs: torch.Tensor, neurons: Sequence[int], error: str) -> float:
    with ablate_neurons(MODEL, neurons, error):
        return float(score(MODEL, GRID.matched(pairs)[task]).right.double().mean())


@pytest.mark.parametrize("error", ["keep", "drop"])
def test_accuracies_equal_the_model_under_the_hook(error: str) -> None:
    report = run(tolerance=0.05, error=error)
    assert report.neurons
    for task, name in enumerate(["sum", "concat"]):
        for part, pairs in ((report.test, REPORT), (report.validation, CHOOSE)):
            right = score(MODEL, GRID.matched(pairs)[task]).right.double().mean()
            assert part.before[name].accuracy == right
            after = part.after[name]
            assert after.accuracy == share_right(task, pairs, report.neurons, error)
            assert after.n == len(pairs)
            assert after.ci95 == wilson(round(after.accuracy * after.n), after.n)


def test_a_removal_loses_one_task_and_keeps_the_other() -> None:
    report = run(tolerance=0.1)
    assert report.test.after["concat"].accuracy < 0.1
    assert report.test.after["sum"].accuracy > 0.9
    assert report.selectivity_gap > 0.8


def test_the_cost_of_dropping_the_error_is_shown_apart() -> None:
    kept, dropped = run(tolerance=0.1), run(tolerance=0.1, error="drop")
    assert kept.test.reconstructed is kept.validation.reconstructed is None
    assert dropped.test.before == kept.test.before
    for task, name in enumerate(["sum", "concat"]):
        assert dropped.test.reconstructed is not None
        expected = share_right(task, REPORT, [], "drop")
        assert dropped.test.reconstructed[name].accuracy == expected


def test_the_curve_s_ends_equal_the_direct_computation() -> None:
    report = run(tolerance=0.1)
    importance = found("sum", "concat").tensors.importance
    for point, tolerance in ((report.curve[0], 0.0), (report.curve[-1], 1e9)):
        neurons = apply_rule(importance, [1], tolerance).tolist()
        assert point.n_neurons == len(neurons)
        for task, name in enumerate(["sum", "concat"]):
            assert point.test[name] == share_right(task, REPORT, neurons, "keep")
            assert point.validation[name] == share_right(task, CHOOSE, neurons, "keep")


def test_every_point_of_the_curve_is_what_its_tolerance_gives() -> None:
    report = run(tolerance=0.1)
    assert len(report.curve) > 1
    for point in report.curve[:: max(1, len(report.curve) // 3)]:
        again = run(tolerance=point.tolerance)
        assert len(again.neurons) == point.n_neurons
        assert {n: a.accuracy for n, a in again.test.after.items()} == point.test


def test_without_a_tolerance_the_largest_removal_that_keeps_the_other_task_is_taken() -> None:
    report = run()
    assert report.chosen_by == "automatic"
    assert report.tolerance == report.automatic_tolerance
    floor = 0.99 * report.validation.before["sum"].accuracy
    good = [point for point in report.curve if point.validation["sum"] >= floor]
    assert len(report.neurons) == max(point.n_neurons for point in good)
    assert run(tolerance=report.tolerance).neurons == report.neurons


def test_the_selectivity_gap_is_the_least_lost_less_the_most_harmed() -> None:
    before = torch.ones(3, 10, dtype=torch.bool)
    after = before.clone()
    after[0, :8] = False
    after[1, :3] = False
    assert selectivity_gap(before, after, [0]) == pytest.approx(0.8 - 0.3)
    assert selectivity_gap(before, after, [0, 1]) == pytest.approx(0.3 - 0.0)


def test_given_neurons_take_the_place_of_the_rule() -> None:
    report = run(neurons=[30, 2, 30])
    assert report.neurons == [2, 30]
    assert (report.tolerance, report.chosen_by, report.curve) == (None, "given", [])
    expected = share_right(0, REPORT, [2, 30], "keep")
    assert report.test.after["sum"].accuracy == expected


def test_removing_no_neuron_is_a_no_op() -> None:
    report = run(neurons=[])
    assert report.test.after == report.test.before
    assert report.overlap is None
    assert report.joint.together == {"sum": 0.0, "concat": 0.0}
    assert all(c.min == c.max for c in report.test.random_control.values())


def test_the_control_draws_with_the_seed_and_sums_up_its_draws() -> None:
    one, again, other = (run(tolerance=0.1, seed=seed) for seed in (1, 1, 2))
    assert one == again
    assert one.test.random_control != other.test.random_control
    for control in one.test.random_control.values():
        assert len(control.draws) == 20
        assert control.mean == pytest.approx(sum(control.draws) / 20)
        assert (control.min, control.max) == (min(control.draws), max(control.draws))


def test_wrong_answers_are_counted_by_type_and_quoted() -> None:
    report = run(tolerance=0.1)
    answers = report.wrong_answers["concat"]
    wrong = round((1 - report.test.after["concat"].accuracy) * len(REPORT))
    assert answers.n_wrong == answers.n_sampled == sum(answers.error_types.values()) == wrong
    assert answers.examples
    for answer in answers.examples:
        assert answer.task == "concat"
        assert answer.prediction != answer.target
        assert answer.target == answer.prompt.replace("C", "")


def test_the_joint_effect_is_measured_where_importance_was() -> None:
    report = run(tolerance=0.1)
    tensors = found("sum", "concat").tensors
    (examples,) = GRID.matched(tensors.pairs)[1:]
    plain = score(MODEL, examples).loss.mean()
    with ablate_neurons(MODEL, report.neurons):
        rise = float(score(MODEL, examples).loss.mean() - plain)
    assert report.joint.together["concat"] == pytest.approx(rise, rel=1e-4)
    singles = float(tensors.importance[1, report.neurons].sum())
    assert report.joint.sum_of_singles["concat"] == pytest.approx(singles, rel=1e-5)


def test_one_of_three_tasks_or_two_of_them_can_go() -> None:
    scores = found("sum", "concat", "max")
    one = ablate(scores, remove=["concat"])
    assert (one.removed_task, one.kept_tasks) == ("concat", ["sum", "max"])
    assert all(one.validation.after[k].accuracy >= 0.99 for k in one.kept_tasks)
    two = ablate(scores, remove=["concat", "sum", "concat"], tolerance=0.1)
    assert (two.removed_task, two.removed_tasks) == ("sum+concat", ["sum", "concat"])
    assert two.kept_tasks == ["max"]
    shown = json.loads(json.dumps(asdict(one)))
    for part in ("validation", "test"):
        before = {task: found["accuracy"] for task, found in shown[part]["before"].items()}
        for point in shown["curve"]:
            left, kept = left_and_kept(shown, part, point[part])
            assert left == point[part]["concat"]
            assert kept == min(point[part][task] / before[task] for task in ("sum", "max"))
    assert len(two.neurons) > 0


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"remove": ["cncat"]}, "unknown task 'cncat': did you mean 'concat'"),
        ({"remove": []}, "remove at least one and keep at least one of sum, concat"),
        ({"remove": ["sum", "concat"]}, "keep at least one"),
        ({"neurons": [1], "tolerance": 0.1}, "either a tolerance or neurons"),
        ({"neurons": [48]}, "there is no neuron 48: the SAE has neurons 0 to 47"),
        ({"tolerance": -1.0}, "tolerance is -1.0: must be 0 or more"),
        ({"error": "kep"}, "did you mean 'keep'"),
    ],
)
def test_what_no_removal_could_mean_is_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        run(**options)


def test_the_report_and_its_figures_are_read_without_torch() -> None:
    program = "import sys, toytask_cli.figures.ablation; sys.exit('torch' in sys.modules)"
    assert not subprocess.run([sys.executable, "-c", program], check=False).returncode


def test_the_report_is_json_with_the_promised_keys() -> None:
    written = json.loads(json.dumps(asdict(run(tolerance=0.1)), allow_nan=False))
    assert {"removed_task", "kept_tasks", "tolerance", "error", "neurons"} <= written.keys()
    assert written["test"]["before"]["sum"].keys() == {"accuracy", "n", "ci95"}
    assert written["test"]["after"].keys() == {"sum", "concat"}
    assert {"mean", "min", "max"} <= written["test"]["random_control"]["sum"].keys()
    assert {"before", "after"} <= written["validation"].keys()
    assert written["curve"][0].keys() == {"tolerance", "n_neurons", "validation", "test"}
    numbers = written.keys() - {"removed_task", "removed_tasks", "kept_tasks", "chosen_by"}
    assert numbers - {"seed", "d_sae", "definitions"} <= written["definitions"].keys()


def test_a_dozen_prompts_are_answered_before_and_after_as_the_model_writes_them() -> None:
    report = run(tolerance=0.1)
    assert [row.task for row in report.prompts] == ["sum", "concat"] * 6
    test_prompts = {
        GRID.tokenizer.decode(prompt.tolist())[1:-1]
        for examples in GRID.matched(REPORT)
        for prompt in examples.prompts
    }
    assert {row.prompt for row in report.prompts} <= test_prompts
    prompts = [parse_prompt(row.prompt, GRID.tasks, 1) for row in report.prompts]
    before = generate(MODEL, GRID, prompts, {"x": Variant()})
    after = generate(MODEL, GRID, prompts, {"x": Variant(torch.tensor(report.neurons))})
    assert [row.before for row in report.prompts] == [answers["x"] for answers in before]
    assert [row.after for row in report.prompts] == [answers["x"] for answers in after]
    assert run(tolerance=0.1, seed=1).prompts != report.prompts
