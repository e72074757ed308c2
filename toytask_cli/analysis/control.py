"""What a removal is compared with: as many random live neurons that fire as often."""

import torch
from torch import Tensor

# Live neurons are put in order of density and cut into this many strata of equal size. More than
# two would match more closely, and tell less: the tasks' neurons differ in density once the tasks
# have come apart, so that fine strata hand back the very neurons that were chosen.
STRATA = 2

DRAWS = 20


def random_sets(
    density: Tensor, chosen: Tensor, draw: torch.Generator, draws: int = DRAWS
) -> list[Tensor]:
    """Random sets of live neurons, as large as the chosen one and of matched density.

    From each stratum of density a set takes as many neurons as are chosen there, each neuron of
    the stratum with the same chance, chosen or not: as if the choice had not looked at tasks.
    Chosen neurons that are dead are left out, since removing them does nothing.

    Args:
        density: [d_sae] share of positions where each neuron fires.
        chosen: [k] neurons.
        draw: where the sets come from.
        draws: number of sets.

    Returns:
        Sets of neurons in ascending order.
    """
    live = density.nonzero().squeeze(-1)
    ordered = live[density[live].argsort(stable=True)]
    strata = [s for s in ordered.tensor_split(STRATA) if len(s)]
    sizes = [int(torch.isin(stratum, chosen).sum()) for stratum in strata]
    return [_draw_set(strata, sizes, draw) for _ in range(draws)]


def _draw_set(strata: list[Tensor], sizes: list[int], draw: torch.Generator) -> Tensor:
    picked = [
        stratum[torch.randperm(len(stratum), generator=draw)[:size]]
        for stratum, size in zip(strata, sizes, strict=True)
    ]
    return torch.cat([torch.empty(0, dtype=torch.int64), *picked]).sort().values
