"""Intervals and rank correlation against known values."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.analysis.stats import (
    percentile_interval,
    poisson_weights,
    ranks,
    spearman,
    wilson,
)


@pytest.mark.parametrize(
    ("right", "n", "low", "high"),
    [  # known values, to four digits
        (0, 10, 0.0, 0.2775), (10, 10, 0.7225, 1.0), (5, 10, 0.2366, 0.7634),
        (81, 263, 0.2553, 0.3662), (981, 1000, 0.9705, 0.9878),
    ],
)  # fmt: skip
def test_wilson_intervals_have_their_known_values(right, n, low, high):
    assert wilson(right, n) == pytest.approx((low, high), abs=5e-5)


@given(st.integers(1, 10_000).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_a_wilson_interval_holds_the_share_and_stays_within_0_and_1(counts):
    right, n = counts
    low, high = wilson(right, n)
    assert 0 <= low <= right / n <= high <= 1
    assert low < high


def test_equal_values_share_the_mean_of_their_ranks() -> None:
    assert ranks(torch.tensor([3.0, 1.0, 3.0, 2.0])).tolist() == [3.5, 1.0, 3.5, 2.0]


def test_spearman_is_one_for_any_growing_function_and_minus_one_for_a_falling_one() -> None:
    values = torch.tensor([0.1, 5.0, 2.0, -3.0])
    assert spearman(values, values.exp()) == pytest.approx(1.0)
    assert spearman(values, -values) == pytest.approx(-1.0)


def test_spearman_without_ties_equals_one_minus_six_sums_of_squares() -> None:
    a, b = torch.tensor([1.0, 2.0, 3.0, 4.0, 5.0]), torch.tensor([2.0, 1.0, 4.0, 5.0, 3.0])
    assert spearman(a, b) == pytest.approx(1 - 6 * (1 + 1 + 1 + 1 + 4) / (5 * 24))


def test_a_constant_has_no_rank_correlation() -> None:
    assert spearman(torch.ones(4), torch.arange(4.0)) is None


def test_a_percentile_interval_leaves_out_a_fortieth_at_either_end() -> None:
    samples = torch.arange(1001.0).flip(0).repeat(2, 1)
    low, high = percentile_interval(samples, dim=1)
    assert (low.tolist(), high.tolist()) == ([25.0, 25.0], [975.0, 975.0])


def test_poisson_weights_have_mean_and_variance_one() -> None:
    weights = poisson_weights(1000, 100, torch.Generator().manual_seed(0))
    assert weights.mean().item() == pytest.approx(1, abs=0.02)
    assert weights.var().item() == pytest.approx(1, abs=0.02)
