"""The optimisers of a recipe: AdamW alone, or Muon for hidden matrices and AdamW for the rest."""

from collections.abc import Iterable

import torch
from torch import Tensor, nn
from torch.optim.adamw import adamw

from toytask_cli.recipe import Recipe
from toytask_cli.training.flat_parameters import FlatParameters
from toytask_cli.training.muon import Muon
from toytask_cli.training.workers import Workers


class AdamW:
    """PyTorch's AdamW on vectors with gradients, in one kernel each.

    `torch.optim.AdamW` itself would load PyTorch's compiler first, which takes seconds.

    Args:
        vectors: what it steps on.
        lr: the learning rate, a tensor [], read at every step, also at a captured one.
        weight_decay: as of `torch.optim.AdamW`, whose other settings are its defaults.
    """

    def __init__(self, vectors: Iterable[nn.Parameter], lr: Tensor, weight_decay: float):
        self.lr, self.weight_decay = lr, weight_decay
        self.state = {
            vector: {
                "step": torch.zeros((), device=vector.device),
                "exp_avg": torch.zeros_like(vector),
                "exp_avg_sq": torch.zeros_like(vector),
            }
            for vector in vectors
        }

    @torch.no_grad()
    def step(self) -> None:
        """Take one step along the vectors' gradients."""
        steps, averages, squares = map(
            list, zip(*(state.values() for state in self.state.values()), strict=True)
        )
        adamw(
            list(self.state),
            [vector.grad for vector in self.state if vector.grad is not None],
            averages,
            squares,
            [],
            steps,
            fused=True,
            capturable=self.lr.device.type == "cuda",
            amsgrad=False,
            beta1=0.9,
            beta2=0.999,
            lr=self.lr,
            weight_decay=self.weight_decay,
            eps=1e-8,
            maximize=False,
        )


def make_optimizers(
    recipe: Recipe,
    parameters: FlatParameters,
    rate: Tensor,
    precision: torch.dtype,
    workers: Workers,
) -> list[AdamW | Muon]:
    """Return the optimisers, which step on the flat vectors at the rate that the tensor [] holds.

    Args:
        recipe: their settings; the rate is AdamW's, and Muon's is proportional to it.
        parameters: what they optimise.
        rate: the present learning rate, on the device.
        precision: type of matrix products.
        workers: among whom Muon divides the matrices.
    """
    optimizers: list[AdamW | Muon] = []
    vectors = dict(parameters.vectors)
    if recipe.optimizer == "muon" and "matrices" in vectors:
        del vectors["matrices"]
        factor = recipe.muon_lr / recipe.lr
        decay, matrices = recipe.muon_weight_decay, parameters.trained["matrices"]
        optimizers.append(Muon(matrices, rate, factor, decay, precision, workers))
    if vectors:
        optimizers.append(AdamW(vectors.values(), rate, recipe.weight_decay))
    return optimizers
