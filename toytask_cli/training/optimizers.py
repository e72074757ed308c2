"""The optimisers of a recipe: AdamW alone, or Muon for hidden matrices and AdamW for the rest."""

import torch
from torch import Tensor

from toytask_cli.recipe import Recipe
from toytask_cli.training.flat_parameters import FlatParameters
from toytask_cli.training.muon import Muon
from toytask_cli.training.workers import Workers


def make_optimizers(
    recipe: Recipe,
    parameters: FlatParameters,
    rate: Tensor,
    precision: torch.dtype,
    workers: Workers,
) -> list[torch.optim.Optimizer]:
    """Return the optimisers, which step on the flat vectors at the rate that the tensor [] holds.

    Args:
        recipe: their settings; the rate is AdamW's, and Muon's is proportional to it.
        parameters: what they optimise.
        rate: the present learning rate, on the device.
        precision: type of matrix products.
        workers: among whom Muon divides the matrices.
    """
    optimizers: list[torch.optim.Optimizer] = []
    vectors = dict(parameters.vectors)
    if recipe.optimizer == "muon" and "matrices" in vectors:
        del vectors["matrices"]
        factor = recipe.muon_lr / recipe.lr
        decay, matrices = recipe.muon_weight_decay, parameters.trained["matrices"]
        optimizers.append(Muon(matrices, rate, factor, decay, precision, workers))
    if vectors:
        adamw = torch.optim.AdamW(
            vectors.values(),
            lr=rate,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=rate.device.type == "cuda",
        )
        optimizers.append(adamw)
    return optimizers
