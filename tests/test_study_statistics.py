"""Statistics over runs, against numbers worked out by hand or taken from published tables."""

import math
from itertools import product
from pathlib import Path
from random import Random
from statistics import fmean

import pytest

from toytask_cli.analysis.quantities import higher_is_better, label_of, values_of
from toytask_cli.studies.plan import Plan, cross
from toytask_cli.studies.report import build_report
from toytask_cli.studies.statistics import (
    Spread,
    independent_runs,
    paired_difference,
    spread,
    t_quantile,
    two_way,
    worse_at_most,
)


@pytest.mark.parametrize(
    ("freedom", "t"),
    [(1, 12.706), (2, 4.303), (3, 3.182), (4, 2.776), (9, 2.262), (10, 2.228), (30, 2.042),
     (58, 2.002), (1000, 1.962)],
)  # fmt: skip
def test_students_t_has_its_known_quantiles(freedom, t):
    assert t_quantile(freedom) == pytest.approx(t, abs=5e-4)


@pytest.mark.parametrize(("n", "share"), [(1, 0.95), (10, 0.2589), (29, 0.0981), (59, 0.0495)])
def test_n_of_n_runs_support_a_known_share(n, share):
    assert worse_at_most(n) == pytest.approx(share, abs=5e-5)


def test_the_components_of_variance_are_those_worked_out_by_hand():
    # Means of seeds 1.5 and 4.5, of splits 2 and 4; residuals ±0.5: mean squares 9, 4 and 1.
    assert two_way([[1, 2], [3, 6]]) == pytest.approx((2, math.sqrt(1.5), 1))
    # Means of seeds 2 and 6, of splits 2, 4 and 6; residuals ±1 and 0: mean squares 24, 8 and 2.
    assert two_way([[1, 2, 3], [3, 6, 9]]) == pytest.approx(
        (math.sqrt(22 / 3), math.sqrt(3), math.sqrt(2))
    )


def test_components_are_recovered_from_a_large_table():
    draw = Random(0)
    seeds, splits = ([draw.gauss(0, sd) for _ in range(300)] for sd in (3, 2))
    table = {(i, j): seeds[i] + splits[j] + draw.gauss(0, 1)
             for i, j in product(range(300), range(300))}  # fmt: skip
    assert spread(table) == pytest.approx((3, 2, 1), rel=0.1)


def test_a_component_that_would_be_negative_is_zero():
    assert two_way([[0, 1], [1, 0]])[:2] == (0, 0)


def test_runs_with_a_split_of_their_own_vary_over_seeds_alone():
    assert spread({(0, "a"): 1, (1, "b"): 2, (2, "c"): 3}) == Spread(seeds=1)
    assert spread({(0, "a"): 1, (1, "a"): 2, (2, "a"): 3}) == Spread(seeds=1)
    assert spread({(0, "a"): 1, (0, "b"): 2, (0, "c"): 3}) == Spread(splits=1)
    assert spread({(0, "a"): 1}) == Spread()


def test_a_seed_with_a_missing_run_is_left_out_of_the_crossed_table():
    table = {(0, "a"): 1, (0, "b"): 2, (1, "a"): 3, (1, "b"): 6, (2, "a"): 100}
    assert spread(table) == pytest.approx((2, math.sqrt(1.5), 1))
    del table[1, "b"]
    assert spread(table) == Spread()


def test_runs_of_one_seed_count_once():
    table = dict.fromkeys(product(range(10), "abc"), 1.0)
    assert independent_runs(table) == 10
    assert independent_runs(dict.fromkeys([(0, "a"), (0, "b")], 1.0)) == 2


def of_seeds(*values: float) -> dict[tuple[int, str], float]:
    return {(seed, "a"): value for seed, value in enumerate(values)}


def test_a_paired_difference_is_the_one_worked_out_by_hand():
    found = paired_difference(of_seeds(3, 5, 7, 9), of_seeds(2, 3, 4), higher_is_better=True)
    assert found is not None
    half = 4.30265 / math.sqrt(3)  # differences 1, 2, 3: their standard deviation is 1
    assert (found.n, found.mean, found.share_won) == (3, 2, 1)
    assert found.ci95 == pytest.approx((2 - half, 2 + half), abs=1e-4)


def test_the_lower_value_wins_where_lower_is_better_and_a_tie_counts_half():
    found = paired_difference(of_seeds(1, 2, 5, 5), of_seeds(2, 2, 2, 2), higher_is_better=False)
    assert found is not None
    assert found.share_won == (1 + 0.5) / 4


def test_recipes_without_a_common_run_are_not_compared_and_one_pair_has_no_interval():
    assert paired_difference({(0, "a"): 1}, {(1, "a"): 1}, higher_is_better=True) is None
    found = paired_difference(of_seeds(2), of_seeds(1), higher_is_better=True)
    assert found is not None
    assert (found.mean, found.ci95) == (1, None)


def test_seeds_and_splits_both_widen_the_interval_of_a_crossed_comparison():
    table = {(0, "a"): 1, (0, "b"): 2, (1, "a"): 3, (1, "b"): 6}
    found = paired_difference(table, dict.fromkeys(table, 0), higher_is_better=True)
    assert found is not None
    half = 12.7062 * math.sqrt(4 / 2 + 1.5 / 2 + 1 / 4)  # the components of the test above
    assert found.ci95 == pytest.approx((3 - half, 3 + half), abs=1e-3)


