"""The random control is as large as the choice, alive, and as dense."""

import torch

from toytask_cli.analysis.control import STRATA, random_sets

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
