"""Single neurons: logit attribution, when one fires, what a prompt activates."""

import pytest
import torch
from memorised import memorised

from toytask_cli.analysis import generate, neurons
from toytask_cli.analysis.generate import Variant, examples_for
from toytask_cli.analysis.neurons import explain, neuron_summary, sample_residuals
from toytask_cli.analysis.sparsity import measure_sparsity
from toytask_cli.hooks import ablate_neurons, cache_activations
from toytask_cli.prompts import Prompt
from toytask_cli.tasks import TASKS

SUM, CONCAT = TASKS["sum"], TASKS["concat"]


@pytest.fixture(scope="module")
def known():
    """A tiny model that knows its whole grid, and the grid."""
    return memorised("sum", "concat")


def test_a_logit_attribution_is_what_ablating_the_neuron_costs_the_written_token(known):
    model, grid = known
    prompt = Prompt(CONCAT, 4, 7)
    asked = examples_for(grid, [prompt])
    token = explain(model, grid, prompt, Variant())[1]
    index = grid.tokenizer.tokens.index(token.token)

    def centred() -> float:
        with torch.no_grad():
            logits = model(asked.prompts, asked.answers[:, :-1]).logits[0, 1]
        return float(logits[index] - logits.mean())

    before = centred()
    assert token.neurons
    for one in token.neurons:
        with ablate_neurons(model, [one.neuron]):
            assert before - centred() == pytest.approx(one.logit_attribution, abs=1e-4)


def test_why_lists_every_neuron_that_fires_where_the_answer_is_written(known):
    model, grid = known
    prompt = Prompt(SUM, 4, 7)
    asked = examples_for(grid, [prompt])
    with cache_activations(model) as record, torch.no_grad():
        model(asked.prompts, asked.answers[:, :-1])
    tokens = explain(model, grid, prompt, Variant())
    assert [token.token for token in tokens] == ["11", "E"]
    for acts, token in zip(record["sae"][0], tokens, strict=False):
        expected = {
            i: pytest.approx(float(acts[i]), abs=1e-5) for i in acts.nonzero()[:, 0].tolist()
        }
        assert {one.neuron: one.activation for one in token.neurons} == expected


def test_a_neuron_s_top_tokens_are_at_the_ends_of_its_logit_weights(known):
    model, grid = known
    sample = sample_residuals(model, grid)
    for neuron in range(10):
        weights = (model.readout.weight @ model.sae.directions[neuron]).tolist()
        order = sorted(range(1, len(weights)), key=lambda i: weights[i])  # 0 is the pad
        names = [grid.tokenizer.tokens[i] for i in order]
        tokens = neuron_summary(model, grid, sample, neuron).tokens
        assert (tokens.promoted, tokens.suppressed) == (names[:-4:-1], names[:3])


def test_a_neurons_density_is_that_of_the_sparsity_report(known, monkeypatch):
    model, grid = known
    for module in (generate, neurons):
        monkeypatch.setattr(module, "BATCH", 16)  # batches differ in the length of their answers
    sample = sample_residuals(model, grid)
    density = measure_sparsity(model, grid, "test")[1].density
    for neuron in range(48):
        found = neuron_summary(model, grid, sample, neuron).density
        assert list(found.values()) == pytest.approx(density[:, neuron].tolist(), abs=1e-6)


def test_the_top_prompts_are_those_that_a_neuron_fires_most_for(known):
    model, grid = known
    examples = grid.split("test")
    with cache_activations(model) as record, torch.no_grad():
        model(examples.prompts, examples.answers[:, :-1])
    peaks = (record["sae"] * (examples.answers[:, 1:] != 0).unsqueeze(-1)).amax(dim=1)
    neuron = int(peaks.amax(dim=0).argmax())
    best = neuron_summary(model, grid, sample_residuals(model, grid), neuron).top_prompts[0]
    row = int(peaks[:, neuron].argmax())
    assert best.activation == pytest.approx(float(peaks[row, neuron]), abs=1e-5)
    assert f"B{best.prompt}E" == grid.tokenizer.decode(examples.prompts[row].tolist())


def test_a_sample_of_unseen_examples_bounds_the_memory(known):
    model, grid = known
    assert len(sample_residuals(model, grid, limit=7).resid) == 7
