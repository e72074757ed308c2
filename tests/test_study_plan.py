"""The plan of a study: its runs, how it is written, and what it refuses."""

import json

import pytest

from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.recipe import resolve
from toytask_cli.studies.plan import MAX_RUNS, Plan, cross, parse_numbers, parse_vary


def test_every_combination_is_one_run_with_the_recipe_that_train_would_have():
    vary = {"lambda_": [0.0, 0.01], "epochs": [20]}
    runs = cross("article", [{"lr": 0.5}], vary, seeds=[4, 5], split_seeds=[0, 1])
    assert [run.id for run in runs] == [
        f"lambda-{value}-epochs-20-split-{split}-seed-{seed}"
        for value in ("0.0", "0.01") for split in (0, 1) for seed in (4, 5)
    ]  # fmt: skip
    assert runs[-1].recipe == resolve(
        "article", {"lr": 0.5, "lambda_": 0.01, "epochs": 20, "seed": 5, "split_seed": 1}
    )


def test_the_split_follows_the_seed_unless_split_seeds_are_given():
    assert [run.recipe.split_seed for run in cross("default", [], {}, seeds=[0, 7])] == [0, 7]


def test_without_seeds_the_seed_is_the_recipes():
    (run,) = cross("default", [{"seed": 3}], {})
    assert (run.id, run.recipe.seed) == ("seed-3", 3)


def test_folds_are_of_one_split_for_all_seeds():
    runs = cross("default", [], {}, seeds=[1, 2], folds=3)
    assert {run.recipe.split_by for run in runs} == {f"fold-{j}-of-3" for j in (1, 2, 3)}
    assert {run.recipe.split_seed for run in runs} == {0}
    assert len({run.cell for run in runs}) == len(runs) == 6


def test_a_cell_is_the_same_whatever_else_the_recipe_is():
    vary = {"split_by": ["pair", "example"], "train_fraction": [0.2, 0.3]}
    assert len({run.cell for run in cross("default", [], vary, seeds=[0, 1])}) == 2


@pytest.mark.parametrize(
    ("text", "numbers"),
    [("0-2", [0, 1, 2]), ("7", [7]), ("3, 0-1,3", [3, 0, 1]), ("5-5", [5])],
)
def test_numbers_are_lists_and_ranges(text, numbers):
    assert parse_numbers("seeds", text) == numbers


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "must be numbers"), ("a", "must be numbers"), ("1,,2", "must be numbers"),
        ("-3", "must be numbers"), ("1.5", "must be numbers"), ("9-0", "runs backwards"),
        (f"0-{MAX_RUNS}", "too long"), ("9" * 30, "must be numbers"),
    ],
)  # fmt: skip
def test_numbers_that_are_none_are_one_line(text, message):
    with pytest.raises(UsageError, match=message):
        parse_numbers("seeds", text)


def test_a_field_varies_over_values_of_its_own_type():
    vary = parse_vary(
        ["lambda=0,1e-3", "train-fraction = 0.1 ", "epochs=3,5,3", "tasks=sum+max,sum+diff"]
    )
    assert vary == {
        "lambda_": [0.0, 0.001],
        "train_fraction": [0.1],
        "epochs": [3, 5],
        "tasks": [("sum", "max"), ("sum", "diff")],
    }


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("lamda=1", "did you mean 'lambda'"), ("seed=1,2", "use --seeds"),
        ("split-seed=1", "use --split-seeds"), ("epochs=1.5", "must be a whole number"),
        ("lr=fast", "must be a number"), ("lr", "must be a number"), ("lr=1,", "must be a number"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_vary_so_is_one_line(text, message):
    with pytest.raises(UsageError, match=message):
        parse_vary([text])


def test_a_combination_that_is_no_recipe_is_refused_before_anything_runs():
    with pytest.raises(UsageError, match="validation_fraction is 0.2"):
        cross("default", [], {"train_fraction": [0.3, 0.9]})


def test_a_field_that_only_another_kind_of_sae_has_cannot_vary():
    with pytest.raises(UsageError, match="k is only for sae topk"):
        cross("default", [], {"k": [8, 16]})
    assert len(cross("default", [{"sae": "topk"}], {"k": [8, 16]})) == 2
    assert len(cross("default", [{"k": 8}], {"sae": ["topk", "relu"]})) == 2


def test_too_many_runs_are_refused_before_they_are_made():
    many = list(range(1000))
    with pytest.raises(UsageError, match="1,000,000 runs"):
        cross("default", [], {}, seeds=many, split_seeds=many)


@pytest.fixture
def plan() -> Plan:
    runs = cross("default", [], {"lambda_": [0.0, 0.1]}, seeds=[0, 1])
    return Plan(runs, ("lambda_",), (0.1, 0.2), "float32", 1)


def test_a_plan_survives_json_and_names_what_varies(plan):
    assert Plan.from_json(json.loads(json.dumps(plan.to_json()))) == plan
    assert [plan.recipe_of(run) for run in plan.runs[1:3]] == [{"lambda": 0.0}, {"lambda": 0.1}]


def test_what_a_run_depends_on_changes_its_fingerprint(plan):
    prints = {plan.fingerprint(run) for run in plan.runs}
    prints |= {Plan(plan.runs, (), (), "bfloat16", 1).fingerprint(plan.runs[0])}
    prints |= {Plan(plan.runs, (), (), "float32", 2).fingerprint(plan.runs[0])}
    assert len(prints) == len(plan.runs) + 2
    assert plan.fingerprint(plan.runs[0]) == plan.fingerprint(cross("default", [], {
        "lambda_": [0.0]}, seeds=[0])[0])  # fmt: skip


@pytest.mark.parametrize(
    "change",
    [
        {"version": "0.0.9"}, {"runs": []}, {"runs": 3}, {"varied": ["lamda"]}, {"threads": None},
        {"threads": 0}, {"precision": "float16"},
        {"tolerances": ["x"]}, {"runs": [{"id": "seed-0", "recipe": {}}]},
    ],
)  # fmt: skip
def test_a_plan_that_is_none_is_refused(plan, change):
    with pytest.raises(ToytaskError):
        Plan.from_json(plan.to_json() | change)


@pytest.mark.parametrize("name", ["../up-1", "/tmp/x-1", ".hidden-1", "reports", "a/b-1", 7])
def test_a_run_whose_name_is_no_directory_of_the_study_is_refused(plan, name):
    values = plan.to_json()
    values["runs"][0]["id"] = name
    with pytest.raises(ToytaskError, match="is no name of a run|not a study's plan"):
        Plan.from_json(values)


def test_two_runs_of_one_name_are_refused(plan):
    values = plan.to_json()
    with pytest.raises(ToytaskError, match="two of one name"):
        Plan.from_json(values | {"runs": values["runs"][:1] * 2})
