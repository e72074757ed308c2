"""The rule on hand-made importances, the removals that tolerances give, the random control."""

from itertools import pairwise

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from toytask_cli.analysis.select import (
    CURVE_POINTS,
    STRATA,
    apply_rule,
    entry_tolerances,
    largest_that_keeps,
    random_sets,
    removals,
)
from toytask_cli.analysis.stats import FLOOR
from toytask_cli.errors import UsageError

# Two tasks, the first one removed:   0    1     2     3     4    5     6    7    8
HAND_MADE = torch.tensor(
    [
        [0.5, 0.5, 0.5, 0.05, 0.0, -0.1, 0.05, 0.1, 0.2],
        [0.0, -0.1, 0.05, 0.5, 0.0, -0.1, 0.05, 0.3, 0.1],
    ]
)


def literal_rule(importance: Tensor, removed: list[int], tolerance: float) -> list[int]:
    """The rule word for word."""
    values = importance.double()
    kept = [k for k in range(len(values)) if k not in removed]
    chosen = []
    for i in range(values.shape[1]):
        gain = max(float(values[r, i]) for r in removed)
        spared = all(
            values[k, i] <= 0 or (values[k, i] < tolerance and values[k, i] < gain) for k in kept
        )
        if gain > 0 and spared:
            chosen.append(i)
    return chosen


def test_at_tolerance_zero_only_neurons_that_cost_the_kept_task_nothing_go() -> None:
    assert apply_rule(HAND_MADE, [0], 0.0).tolist() == [0, 1]


def test_a_tolerance_lets_neurons_go_that_matter_more_to_the_removed_task() -> None:
    assert apply_rule(HAND_MADE, [0], 0.06).tolist() == [0, 1, 2]
    assert apply_rule(HAND_MADE, [0], 100.0).tolist() == [0, 1, 2, 8]


def test_a_tie_between_the_tasks_keeps_the_neuron() -> None:
    assert 6 not in apply_rule(HAND_MADE, [0], 100.0)
    assert 6 not in apply_rule(HAND_MADE, [1], 100.0)


def test_an_importance_equal_to_the_tolerance_keeps_the_neuron() -> None:
    cost = float(HAND_MADE[1, 2])
    assert 2 not in apply_rule(HAND_MADE, [0], cost)
    assert 2 in apply_rule(HAND_MADE, [0], cost * 1.0001)


def test_removing_the_other_task_mirrors_the_rule() -> None:
    assert apply_rule(HAND_MADE, [1], 0.2).tolist() == [3, 7]
    assert apply_rule(HAND_MADE, [1], 0.0).tolist() == []


def test_every_kept_task_must_be_spared() -> None:
    three = torch.tensor([[1.0, 1.0, 1.0], [0.0, 0.3, 0.0], [0.0, 0.0, 2.0]])
    assert apply_rule(three, [0], 0.5).tolist() == [0, 1]
    assert apply_rule(three, [0], 0.2).tolist() == [0]
    assert apply_rule(three, [0], 9.0).tolist() == [0, 1]


def test_of_several_removed_tasks_the_largest_importance_counts() -> None:
    three = torch.tensor([[1.0, -1.0, 0.1], [-1.0, 1.0, 0.3], [0.0, 0.0, 0.2]])
    assert apply_rule(three, [0, 1], 0.5).tolist() == [0, 1, 2]
    assert apply_rule(three, [0], 0.5).tolist() == [0]


matrices = st.integers(2, 4).flatmap(
    lambda tasks: st.integers(1, 12).flatmap(
        lambda n: st.lists(
            st.lists(st.sampled_from([-0.2, 0.0, 0.1, 0.2, 0.5, 1.0]), min_size=n, max_size=n),
            min_size=tasks,
            max_size=tasks,
        ).map(torch.tensor)
    )
)


@given(matrices, st.sampled_from([0.0, 0.1, 0.15, 0.2, 0.7, 5.0]), st.data())
def test_the_choice_is_the_rule_word_for_word(
    importance: Tensor, tolerance: float, data: st.DataObject
) -> None:
    n_removed = data.draw(st.integers(1, len(importance) - 1))
    removed = data.draw(st.permutations(range(len(importance))))[:n_removed]
    expected = literal_rule(importance, removed, tolerance)
    assert apply_rule(importance, removed, tolerance).tolist() == expected


@given(matrices)
def test_the_removals_are_distinct_grow_and_are_what_their_tolerances_choose(
    importance: Tensor,
) -> None:
    found = removals(importance, [0])
    assert found[0].tolerance == 0.0
    for smaller, larger in pairwise(found):
        assert smaller.tolerance < larger.tolerance
        assert set(smaller.neurons.tolist()) < set(larger.neurons.tolist())
    for tolerance, neurons in found:
        assert neurons.tolist() == literal_rule(importance, [0], tolerance)
    assert found[-1].neurons.tolist() == literal_rule(importance, [0], 1e9)


