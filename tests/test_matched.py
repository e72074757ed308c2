"""Pairs that a model has looked at: x is the same whether it was kept or made anew."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memorised import memorised

from toytask_cli.analysis import matched as module
from toytask_cli.analysis.ablation import ablate
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.analysis.matched import Matched
from toytask_cli.tokenizer import PAD

MODEL, GRID = memorised("sum", "concat")
PAIRS = GRID.matched_pairs()[0]
SIZES = {"kept": 2**27, "made anew": 0}


@pytest.fixture
def passes(monkeypatch):
    """How many examples each forward pass of the model has seen."""
    seen: list[int] = []
    made = MODEL.residual
    monkeypatch.setattr(MODEL, "residual", lambda p, a: seen.append(len(p)) or made(p, a))
    return seen


@pytest.mark.parametrize("kept", SIZES.values(), ids=SIZES)
@given(
    rows=st.lists(st.integers(0, len(PAIRS) - 1), min_size=1, max_size=9),
    task=st.sampled_from([0, 1]),
)
def test_x_is_what_the_model_makes_of_the_rows_in_their_order(kept, rows, task):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "KEPT", kept)
        patch.setattr(module, "BATCH", 7)
        examples, resid = Matched(MODEL, GRID, PAIRS).look(task, torch.tensor(rows))
    expected = GRID.matched(PAIRS[rows])[task].cut()
    assert torch.equal(examples.prompts, expected.prompts)
    assert torch.equal(examples.answers, expected.answers)
    with torch.no_grad():
        made = MODEL.residual(expected.prompts, expected.answers[:, :-1])
    real = expected.answers[:, 1:] != PAD
    torch.testing.assert_close(resid[real], made[real], atol=1e-5, rtol=1e-5)


def test_scores_choice_and_joint_effect_take_one_pass_over_each_pair(passes):
    scores = score_neurons(MODEL, GRID, seed=0, resamples=1)
    ablate(scores, remove=["concat"])
    assert sum(passes) == len(GRID.tasks) * sum(map(len, GRID.matched_pairs()))


def test_what_would_take_too_much_memory_is_made_anew_and_says_the_same(passes, monkeypatch):
    reports = []
    for kept in SIZES.values():
        monkeypatch.setattr(module, "KEPT", kept)
        scores = score_neurons(MODEL, GRID, seed=0, resamples=1)
        reports.append(ablate(scores, remove=["concat"], tolerance=0.1))
        assert bool(scores.matched._kept) == bool(kept)
    one, other = reports
    assert (one.neurons, one.test, one.curve) == (other.neurons, other.test, other.curve)
    assert sum(passes) > 3 * len(GRID.tasks) * sum(map(len, GRID.matched_pairs()))