def test_folds_are_compared_with_the_correction_of_nadeau_and_bengio():
    table = {(0, f"fold-{j}"): float(j) for j in range(1, 6)}
    found = paired_difference(
        table, dict.fromkeys(table, 0), higher_is_better=True, test_to_train=0.25
    )
    assert found is not None
    half = 2.77645 * math.sqrt((1 / 5 + 0.25) * 2.5)  # the variance of 1 … 5 is 2.5
    assert found.ci95 == pytest.approx((3 - half, 3 + half), abs=1e-4)


# The report


def made_up(accuracy: float, left: float) -> dict[str, float]:
    return {"accuracy.sum": accuracy, "removed.sum.tol0.1.keep.left": left, "epochs": 30}


@pytest.fixture
def plan() -> Plan:
    runs = cross("default", [], {"beta": [0.0, 0.1]}, seeds=[0, 1, 2])
    return Plan(runs, ("beta",), (0.1,), "float32", 1)


def test_a_report_holds_every_run_and_each_recipe_over_its_own(plan):
    values = [made_up(0.5, 0.3), made_up(0.6, 0.1), made_up(0.7, 0.2), made_up(0.9, 0.0)]
    finished = {run.id: each for run, each in zip(plan.runs, values, strict=False)}
    report = build_report(plan, Path("s"), finished, {plan.runs[4].id: "killed"})
    assert (report["n_runs"], report["n_finished"], report["n_failed"]) == (6, 4, 1)
    assert [run["status"] for run in report["runs"]] == ["finished"] * 4 + ["failed", "left"]
    assert report["runs"][4]["reason"] == "killed"
    assert report["runs"][0]["path"] == "s/beta-0.0-seed-0"
    rows = {(row["recipe"]["beta"], row["quantity"]): row for row in report["summary"]}
    of_first = rows[0.0, "accuracy.sum"]
    assert of_first["mean"] == pytest.approx(fmean([0.5, 0.6, 0.7]))
    assert of_first["sd_seeds"] == pytest.approx(0.1)
    assert (of_first["n"], of_first["worst"], of_first["worst_run"]) == (3, 0.5, plan.runs[0].id)
    assert rows[0.0, "removed.sum.tol0.1.keep.left"]["worst"] == 0.3
    assert rows[0.1, "accuracy.sum"]["n"] == 1
    assert rows[0.1, "accuracy.sum"]["sd_seeds"] is None
    (compared,) = (row for row in report["comparisons"] if row["quantity"] == "accuracy.sum")
    assert (compared["recipe"], compared["against"]) == ({"beta": 0.1}, {"beta": 0.0})
    assert (compared["n"], compared["difference"]) == (1, pytest.approx(0.4))


def test_a_study_of_folds_gets_the_ratio_of_their_sizes():
    runs = cross("default", [], {"beta": [0.0, 0.1]}, seeds=[0], folds=5)
    plan = Plan(runs, ("beta",), (0.1,), "float32", 1)
    finished = {run.id: made_up(i / 100, 0) for i, run in enumerate(runs[:5])}
    finished |= {run.id: made_up(i * i / 100, 0) for i, run in enumerate(runs[5:])}
    rows = build_report(plan, Path("s"), finished, {})["comparisons"]
    # Differences i² − i for i = 0 … 4, in percent: mean 4, variance 26; test 1/5, train 4/5 · 3/5.
    half = 2.77645 * math.sqrt((1 / 5 + 0.2 / 0.48) * 26) / 100
    assert rows[0]["ci95"] == pytest.approx((0.04 - half, 0.04 + half), abs=1e-6)


# Quantities


def test_quantities_have_flat_names_and_kept_is_a_share_of_before():
    removed = {
        "removed_task": "sum", "kept_tasks": ["concat", "max"], "tolerance": 0.05, "error": "drop",
        "test": {
            when: {task: {"accuracy": value} for task, value in values.items()}
            for when, values in {
                "before": {"sum": 0.9, "concat": 0.8, "max": 0.0},
                "after": {"sum": 0.1, "concat": 0.6, "max": 0.0},
            }.items()
        },
    }  # fmt: skip
    train = {"tasks": {"sum": {"accuracy": 0.9}}, "validation": {"loss": 0.3}, "epochs": 7,
             "seconds": 2.0}  # fmt: skip
    sparsity = {"all": {"l0": 5.0, "fraction_nonzero": 0.1, "explained_variance": None,
                        "dead_neurons": 3}}  # fmt: skip
    assert values_of(train, sparsity, [removed]) == {
        "accuracy.sum": 0.9,
        "removed.sum.tol0.05.drop.left": 0.1,
        "removed.sum.tol0.05.drop.kept.concat": pytest.approx(0.75),
        "l0": 5.0, "nonzero": 0.1, "dead": 3, "validation_loss": 0.3, "epochs": 7, "seconds": 2.0,
    }  # fmt: skip


def test_a_quantity_knows_its_direction_and_its_words():
    better = {"accuracy.sum", "removed.sum.tol0.1.keep.kept.max", "explained_variance"}
    others = {"removed.sum.tol0.1.keep.left", "l0", "nonzero", "dead", "epochs", "seconds"}
    assert {name for name in better | others if higher_is_better(name)} == better
    assert label_of("removed.sum.tol1e-05.keep.kept.max") == "sum removed at 1e-05, keep: max kept"
    assert label_of("removed.sum.tol0.1.drop.left", with_tolerance=False) == (
        "sum removed, drop: left"
    )
    assert label_of("accuracy.concat") == "accuracy of concat"
