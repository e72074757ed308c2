"""x at matched pairs is the same whether it is cached or computed anew."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memorised import memorised

from toytask_cli.analysis import matched_pairs as module
from toytask_cli.analysis.ablate import ablate
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.tokenizer import PAD

MODEL, GRID = memorised("sum", "concat")
PAIRS = GRID.matched_pairs()[0]
SIZES = {"cached": 2**27, "computed anew": 0}


@pytest.fixture
def passes(monkeypatch):
    """Count the examples that each forward pass of the model has seen."""
    sizes: list[int] = []
    residual = MODEL.residual
    monkeypatch.setattr(MODEL, "residual", lambda p, a: sizes.append(len(p)) or residual(p, a))
    return sizes


@pytest.mark.parametrize("size", SIZES.values(), ids=SIZES)
@given(
    rows=st.lists(st.integers(0, len(PAIRS) - 1), min_size=1, max_size=9),
    task=st.sampled_from([0, 1]),
)
def test_x_is_the_model_s_at_these_rows_in_their_order(size, rows, task):
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "CACHE_BYTES", size)
        patch.setattr(module, "BATCH", 7)
        examples, resid = MatchedPairs(MODEL, GRID, PAIRS).batch(task, torch.tensor(rows))
    expected = GRID.matched(PAIRS[rows])[task].cut()
    assert torch.equal(examples.prompts, expected.prompts)
    assert torch.equal(examples.answers, expected.answers)
    with torch.no_grad():
        resid_expected = MODEL.residual(expected.prompts, expected.answers[:, :-1])
    real = expected.answers[:, 1:] != PAD
    torch.testing.assert_close(resid[real], resid_expected[real], atol=1e-5, rtol=1e-5)


def test_scores_choice_and_joint_effect_take_one_pass_over_each_pair(passes):
    scores = score_neurons(MODEL, GRID, seed=0, resamples=1)
    ablate(scores, remove=["concat"])
    assert sum(passes) == len(GRID.tasks) * sum(map(len, GRID.matched_pairs()))


def test_x_too_large_to_cache_is_computed_anew_with_the_same_results(passes, monkeypatch):
    reports = []
    for size in SIZES.values():
        monkeypatch.setattr(module, "CACHE_BYTES", size)
        scores = score_neurons(MODEL, GRID, seed=0, resamples=1)
        reports.append(ablate(scores, remove=["concat"], tolerance=0.1))
        assert bool(scores.matched._cache) == bool(size)
    one, other = reports
    assert (one.neurons, one.test, one.curve) == (other.neurons, other.test, other.curve)
    assert sum(passes) > 3 * len(GRID.tasks) * sum(map(len, GRID.matched_pairs()))
