"""Answers beside each other, and the neurons behind them, against slower ways to the same."""

import pytest
import torch
from memorised import memorised

from toytask_cli.analysis import prediction
from toytask_cli.analysis.conversation import Variant, answer_prompts, describe_error, look_up
from toytask_cli.analysis.error_types import answer_texts
from toytask_cli.analysis.explanation import explain, look_at_neuron, see
from toytask_cli.analysis.prediction import decode_greedily, score
from toytask_cli.analysis.sparsity import measure_sparsity
from toytask_cli.errors import ToytaskError
from toytask_cli.hooks import ablate_neurons, cache_activations
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
    asked = look_up(grid, [prompt]).prompts
    chances = []
    for end in range(1, len(ids)):
        with torch.no_grad():
            logits = model(asked, torch.tensor([ids[:end]])).logits[0, -1]
        chances.append(float(logits.double().exp()[ids[end]] / logits.double().exp().sum()))
    return chances


# Answers


def test_probabilities_are_those_of_one_forward_pass_for_each_token(known):
    model, grid = known
    for prompt, found in zip(
        PROMPTS, answer_prompts(model, grid, PROMPTS, {"trained": Variant()}), strict=True
    ):
        answer = found["trained"]
        expected = slow_probabilities(model, grid, prompt, answer.tokens)
        assert answer.probabilities == pytest.approx(expected, abs=1e-5)


def test_an_answer_is_correct_exactly_where_teacher_forcing_says_so(known):
    model, grid = known
    with ablate_neurons(model, range(0, 48, 2)):
        expected = score(model, look_up(grid, PROMPTS)).right.tolist()
    found = answer_prompts(model, grid, PROMPTS, {"half": Variant(torch.arange(0, 48, 2))})
    assert [answers["half"].correct for answers in found] == expected
    assert [answers["half"].closest is None for answers in found] == expected


def test_a_column_says_what_the_model_says_with_its_neurons_removed(known):
    model, grid = known
    columns = {
        "trained": Variant(),
        "some": Variant(torch.arange(20)),
        "drop": Variant(torch.arange(5), "drop"),
    }
    found = answer_prompts(model, grid, PROMPTS, columns)
    asked = look_up(grid, PROMPTS).prompts
    for name, neurons, error in [("some", range(20), "keep"), ("drop", range(5), "drop")]:
        with ablate_neurons(model, neurons, error):
            written, chances = decode_greedily(model, asked, grid.answers.shape[-1] - 1)
        assert [answers[name].text for answers in found] == answer_texts(grid, written)
        for answers, row in zip(found, chances, strict=True):
            answer = answers[name]
            assert answer.probabilities == pytest.approx(row[: len(answer.tokens)].tolist())
    assert [answers["trained"].text for answers in found] == [p.plain_target for p in PROMPTS]


@pytest.mark.parametrize(
    ("said", "tokens", "closest"),
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
def test_a_wrong_answer_is_told_by_what_it_is_closest_to(said, tokens, closest):
    tasks = find_tasks(["sum", "concat", "diff"])
    assert describe_error(said, tokens.split(), Prompt(CONCAT, 47, 23), tasks) == closest


def test_all_tasks_that_give_the_wrong_answer_are_named():
    tasks = find_tasks(["sum", "concat", "max", "diff"])
    said = describe_error("7", ["7", "E"], Prompt(CONCAT, 7, 0), tasks)
    assert said == "the answer of sum and max and diff"


@pytest.mark.parametrize(
    ("report", "said"),
    [
        ({"neurons": [48], "error": "keep"}, "there is no neuron 48"),
        ({"neurons": [1], "error": "kep"}, "did you mean 'keep'"),
    ],
)
def test_an_ablation_that_fits_no_model_is_refused(report, said):
    with pytest.raises(ToytaskError, match=said):
        Variant.from_report(report, 48)


# Explanations


def test_a_push_is_what_removing_the_neuron_takes_from_the_written_token(known):
    model, grid = known
    prompt = Prompt(CONCAT, 4, 7)
    asked = look_up(grid, [prompt])
    place = explain(model, grid, prompt, Variant())[1]
    token = grid.tokenizer.tokens.index(place.token)

    def centred() -> float:
        with torch.no_grad():
            logits = model(asked.prompts, asked.answers[:, :-1]).logits[0, 1]
        return float(logits[token] - logits.mean())

    before = centred()
    assert place.firing
    for one in place.firing:
        with ablate_neurons(model, [one.neuron]):
            assert before - centred() == pytest.approx(one.push, abs=1e-4)


def test_why_lists_every_neuron_that_fires_where_the_answer_is_written(known):
    model, grid = known
    prompt = Prompt(SUM, 4, 7)
    asked = look_up(grid, [prompt])
    with cache_activations(model) as record, torch.no_grad():
        model(asked.prompts, asked.answers[:, :-1])
    places = explain(model, grid, prompt, Variant())
    assert [place.token for place in places] == ["11", "E"]
    for acts, place in zip(record["sae"][0], places, strict=False):
        expected = {
            i: pytest.approx(float(acts[i]), abs=1e-5) for i in acts.nonzero()[:, 0].tolist()
        }
        assert {one.neuron: one.activation for one in place.firing} == expected


def test_a_neuron_pushes_the_tokens_at_the_ends_of_its_logits(known):
    model, grid = known
    seen = see(model, grid)
    for neuron in range(10):
        effect = (model.readout.weight @ model.sae.decoder.weight[:, neuron]).tolist()
        order = sorted(range(1, len(effect)), key=lambda i: effect[i])  # 0 is the pad
        names = [grid.tokenizer.tokens[i] for i in order]
        ends = look_at_neuron(model, grid, seen, neuron).ends
        assert (ends.up, ends.down) == (names[:-4:-1], names[:3])


def test_a_neurons_density_is_that_of_the_sparsity_report(known, monkeypatch):
    model, grid = known
    monkeypatch.setattr(prediction, "BATCH", 16)  # batches differ in the length of their answers
    seen = see(model, grid)
    density = measure_sparsity(model, grid, "test")[1].density
    for neuron in range(48):
        found = look_at_neuron(model, grid, seen, neuron).density
        assert list(found.values()) == pytest.approx(density[:, neuron].tolist(), abs=1e-6)


def test_the_prompts_that_excite_a_neuron_most_are_found(known):
    model, grid = known
    examples = grid.split("test")
    with cache_activations(model) as record, torch.no_grad():
        model(examples.prompts, examples.answers[:, :-1])
    peaks = (record["sae"] * (examples.answers[:, 1:] != 0).unsqueeze(-1)).amax(dim=1)
    neuron = int(peaks.amax(dim=0).argmax())
    best = look_at_neuron(model, grid, see(model, grid), neuron).excited[0]
    row = int(peaks[:, neuron].argmax())
    assert best.activation == pytest.approx(float(peaks[row, neuron]), abs=1e-5)
    assert f"B{best.prompt}E" == grid.tokenizer.decode(examples.prompts[row].tolist())


def test_a_sample_of_unseen_examples_bounds_the_memory(known):
    model, grid = known
    assert len(see(model, grid, limit=7).resid) == 7
