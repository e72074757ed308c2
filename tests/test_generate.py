"""Answers of variants beside each other, against slower ways to the same."""

import pytest
import torch
from memorised import memorised

from toytask_cli.analysis.error_types import describe_error
from toytask_cli.analysis.evaluate import score
from toytask_cli.analysis.generate import (
    Variant,
    answer_texts,
    decode_greedily,
    examples_for,
    generate,
)
from toytask_cli.errors import ToytaskError
from toytask_cli.hooks import ablate_neurons
from toytask_cli.prompts import Prompt
from toytask_cli.tasks import TASKS, find_tasks

SUM, CONCAT = TASKS["sum"], TASKS["concat"]
PROMPTS = [Prompt(task, a, b) for task in (SUM, CONCAT) for a in range(0, 10, 3) for b in (0, 7)]


@pytest.fixture(scope="module")
def known():
    """A tiny model that knows its whole grid, and the grid."""
    return memorised("sum", "concat")


def slow_probabilities(model, grid, prompt: Prompt, tokens: list[str]) -> list[float]:
    """Of each token in turn, one forward pass for each."""
    ids = [grid.tokenizer.tokens.index(token) for token in ["B", *tokens]]
    asked = examples_for(grid, [prompt]).prompts
    chances = []
    for end in range(1, len(ids)):
        with torch.no_grad():
            logits = model(asked, torch.tensor([ids[:end]])).logits[0, -1]
        chances.append(float(logits.double().exp()[ids[end]] / logits.double().exp().sum()))
    return chances


def test_probabilities_are_those_of_one_forward_pass_for_each_token(known):
    model, grid = known
    columns = generate(model, grid, PROMPTS, {"trained": Variant()})
    for prompt, answers in zip(PROMPTS, columns, strict=True):
        answer = answers["trained"]
        expected = slow_probabilities(model, grid, prompt, answer.tokens)
        assert answer.probabilities == pytest.approx(expected, abs=1e-5)


def test_an_answer_is_correct_exactly_where_teacher_forcing_says_so(known):
    model, grid = known
    with ablate_neurons(model, range(0, 48, 2)):
        expected = score(model, examples_for(grid, PROMPTS)).right.tolist()
    answers = generate(model, grid, PROMPTS, {"half": Variant(torch.arange(0, 48, 2))})
    assert [row["half"].correct for row in answers] == expected
    assert [row["half"].closest is None for row in answers] == expected


def test_a_variant_answers_as_the_model_does_with_its_neurons_ablated(known):
    model, grid = known
    columns = {
        "trained": Variant(),
        "some": Variant(torch.arange(20)),
        "drop": Variant(torch.arange(5), "drop"),
    }
    rows = generate(model, grid, PROMPTS, columns)
    asked = examples_for(grid, PROMPTS).prompts
    for name, neurons, error in [("some", range(20), "keep"), ("drop", range(5), "drop")]:
        with ablate_neurons(model, neurons, error):
            written, chances = decode_greedily(model, asked, grid.answers.shape[-1] - 1)
        assert [row[name].text for row in rows] == answer_texts(grid, written)
        for row, expected in zip(rows, chances, strict=True):
            answer = row[name]
            assert answer.probabilities == pytest.approx(expected[: len(answer.tokens)].tolist())
    assert [row["trained"].text for row in rows] == [p.plain_target for p in PROMPTS]


@pytest.mark.parametrize(
    ("prediction", "tokens", "closest"),
    [
        ("", "E", "no answer"),
        ("70", "70 E", "the answer of sum"),
        ("24", "24 E", "the answer of diff"),
        ("4722", "47 22 E", "one too small"),
        ("4724", "47 24 E", "one too large"),
        ("4783", "47 83 E", "one digit wrong"),
        ("472", "47 2 E", "too few digits"),
        ("47231", "47 23 1 E", "too many digits"),
        ("4756", "47 56 E", "33 too large"),
        ("4B", "4 B E", "no number"),
        ("4723", "4 7 23 E", "right, in other tokens"),
        ("4723", "47 23", "right, but it does not end"),
    ],
)
def test_a_wrong_answer_is_told_by_what_it_is_closest_to(prediction, tokens, closest):
    tasks = find_tasks(["sum", "concat", "diff"])
    assert describe_error(prediction, tokens.split(), Prompt(CONCAT, 47, 23), tasks) == closest


def test_all_tasks_that_give_the_wrong_answer_are_named():
    tasks = find_tasks(["sum", "concat", "max", "diff"])
    described = describe_error("7", ["7", "E"], Prompt(CONCAT, 7, 0), tasks)
    assert described == "the answer of sum and max and diff"


@pytest.mark.parametrize(
    ("report", "message"),
    [
        ({"neurons": [48], "error": "keep"}, "there is no neuron 48"),
        ({"neurons": [1], "error": "kep"}, "did you mean 'keep'"),
    ],
)
def test_an_ablation_that_fits_no_model_is_refused(report, message):
    with pytest.raises(ToytaskError, match=message):
        Variant.from_report(report, 48)
