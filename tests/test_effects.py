"""Closed form and hooks agree on the effect of a neuron; fast and slow removals agree on sets."""

import math
from functools import partial

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from memorised import SMALL, memorised
from torch import Tensor

from toytask_cli.analysis.effects import (
    METHODS,
    Effects,
    effects_closed_form,
    logit_weights,
    logits_without,
    loss_increases,
    right_without,
)
from toytask_cli.analysis.evaluate import score
from toytask_cli.analysis.generate import AS_TRAINED, residuals
from toytask_cli.analysis.importance import ImportanceTensors, importance_stats
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.dataset import Examples, build_grid, pad_to
from toytask_cli.errors import UsageError
from toytask_cli.hooks import ablate_neurons
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import SAE_KINDS, resolve
from toytask_cli.tokenizer import EOS, PAD

RECIPE = resolve("default", SMALL)
GRID = build_grid(RECIPE)
PAIRS = GRID.matched_pairs()[1]
ALL = torch.arange(SMALL["d_sae"])
SETS = st.lists(st.lists(st.integers(0, SMALL["d_sae"] - 1), unique=True), max_size=6)


def at_pairs(model: Transformer) -> MatchedPairs:
    return MatchedPairs(model, GRID, PAIRS)


def measured(model: Transformer, resamples: int = 10) -> ImportanceTensors:
    """Importance by the closed form, over all pairs."""
    matched, rows = at_pairs(model), torch.arange(len(PAIRS))
    return importance_stats(
        matched, rows, matched.firing_stats(), effects_closed_form, 0, resamples
    )


def effects_by(
    method: str, model: Transformer, examples: Examples, neurons: Tensor, means: Tensor
) -> Effects:
    with torch.no_grad():
        resid = model.residual(examples.prompts, examples.answers[:, :-1])
    return METHODS[method](model, examples, resid, neurons, means)


def fresh(sae: str = "relu") -> Transformer:
    recipe = resolve("default", SMALL, {"sae": sae})
    return new_model(recipe, len(GRID.tokenizer))


def hand_set() -> Transformer:
    """x is 0 everywhere, so every token is as likely; f = (2, 0.5), and only `E` reads x.

    Neuron 0 writes 3 into the dimension that `E` reads, neuron 1 writes where nothing reads.
    """
    recipe = resolve("default", SMALL | {"d_model": 4, "n_heads": 1, "d_sae": 2})
    model = new_model(recipe, len(GRID.tokenizer))
    with torch.no_grad():
        for parameter in [*model.decoder.norm.parameters(), *model.sae.parameters()]:
            parameter.zero_()
        model.sae.encoder.bias.copy_(torch.tensor([2.0, 0.5]))
        model.sae.decoder.weight[0, 0] = 3.0
        model.sae.decoder.weight[1, 1] = 3.0
        model.readout.weight.zero_()
        model.readout.weight[EOS, 0] = 1.0
    return model


def test_hand_set_neurons_have_the_importance_that_one_can_work_out() -> None:
    model = hand_set()
    found = measured(model)
    # Removing neuron 0 moves E's logit from 0 to −6: one of the n_tokens targets is E.
    others = len(GRID.tokenizer) - 1
    shift = math.log((others + math.exp(-6)) / (others + 1))
    for task, examples in enumerate(GRID.matched(PAIRS)):
        n_tokens = (examples.answers[:, 1:] != PAD).sum(dim=1)
        expected = shift + 6 * float((1 / n_tokens).mean())
        assert float(found.importance[task, 0]) == pytest.approx(expected, rel=1e-5)
        assert float(found.importance[task, 1]) == pytest.approx(0.0, abs=1e-6)
    # At the first position no target is E; at the second it is E for every sum.
    assert float(found.by_position[0, 0, 0]) == pytest.approx(shift, rel=1e-5)
    assert float(found.by_position[0, 1, 0]) == pytest.approx(shift + 6, rel=1e-5)
    # An activation that is constant is its own mean.
    torch.testing.assert_close(found.mean_ablation, torch.zeros(2, 2), atol=1e-6, rtol=0)


def test_logit_weights_are_what_a_unit_of_the_neuron_adds_to_the_logits() -> None:
    assert logit_weights(hand_set())[0, EOS] == 3.0
    assert logit_weights(hand_set())[1].abs().sum() == 0.0


