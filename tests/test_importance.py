"""The importance report: its pairs, its neurons, and their intervals."""

import json
import math
from dataclasses import asdict
from typing import Any

import pytest
import torch
from memorised import SMALL, memorised

from toytask_cli.analysis.effects import effects_closed_form
from toytask_cli.analysis.importance import (
    DEFINITIONS,
    Importance,
    ImportanceTensors,
    NeuronScores,
    importance_stats,
    report_importance,
    score_neurons,
    top_neurons,
)
from toytask_cli.analysis.matched_pairs import MatchedPairs, pairs_to_use
from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import resolve
from toytask_cli.rng import generator
from toytask_cli.tokenizer import PAD

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


def test_one_pair_alone_has_no_interval() -> None:
    report, tensors = measure(pairs=1)
    assert tensors.low is None
    assert tensors.high is None
    assert report.top["sum"][0].tasks["sum"].ci95 is None


def test_resamples_of_two_pairs_may_be_empty() -> None:
    _, tensors = measure(pairs=2, resamples=200)  # one in seven is
    one, other = tensors.halves.unbind(dim=1)
    torch.testing.assert_close(tensors.low, torch.minimum(one, other))
    torch.testing.assert_close(tensors.high, torch.maximum(one, other))


def test_pairs_that_are_wrong_for_some_task_are_dropped_and_counted() -> None:
    candidates, _ = GRID.matched_pairs()
    right = torch.ones(2, len(candidates), dtype=torch.bool)
    right[0, :3] = False
    right[1, 2:4] = False
    rows, counts = pairs_to_use(GRID, right, None, generator(0, "pairs"))
    assert rows.tolist() == [*range(4, len(candidates))]
    assert counts.wrong == {"sum": 3, "concat": 2}
    assert counts.right == counts.used == len(candidates) - 4
    assert counts.twin_elsewhere == 0


def test_pairs_whose_twin_was_trained_on_are_counted() -> None:
    grid = build_grid(resolve("article", SMALL))
    choose, report = grid.matched_pairs()
    right = torch.ones(2, len(choose), dtype=torch.bool)
    _, counts = pairs_to_use(grid, right, None, generator(0, "pairs"))
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
    assert top_neurons(torch.tensor([0.1, -1.0, 0.0, 1e-7, 0.3]), 3).tolist() == [4, 0]
    report, tensors = measure()
    for task, name in enumerate(["sum", "concat"]):
        values = [row.tasks[name].importance for row in report.top[name]]
        assert values == sorted(values, reverse=True)
        assert values[0] == float(tensors.importance[task].max())
        assert set(report.top[name][0].tasks) == {"sum", "concat"}


def backed_up() -> tuple[Transformer, Grid]:
    """x is 0 everywhere, so every token is as likely; neurons 0 and 1 always fire, and are alike.

    Removing one of them raises the logit of the pad token by 5.
    """
    recipe = resolve("default", SMALL | {"d_model": 4, "n_heads": 1, "d_sae": 3})
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer))
    with torch.no_grad():
        for part in (model.decoder.norm, model.sae, model.readout):
            for parameter in part.parameters():
                parameter.zero_()
        model.sae.encoder.bias.copy_(torch.tensor([1.0, 1.0, -1.0]))
        model.sae.decoder.weight[0, :2] = 5.0
        model.readout.weight[PAD, 0] = -1.0
    return model, grid


def test_two_neurons_that_back_each_other_up_cost_more_together_than_alone() -> None:
    model, grid = backed_up()
    matched = MatchedPairs(model, grid, grid.matched_pairs()[0])
    firing = matched.firing_stats()
    rows, counts = pairs_to_use(grid, torch.ones_like(firing.right), None, generator(0, "pairs"))
    tensors = importance_stats(matched, rows, firing, effects_closed_form, 0, 10)
    joint = report_importance(NeuronScores(matched, tensors, counts, "closed", 10)).joint["concat"]
    n_tokens = len(grid.tokenizer)
    alone, together = (math.log((n_tokens - 1 + math.exp(up)) / n_tokens) for up in (5, 10))
    assert sorted(joint.neurons) == [0, 1]
    assert joint.sum_of_singles["concat"] == pytest.approx(2 * alone, rel=1e-5)
    assert joint.together["concat"] == pytest.approx(together, rel=1e-5)
    assert together > 1.5 * 2 * alone


def test_three_tasks_are_no_different() -> None:
    model, grid = memorised("sum", "concat", "max")
    report, tensors = measure(model, grid)
    assert tensors.importance.shape == (3, 48)
    assert list(report.top) == list(report.joint) == ["sum", "concat", "max"]
    assert list(report.split_half) == list(report.zero_and_mean) == ["sum", "concat", "max"]


def test_density_and_means_are_over_positions_that_are_not_padding() -> None:
    pairs = GRID.matched_pairs()[0]
    firing = MatchedPairs(MODEL, GRID, pairs).firing_stats()
    assert firing.right.all()
    acts = []
    for task, examples in enumerate(GRID.matched(pairs)):
        with torch.no_grad():
            out = MODEL(examples.prompts, examples.answers[:, :-1])
        acts.append(out.acts[examples.answers[:, 1:] != 0])
        torch.testing.assert_close(firing.density[task], (acts[task] > 0).float().mean(dim=0))
    torch.testing.assert_close(firing.mean_acts, torch.cat(acts).mean(dim=0))


def test_the_report_is_json_and_its_numbers_are_defined() -> None:
    report, _ = measure()
    text = json.dumps(asdict(report), allow_nan=False)
    assert json.loads(text)["top"]["sum"][0]["tasks"]["sum"]["by_position"][2] is None
    settings = {"method", "resamples", "d_sae", "top", "definitions"}
    assert set(Importance.__dataclass_fields__) - settings <= set(DEFINITIONS)
    assert {"importance", "ci95", "mean_ablation", "by_position", "density"} <= set(DEFINITIONS)
