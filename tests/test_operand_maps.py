"""The activation of neurons over both operands."""

from types import SimpleNamespace

import pytest
import torch
from memorised import memorised

from toytask_cli.analysis.operand_maps import (
    LEVELS,
    activation_maps,
    at_all_operands,
    shown_operands,
    shown_positions,
    shrink,
    small_maps,
)

NAN = torch.nan


@pytest.fixture(scope="module")
def matched():
    return at_all_operands(*memorised("sum", "concat"))


@pytest.mark.parametrize("task", [0, 1])
def test_a_map_holds_the_activation_at_each_pair_and_position(matched, task):
    neurons = torch.tensor([40, 3])
    maps = activation_maps(matched, task, neurons)
    assert maps.shape == (2, matched.grid.answers.shape[-1] - 1, 10, 10)
    for a in range(10):
        for b in range(10):
            examples = matched.grid.examples(torch.tensor([task]), torch.tensor([10 * a + b]))
            with torch.no_grad():
                acts = matched.model(examples.prompts, examples.answers[:, :-1]).acts[0]
            ended = examples.answers[0, 1:] == 0
            expected = acts[:, neurons].masked_fill(ended[:, None], NAN).T
            torch.testing.assert_close(
                maps[:, :, a, b], expected, equal_nan=True, atol=1e-5, rtol=0
            )


def of_digits(digits: int):
    return SimpleNamespace(spec=SimpleNamespace(digits=digits, split_seed=3))


def test_all_operands_are_shown_up_to_a_hundred_and_then_a_sample_of_all_digits():
    assert shown_operands(of_digits(1)).tolist() == list(range(10))
    assert shown_operands(of_digits(2)).tolist() == list(range(100))
    sample = shown_operands(of_digits(3))
    assert len(sample.unique()) == 100
    assert sample.tolist() == sorted(sample.tolist())
    assert sample.max() > 900
    assert len((sample % 10).unique()) == 10


def test_positions_with_a_tenth_of_the_largest_value_matter():
    assert shown_positions(torch.tensor([0.5, 0.05, 0.049])) == [0, 1]
    assert shown_positions(torch.tensor([-0.5, 0.0, 0.1])) == [2]
    assert shown_positions(torch.tensor([0.0, -1.0])) == []


def test_a_smaller_map_shows_the_largest_activation_of_each_block():
    values = torch.tensor([[0, 1, 0, NAN], [2, 0, 0, NAN], [0, 0, 5, 4], [0, 3, 0, 6]])
    assert shrink(values[None], 2)[0].tolist() == [[2, 0], [3, 6]]
    assert shrink(values[None], 4)[0].tolist() == values.nan_to_num().tolist()


def test_small_maps_hold_sixteen_levels_of_each_neurons_own_peak(matched):
    neurons, tasks = torch.tensor([40, 3, 17]), torch.tensor([1, 0, 1])
    positions = torch.tensor([1, 0, 0])
    small = small_maps(matched, neurons, tasks, positions)
    levels = torch.stack([small.map_levels // LEVELS, small.map_levels % LEVELS], dim=-1).flatten(2)
    for i in range(3):
        full = activation_maps(matched, int(tasks[i]), neurons)[i, positions[i]].nan_to_num()
        assert small.map_peaks[i] == pytest.approx(float(full.max()), abs=1e-5)
        shown = levels[i] / (LEVELS - 1) * small.map_peaks[i]
        assert (shown - full).abs().max() <= small.map_peaks[i] / (LEVELS - 1) + 1e-6
        assert ((levels[i] > 0) == (full > 0)).all()  # what fires at all can be seen