@pytest.mark.parametrize(
    "make", [*(partial(fresh, kind) for kind in SAE_KINDS), lambda: memorised("sum", "concat")[0]]
)
def test_closed_form_and_hooks_agree_on_every_neuron_position_and_ablation(make) -> None:
    model = make()
    means = at_pairs(model).firing_stats().mean_acts
    for examples in GRID.matched(PAIRS):
        fast, slow = (effects_by(name, model, examples, ALL, means) for name in METHODS)
        for one, other in zip(fast, slow, strict=True):
            assert one.abs().max() > 0.01
            torch.testing.assert_close(one, other, atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_some_neurons_have_the_effects_that_they_have_among_all(method: str) -> None:
    model, some = fresh(), torch.tensor([40, 3, 17])
    means = at_pairs(model).firing_stats().mean_acts
    examples = GRID.matched(PAIRS)[1]
    among_all = effects_by(method, model, examples, ALL, means)
    alone = effects_by(method, model, examples, some, means[some])
    for few, every in zip(alone, among_all, strict=True):
        torch.testing.assert_close(few, every[..., some], atol=1e-5, rtol=1e-5)


@pytest.mark.parametrize("method", METHODS)
def test_pads_and_silent_neurons_have_no_effect(method: str) -> None:
    model = fresh()
    with torch.no_grad():
        model.sae.encoder.bias[7] = -1000.0
    plain = GRID.matched(PAIRS)[0]
    padded = Examples(plain.prompts, pad_to(plain.answers, 6), plain.tasks, plain.pairs)
    effects = effects_by(method, model, padded, ALL, torch.ones(48))
    assert effects.zero.shape == effects.mean.shape == (len(PAIRS), 5, 48)
    for one in effects:
        assert not one[padded.answers[:, 1:] == PAD].any()
    assert not effects.zero[..., 7].any()


def test_large_effects_do_not_overflow() -> None:
    model = hand_set()
    with torch.no_grad():
        model.sae.decoder.weight[0, 0] = -1000.0
    examples = GRID.matched(PAIRS)[0]
    for effects in effects_by("closed", model, examples, torch.arange(2), torch.ones(2)):
        assert effects.isfinite().all()


@pytest.mark.parametrize("error", ["keep", "drop"])
@settings(max_examples=15, deadline=None)
@given(sets=SETS)
def test_many_removals_in_one_pass_equal_one_hook_for_each(
    error: str, sets: list[list[int]]
) -> None:
    model, grid = memorised("sum", "concat")
    wanted = [torch.tensor(s, dtype=torch.int64) for s in sets]
    right = right_without(at_pairs(model), [AS_TRAINED, *wanted], error)
    for task, examples in enumerate(grid.matched(PAIRS)):
        assert torch.equal(right[0, task], score(model, examples).right)
        for neurons, row in zip(wanted, right[1:], strict=True):
            with ablate_neurons(model, neurons, error):
                assert torch.equal(row[task], score(model, examples).right)


@pytest.mark.parametrize("error", ["keep", "drop"])
def test_the_logits_equal_the_hook_s_whatever_set_came_before(error: str) -> None:
    model, grid = memorised("sum", "concat")
    sets = [torch.arange(0, 48, 2), torch.arange(10, 40), AS_TRAINED, torch.tensor([], dtype=int)]
    examples = grid.matched(PAIRS)[1]
    seen: dict[int, Tensor] = {}
    for number, _, logits in logits_without(model, residuals(model, examples), sets, error):
        seen[number] = logits.clone()
    for number, neurons in enumerate(sets):
        if neurons is AS_TRAINED:
            expected = model(examples.prompts, examples.answers[:, :-1]).logits
        else:
            with ablate_neurons(model, neurons, error):
                expected = model(examples.prompts, examples.answers[:, :-1]).logits
        torch.testing.assert_close(seen[number], expected.detach(), atol=1e-4, rtol=1e-5)


def test_the_joint_effect_of_one_neuron_is_its_importance() -> None:
    model, _ = memorised("sum", "concat")
    sets = [torch.tensor([i]) for i in range(48)]
    found, alone = measured(model), loss_increases(at_pairs(model), PAIRS, sets)
    torch.testing.assert_close(alone.T.float(), found.importance, atol=1e-5, rtol=1e-4)


def test_importance_by_position_averages_to_the_importance_of_answers_of_one_length() -> None:
    found = measured(memorised("sum", "concat")[0])
    torch.testing.assert_close(found.by_position[0, :2].mean(dim=0), found.importance[0])
    assert found.n_at_position[0].tolist() == [len(PAIRS), len(PAIRS), 0]
    assert not found.by_position[0, 2].any()


def test_the_halves_average_to_the_importance_and_intervals_hold_it() -> None:
    found = measured(memorised("sum", "concat")[0], resamples=400)
    assert len(PAIRS) % 2 == 0
    torch.testing.assert_close(found.halves.mean(dim=1), found.importance, atol=1e-6, rtol=1e-5)
    inside = (found.low <= found.importance) & (found.importance <= found.high)
    assert inside.float().mean() > 0.95


def test_a_bootstrap_interval_has_the_width_of_the_normal_one() -> None:
    model, grid = memorised("sum", "concat")
    effects = effects_by("closed", model, grid.matched(PAIRS)[0], ALL, torch.zeros(48))
    losses = effects.zero.sum(dim=1) / 2
    neuron = int(losses.mean(dim=0).argmax())
    found = measured(model, resamples=4000)
    width = float(found.high[0, neuron] - found.low[0, neuron])
    normal = 2 * 1.96 * float(losses[:, neuron].std(correction=0)) / math.sqrt(len(PAIRS))
    assert width == pytest.approx(normal, rel=0.15)


def test_an_unknown_error_treatment_is_refused() -> None:
    model, _ = memorised("sum", "concat")
    with pytest.raises(UsageError, match="did you mean 'drop'"):
        right_without(at_pairs(model), [], "dorp")
