"""Fine-tuning attacks: what they count, and that a memory is woken faster than a task is taught."""

from dataclasses import replace
from itertools import pairwise

import pytest
import torch
from memorised import SMALL, memorised

from toytask_cli.analysis.attack import robustness
from toytask_cli.analysis.evaluate import score
from toytask_cli.analysis.generate import Variant
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.analysis.relearning import (
    EVERY_STEP,
    RATES,
    Attacker,
    Candidate,
    Curve,
    Relearning,
    accuracy,
    accuracy_by_task,
    measured_steps,
)
from toytask_cli.analysis.select import select_neurons
from toytask_cli.model import new_model
from toytask_cli.recipe import resolve

MODEL, GRID = memorised("sum", "concat")
RECIPE = resolve("default", SMALL | {"tasks": ("sum", "concat"), "validation_fraction": 0.4})
SUM, CONCAT = 0, 1


@pytest.fixture(scope="module")
def ablated() -> Candidate:
    scores = score_neurons(MODEL, GRID, seed=0)
    neurons = select_neurons(scores, ["concat"], tolerance=0.1).neurons
    return Candidate("run", MODEL, Variant(neurons))


@pytest.fixture(scope="module")
def fresh() -> Candidate:
    return Candidate("fresh", new_model(RECIPE, len(GRID.tokenizer)), Variant())


def attacker(limit: int = 40, **settings) -> Attacker:
    arguments = {"tasks": [CONCAT], "limit": limit, "seed": 0} | settings
    recipe = replace(RECIPE, batch_size=16)
    return Attacker(recipe, torch.float32, GRID, **arguments)


def test_accuracy_is_measured_after_every_step_and_then_ever_less_often():
    steps = list(measured_steps(1000))
    assert steps[: EVERY_STEP + 2] == [*range(EVERY_STEP + 1), EVERY_STEP + 2]
    assert all(later - step <= max(1, step / 16) for step, later in pairwise(steps))
    assert steps[-1] == 1000
    assert list(measured_steps(3)) == [0, 1, 2, 3]


def test_a_goal_is_reached_at_the_first_measurement_that_is_high_enough():
    curve = Curve("removed", 1e-3, [0, 1, 2, 4], [0.0, 0.5, 0.4, 0.9])
    assert [curve.steps_until(goal) for goal in (0.0, 0.5, 0.6, 0.95)] == [0, 1, 4, None]


def test_robustness_is_the_steps_over_those_of_the_control():
    run, control = (Relearning(*steps, 1e-3, "removed", []) for steps in ((3, 6), (30, None)))
    assert robustness(run, control) == {"50": 0.1, "95": None}
    assert robustness(control, run) == {"50": 10.0, "95": None}
    never = replace(run, steps50=None, steps95=0)
    assert robustness(never, never) == {"50": None, "95": None}


def test_a_removed_task_is_woken_faster_than_it_is_taught(ablated, fresh):
    attack = attacker(limit=60)
    assert accuracy_by_task(ablated, GRID)["concat"] < 0.2
    run, learner = (attack.relearn(each, before=1.0) for each in (ablated, fresh))
    assert run.steps95 is not None
    assert run.steps95 < 0.2 * (learner.steps95 or attack.limit)
    assert run.steps50 <= run.steps95


def test_the_fastest_attack_counts_and_the_others_end_where_it_did(ablated):
    relearning = attacker(limit=60).relearn(ablated, before=1.0)
    assert len(relearning.curves) == 2 * len(RATES)
    reached = [c.steps_until(0.95) for c in relearning.curves]
    assert relearning.steps95 == min(steps for steps in reached if steps is not None)
    counted = next(c for c, steps in zip(relearning.curves, reached, strict=True)
                   if steps == relearning.steps95)  # fmt: skip
    assert (relearning.rate, relearning.data) == (counted.rate, counted.data)
    first = next(i for i, steps in enumerate(reached) if steps is not None)
    assert all(c.steps[-1] <= reached[first] for c in relearning.curves[first:])


def test_the_ablation_stays_in_place_at_every_step(ablated):
    """With every neuron removed and the error dropped nothing reaches the readout but a bias."""
    everything = Variant(torch.arange(MODEL.sae.d_sae), "drop")
    relearning = attacker(limit=10).relearn(ablated._replace(variant=everything), before=1.0)
    assert (relearning.steps50, relearning.steps95) == (None, None)
    assert all(curve.steps[-1] == 10 for curve in relearning.curves)


def test_an_attack_leaves_the_model_and_its_hooks_as_they_were(ablated):
    before = {name: weight.clone() for name, weight in MODEL.state_dict().items()}
    attacker(limit=3).relearn(ablated, before=1.0)
    assert all(torch.equal(before[name], w) for name, w in MODEL.state_dict().items())
    assert not any(module._forward_hooks for module in MODEL.modules())


def test_the_same_seed_attacks_in_the_same_way(ablated):
    one, same, other = (attacker(5, seed=seed).relearn(ablated, 1.0) for seed in (0, 0, 1))
    assert one == same
    assert one != other


def test_no_example_that_accuracy_is_measured_on_is_learnt_from():
    attack = attacker(tasks=[SUM, CONCAT])
    unseen = set(zip(attack.unseen.tasks.tolist(), attack.unseen.pairs.tolist(), strict=True))
    for examples in attack.data.values():
        assert not unseen & set(zip(examples.tasks.tolist(), examples.pairs.tolist(), strict=True))
    assert set(attacker().data["removed"].tasks.tolist()) == {CONCAT}
    assert set(attacker().data["all tasks"].tasks.tolist()) == {SUM, CONCAT}


def test_from_few_examples_a_memory_is_woken_and_a_task_is_not_taught(ablated, fresh):
    attack = attacker(limit=40)
    assert attack.sizes == [10, 30]
    assert attack.from_examples(ablated, 10) > attack.from_examples(fresh, 10) + 0.4


def test_accuracy_is_what_evaluation_says(ablated):
    examples = GRID.split("test")
    with ablated.variant.applied_to(MODEL):
        assert accuracy(MODEL, examples) == score(MODEL, examples).right.double().mean()
    by_task = accuracy_by_task(ablated, GRID)
    of_concat = examples[examples.tasks == CONCAT]
    with ablated.variant.applied_to(MODEL):
        assert by_task["concat"] == accuracy(MODEL, of_concat)