def test_many_removals_are_thinned_out_but_keep_both_ends() -> None:
    draw = torch.Generator().manual_seed(0)
    cost = 10 ** (6 * torch.rand(500, generator=draw) - 6)
    importance = torch.stack([torch.full((500,), 2.0), cost])
    found = removals(importance, [0])
    assert CURVE_POINTS / 2 < len(found) <= CURVE_POINTS
    assert len(found[0].neurons) == 0
    assert len(found[-1].neurons) == 500


@given(matrices)
def test_a_tolerance_that_is_printed_and_typed_again_removes_the_same(importance: Tensor) -> None:
    for tolerance, neurons in removals(importance, [0]):
        typed = float(f"{tolerance:.15g}")
        assert apply_rule(importance, [0], typed).tolist() == neurons.tolist()


def test_an_importance_that_float32_does_not_resolve_counts_as_zero() -> None:
    # From 8 nats to the next larger number of float32.
    assert 8 * torch.finfo(torch.float32).eps < FLOOR
    below, above = 0.9 * FLOOR, 1.1 * FLOOR
    importance = torch.tensor(
        [
            [below, -below, above, 1.0, 1.0, 1.0],
            [0.0, -1.0, -1.0, below, -below, above],
        ]
    )
    assert apply_rule(importance, [0], 0.0).tolist() == [2, 3, 4]
    assert apply_rule(importance, [0], 0.1).tolist() == [2, 3, 4, 5]
    assert apply_rule(importance, [1], 0.0).tolist() == []
    assert [len(removal.neurons) for removal in removals(importance, [0])] == [3, 4]


def test_neurons_that_no_tolerance_removes_enter_at_infinity() -> None:
    starts = entry_tolerances(HAND_MADE, [0])
    assert starts[[0, 1]].tolist() == [0.0, 0.0]
    assert starts[[3, 4, 5, 6, 7]].isinf().all()


@pytest.mark.parametrize("tolerance", [-0.1, float("nan"), float("inf")])
def test_a_tolerance_that_is_no_amount_of_loss_is_refused(tolerance: float) -> None:
    with pytest.raises(UsageError, match="tolerance is .*: must be 0 or more"):
        apply_rule(HAND_MADE, [0], tolerance)


def test_the_largest_removal_must_keep_every_kept_task() -> None:
    before = torch.ones(3, 200, dtype=torch.bool)
    after = before.repeat(3, 1, 1)
    after[:, 0] = False
    after[1, 1, :2] = False  # 99 % of the second task: enough
    after[2, 2, :3] = False  # 98.5 % of the third: too little
    assert largest_that_keeps(before, after, [0]) == 1
    assert largest_that_keeps(before, after, [0, 2]) == 2
    assert largest_that_keeps(before, after[2:], [0]) is None


# The random control: as large as the choice, alive, and as dense

DENSITY = torch.cat([torch.zeros(50), torch.logspace(-4, 0, 200)])
CHOSEN = torch.arange(100, 220, 3)


def draw(seed: int = 0, chosen: torch.Tensor = CHOSEN) -> list[torch.Tensor]:
    return random_sets(DENSITY, chosen, torch.Generator().manual_seed(seed))


def test_each_set_has_as_many_different_live_neurons_as_are_chosen() -> None:
    sets = draw()
    assert len(sets) == 20
    for neurons in sets:
        assert len(neurons.unique()) == len(neurons) == len(CHOSEN)
        assert (DENSITY[neurons] > 0).all()


def test_each_stratum_gives_as_many_as_are_chosen_there() -> None:
    strata = torch.arange(50, 250).tensor_split(STRATA)
    for neurons in draw():
        for stratum in strata:
            wanted = torch.isin(stratum, CHOSEN).sum()
            assert torch.isin(stratum, neurons).sum() == wanted


def test_the_draws_differ_and_the_same_seed_gives_the_same_ones() -> None:
    one, again, other = draw(1), draw(1), draw(2)
    assert all(map(torch.equal, one, again))
    assert not any(map(torch.equal, one, one[1:]))
    assert not any(map(torch.equal, one, other))


def test_dead_chosen_neurons_are_not_matched() -> None:
    assert all(len(neurons) == 0 for neurons in draw(chosen=torch.arange(10)))


def test_choosing_every_live_neuron_leaves_one_control() -> None:
    everything = torch.arange(50, 250)
    assert all(torch.equal(neurons, everything) for neurons in draw(chosen=everything))
