"""The importance report: which pairs, which neurons, and how sure."""

import json
from dataclasses import asdict
from typing import Any

import pytest
import torch
from memorised import SMALL, memorised

from toytask_cli.analysis.importance import ImportanceTensors, score_neurons
from toytask_cli.analysis.importance_report import (
    DEFINITIONS,
    Importance,
    report_importance,
    top_neurons,
)
from toytask_cli.analysis.matched import Matched
from toytask_cli.analysis.survey import pairs_to_judge, survey
from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import resolve
from toytask_cli.rng import generator

MODEL, GRID = memorised("sum", "concat")


def measure(
    model: Transformer = MODEL, grid: Grid = GRID, **options: Any
) -> tuple[Importance, ImportanceTensors]:
    """The report and the tensors, with a short bootstrap."""
    scores = score_neurons(model, grid, **{"seed": 0, "resamples": 50, **options})
    return report_importance(scores), scores.tensors


def test_both_methods_give_the_same_report() -> None:
    fast, fast_tensors = measure()
    slow, slow_tensors = measure(method="hooks")
    assert (fast.method, slow.method) == ("closed", "hooks")
    for one, other in zip(fast_tensors, slow_tensors, strict=True):
        torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)
    assert fast.pairs == slow.pairs


def test_the_same_seed_gives_the_same_numbers_and_another_seed_other_intervals() -> None:
    _, one = measure(seed=1)
    _, again = measure(seed=1)
    _, other = measure(seed=2)
    assert all(map(torch.equal, one, again))
    assert torch.equal(one.importance, other.importance)
    assert not torch.equal(one.low, other.low)


def test_a_sample_of_pairs_is_drawn_from_the_right_ones() -> None:
    report, tensors = measure(pairs=7)
    _, other = measure(seed=1, pairs=7)
    assert report.pairs.used == len(tensors.pairs.unique()) == 7
    assert torch.isin(tensors.pairs, GRID.matched_pairs()[0]).all()
    assert not torch.equal(tensors.pairs, other.pairs)
    more, _ = measure(pairs=10_000)
    assert more.pairs.used == more.pairs.right


def test_one_pair_alone_has_no_spread() -> None:
    _, tensors = measure(pairs=1, resamples=200)  # a third of the resamples is empty
    torch.testing.assert_close(tensors.low, tensors.importance)
    torch.testing.assert_close(tensors.high, tensors.importance)


def test_pairs_that_are_wrong_for_some_task_are_dropped_and_counted() -> None:
    candidates, _ = GRID.matched_pairs()
    right = torch.ones(2, len(candidates), dtype=torch.bool)
    right[0, :3] = False
    right[1, 2:4] = False
    rows, counts = pairs_to_judge(GRID, right, None, generator(0, "pairs"))
    assert rows.tolist() == [*range(4, len(candidates))]
    assert counts.wrong == {"sum": 3, "concat": 2}
    assert counts.right == counts.used == len(candidates) - 4
    assert counts.twin_elsewhere == 0


def test_pairs_whose_twin_was_trained_on_are_counted() -> None:
    grid = build_grid(resolve("article", SMALL))
    choose, report = grid.matched_pairs()
    right = torch.ones(2, len(choose), dtype=torch.bool)
    _, counts = pairs_to_judge(grid, right, None, generator(0, "pairs"))
    n_validation = int((grid.splits == 1).sum())
    assert counts.twin_elsewhere == n_validation - 2 * (len(choose) + len(report))


def test_a_model_that_knows_nothing_is_sent_back_to_training() -> None:
    recipe = resolve("default", SMALL)
    with pytest.raises(ToytaskError, match="train it longer"):
        measure(new_model(recipe, len(GRID.tokenizer)))


@pytest.mark.parametrize(
    ("options", "message"),
    [({"method": "hook"}, "did you mean 'hooks'"), ({"pairs": 0}, "pairs is 0: must be 1 or more")],
)
def test_options_out_of_range_are_refused(options: dict, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        measure(**options)


def test_the_top_neurons_are_the_largest_positive_ones_in_order() -> None:
    assert top_neurons(torch.tensor([0.1, -1.0, 0.0, 0.3]), 3).tolist() == [3, 0]
    report, tensors = measure()
    for task, name in enumerate(["sum", "concat"]):
        values = [row.tasks[name].importance for row in report.top[name]]
        assert values == sorted(values, reverse=True)
        assert values[0] == float(tensors.importance[task].max())
        assert set(report.top[name][0].tasks) == {"sum", "concat"}


def test_the_joint_effect_is_shown_beside_the_sum_of_the_singles() -> None:
    report, tensors = measure()
    joint = report.joint["concat"]
    singles = float(tensors.importance[1, joint.neurons].sum())
    assert joint.sum_of_singles["concat"] == pytest.approx(singles)
    assert abs(joint.together["concat"] - singles) > 0.1 * singles


def test_three_tasks_are_no_different() -> None:
    model, grid = memorised("sum", "concat", "max")
    report, tensors = measure(model, grid)
    assert tensors.importance.shape == (3, 48)
    assert list(report.top) == list(report.joint) == ["sum", "concat", "max"]
    assert list(report.split_half) == list(report.zero_and_mean) == ["sum", "concat", "max"]


def test_density_and_means_are_over_positions_that_are_not_padding() -> None:
    pairs = GRID.matched_pairs()[0]
    seen = survey(Matched(MODEL, GRID, pairs))
    assert seen.right.all()
    acts = []
    for task, examples in enumerate(GRID.matched(pairs)):
        with torch.no_grad():
            out = MODEL(examples.prompts, examples.answers[:, :-1])
        acts.append(out.acts[examples.answers[:, 1:] != 0])
        torch.testing.assert_close(seen.density[task], (acts[task] > 0).float().mean(dim=0))
    torch.testing.assert_close(seen.mean_acts, torch.cat(acts).mean(dim=0))


def test_the_report_is_json_and_its_numbers_are_defined() -> None:
    report, _ = measure()
    text = json.dumps(asdict(report), allow_nan=False)
    assert json.loads(text)["top"]["sum"][0]["tasks"]["sum"]["by_place"][2] is None
    settings = {"method", "resamples", "d_sae", "top", "definitions"}
    assert set(Importance.__dataclass_fields__) - settings <= set(DEFINITIONS)
    assert {"importance", "ci95", "mean_ablation", "by_place", "density"} <= set(DEFINITIONS)
