import json
import math
from dataclasses import fields

import pytest
from conftest import SAE_WITH
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.recipe import PRESETS, SAE_KINDS, Recipe, checked_values, key_of, resolve


@pytest.mark.parametrize("sae", SAE_KINDS)
@pytest.mark.parametrize("preset", PRESETS)
def test_a_recipe_survives_json(preset, sae):
    recipe = resolve(preset, {"seed": 3, "sae": sae})
    assert Recipe.from_json(json.loads(json.dumps(recipe.to_json())), "here") == recipe


def test_the_article_preset_is_the_articles_recipe():
    recipe = resolve("article")
    assert (recipe.lr, recipe.weight_decay, recipe.epochs, recipe.batch_size) == (
        1e-3,
        1,
        1000,
        512,
    )
    assert (recipe.alpha, recipe.lambda_, recipe.beta) == (1, 1e-3, 0)
    assert (recipe.split_by, recipe.train_fraction, recipe.validation_fraction) == (
        "example",
        0.3,
        0.7,
    )
    assert recipe.separate_epochs == 0


def test_the_last_layer_wins_and_the_preset_loses():
    recipe = resolve("article", {"lr": 5.0, "alpha": 2.0}, {"lr": 7.0})
    assert (recipe.lr, recipe.alpha, recipe.batch_size) == (7.0, 2.0, 512)


def test_the_split_follows_the_seed_unless_it_is_given():
    assert resolve("default", {"seed": 5}).split_seed == 5
    assert resolve("default", {"seed": 5, "split_seed": 1}).split_seed == 1


def test_a_step_has_as_many_examples_of_each_task_whatever_their_number_unless_given():
    six = {"tasks": ("sum", "concat", "diff", "max", "min", "swap")}
    assert resolve("default").batch_size == Recipe.batch_size == 256
    assert resolve("default", six).batch_size == 768
    assert (resolve("default", six).epochs, resolve("default", six).separate_epochs) == (180, 36)
    assert resolve("default", six, {"batch_size": 100}).batch_size == 100
    assert resolve("article", six).batch_size == 512


def test_a_short_run_has_epochs_to_learn_in_unless_separate_epochs_are_given():
    assert resolve("default", {"epochs": 30}).separate_epochs == 6
    assert resolve("default", {"epochs": 400}).separate_epochs == 12
    assert resolve("default", {"epochs": 30, "tasks": ("sum", "max", "min")}).separate_epochs == 6
    assert resolve("default", {"epochs": 40, "separate_epochs": 40}).separate_epochs == 40
    assert resolve("article", {"epochs": 40}).separate_epochs == 0


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe)])
def test_a_missing_key_is_named(name):
    values = resolve("default", {"sae": SAE_WITH.get(name, "relu")}).to_json()
    del values[key_of(name)]
    with pytest.raises(ToytaskError, match=f"x.json: missing key '{key_of(name)}'"):
        Recipe.from_json(values, "x.json")


def test_an_unknown_key_is_named_with_a_suggestion():
    values = resolve("default").to_json() | {"lamda": 1.0}
    with pytest.raises(ToytaskError, match="x.json: unknown key 'lamda': did you mean 'lambda'"):
        Recipe.from_json(values, "x.json")


@pytest.mark.parametrize(
    ("key", "value"),
    [("lr", "fast"), ("epochs", 1.5), ("epochs", True), ("tasks", "sum"), ("tasks", [1, 2])],
)
def test_a_value_of_the_wrong_kind_is_refused(key, value):
    with pytest.raises(ToytaskError, match=f"x.json: {key} is .* which is no"):
        checked_values(Recipe, {key: value}, "x.json")


@pytest.mark.parametrize(
    "values",
    [
        {"digits": 0}, {"digits": 9}, {"tasks": ("sum",)}, {"tasks": ("sum", "sum")},
        {"train_fraction": 0.9, "validation_fraction": 0.2}, {"train_fraction": 0.0},
        {"validation_fraction": 0.0}, {"train_fraction": 1.5}, {"lambda_": -1.0}, {"alpha": -0.1},
        {"separate_alpha": -0.1},
        {"beta": -1.0}, {"lr": 0.0}, {"lr": float("nan")}, {"weight_decay": float("inf")},
        {"epochs": 0}, {"batch_size": 0}, {"n_heads": 3}, {"seed": -1}, {"split_by": "pairs"},
        {"split_by": "fold-6-of-5"}, {"split_by": "fold-0-of-5"}, {"split_by": "fold-1-of-1"},
        {"learnt_accuracy": 1.1}, {"clip": -1.0}, {"validate_every": 0},
    ],
)  # fmt: skip
def test_a_value_out_of_range_is_a_usage_error(values):
    with pytest.raises(UsageError):
        resolve("default", values)


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe) if f.type is float])
@pytest.mark.parametrize("value", [3.5e38, -1e39, 1e-39, math.inf, math.nan])
def test_what_float32_does_not_hold_is_a_usage_error(name, value):
    with pytest.raises(UsageError, match=f"{key_of(name)} is .*: must be a finite number, 0 or"):
        resolve("default", {name: value})


def test_any_number_of_heads_that_divides_the_width_is_valid():
    assert resolve("default", {"n_heads": 256}).n_heads == 256
    with pytest.raises(UsageError, match="n_heads is 3: must be a divisor of 256"):
        resolve("default", {"n_heads": 3})


@given(st.dictionaries(st.text(), st.none() | st.booleans() | st.floats() | st.text()))
def test_no_json_object_makes_reading_crash(values):
    with pytest.raises(ToytaskError):
        Recipe.from_json(values, "x.json")
