"""Rank correlation against known values."""

import pytest
import torch

from toytask_cli.analysis.statistics import ranks, spearman


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
