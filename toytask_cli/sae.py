"""The sparse autoencoder (SAE): many neurons, few of which fire, that reconstruct a vector x.

    p = W_e x + b_e      f = activation(p)      x̂ = W_d f + b_d

A kind of SAE is a class here and a name in `recipe.SAE_KINDS`. Whoever needs activations calls
`encode`: a kind may make one neuron's activation depend on all of x.
"""

from typing import Any, NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from toytask_cli.recipe import Recipe

# Of JumpReLU, in units of p. The paper takes 0.001 for both, for x of length 1 and far larger
# batches; here x has about the length √d_model.
BANDWIDTH = 0.1
INITIAL_THRESHOLD = 0.1


class SAEOutput(NamedTuple):
    """The results of a forward pass."""

    pre_acts: Tensor  # [..., d_sae] p
    acts: Tensor  # [..., d_sae] f
    recon: Tensor  # [..., d_model] x̂
    l0: Tensor  # [...] number of neurons that fire


class SparseAutoencoder(nn.Module):
    """The frame of every kind; a kind is a subclass that takes the recipe alone.

    Args:
        recipe: the widths, and the settings of the kind.
        activation: p [..., d_sae] → f [..., d_sae], which is nowhere negative.
    """

    def __init__(self, recipe: Recipe, activation: nn.Module):
        super().__init__()
        self.encoder = nn.Linear(recipe.d_model, recipe.d_sae)
        self.activation = activation
        self.decoder = nn.Linear(recipe.d_sae, recipe.d_model)

    @classmethod
    def n_weights(cls, recipe: Recipe) -> int:
        """Return the number of weights without building the SAE."""
        return 2 * recipe.d_model * recipe.d_sae + recipe.d_sae + recipe.d_model

    def forward(self, x: Tensor) -> SAEOutput:
        """Map x [..., d_model] to p, f, x̂ and the number of neurons that fire."""
        pre_acts = self.encoder(x)
        acts = self.activation(pre_acts)
        return SAEOutput(pre_acts, acts, self.decode(acts), self.count_firing(pre_acts, acts))

    def encode(self, x: Tensor) -> Tensor:
        """Encode x [..., d_model] → f [..., d_sae]."""
        return self.activation(self.encoder(x))

    def decode(self, acts: Tensor) -> Tensor:
        """Decode f [..., d_sae] → x̂ [..., d_model]."""
        return self.decoder(acts)

    def count_firing(self, pre_acts: Tensor, acts: Tensor) -> Tensor:
        """Count the neurons that fire, from p and f [..., d_sae] → [...] float32."""
        # `sign` and not `> 0`: booleans are summed as int64, four times as slowly.
        return acts.detach().sign().sum(dim=-1, dtype=torch.float32)

    def sparsity_penalty(self, l1: Tensor, l0: Tensor) -> Tensor:
        """Return the kind's term of the loss, [].

        Args:
            l1: [] mean over positions of the summed activations.
            l0: [] mean over positions of the number of neurons that fire.
        """
        raise NotImplementedError

    @property
    def directions(self) -> Tensor:
        """[d_sae, d_model] d_i, what one unit of each neuron adds to x̂: the decoder's columns."""
        return self.decoder.weight.T

    @property
    def d_sae(self) -> int:
        """Number of neurons."""
        return self.encoder.out_features


class ReluSAE(SparseAutoencoder):
    """f = ReLU(p), as in the source; the penalty λ·L1 makes f sparse."""

    def __init__(self, recipe: Recipe):
        super().__init__(recipe, nn.ReLU())
        self.lambda_ = recipe.lambda_

    def sparsity_penalty(self, l1: Tensor, l0: Tensor) -> Tensor:
        """Return λ·L1."""
        return self.lambda_ * l1


class TopK(nn.Module):
    """ReLU of the k largest pre-activations at a position, and 0 for all others."""

    def __init__(self, k: int):
        super().__init__()
        self.k = k

    def forward(self, pre_acts: Tensor) -> Tensor:
        """Map p [..., d_sae] to f [..., d_sae]."""
        largest, neurons = pre_acts.topk(self.k, dim=-1, sorted=False)
        return torch.zeros_like(pre_acts).scatter(-1, neurons, largest.relu())


class TopKSAE(SparseAutoencoder):
    """At most k neurons fire at a position, so there is no penalty.

    Gao et al., "Scaling and evaluating sparse autoencoders" (2024, arXiv 2406.04093), without its
    auxiliary loss.
    """

    def __init__(self, recipe: Recipe):
        super().__init__(recipe, TopK(recipe.k))

    def sparsity_penalty(self, l1: Tensor, l0: Tensor) -> Tensor:
        """Return 0."""
        return torch.zeros_like(l0)


class Step(torch.autograd.Function):
    """H(p − θ⁺), 1 where p is above the threshold θ and above 0, with θ⁺ = max(θ, 0).

    The step has no useful derivative. The straight-through estimator takes that of a step blurred
    over ε = `BANDWIDTH`: 1/ε for p and −1/ε for θ where |p − θ⁺| < ε/2, and 0 elsewhere.
    """

    @staticmethod
    def forward(ctx: Any, pre_acts: Tensor, threshold: Tensor) -> Tensor:
        """Map p [..., d_sae] and θ [d_sae] to [..., d_sae]."""
        distance = pre_acts - threshold.clamp(min=0)
        ctx.save_for_backward(distance)
        return (distance > 0).to(pre_acts.dtype)

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, Tensor]:
        """Map the gradient of the step [..., d_sae] to that of p [..., d_sae] and of θ [d_sae]."""
        (distance,) = ctx.saved_tensors
        of_pre_acts = gradient * (distance.abs() < BANDWIDTH / 2) / BANDWIDTH
        return of_pre_acts, -of_pre_acts.flatten(0, -2).sum(dim=0)


class JumpReLU(nn.Module):
    """ReLU(p)·H(p − θ), with a threshold θ for each neuron."""

    def __init__(self, d_sae: int):
        super().__init__()
        self.threshold = nn.Parameter(torch.full((d_sae,), INITIAL_THRESHOLD))

    def fires(self, pre_acts: Tensor) -> Tensor:
        """Mark which neurons fire: p [..., d_sae] → [..., d_sae] 1 for each that does, else 0."""
        return Step.apply(pre_acts, self.threshold)  # type: ignore[no-untyped-call]

    def forward(self, pre_acts: Tensor) -> Tensor:
        """Map p [..., d_sae] to f [..., d_sae]."""
        return F.relu(pre_acts) * self.fires(pre_acts)


class JumpReluSAE(SparseAutoencoder):
    """A learned threshold for each neuron; the penalty (L0 / target_l0 − 1)² sets how many fire.

    Rajamanoharan et al., "Jumping ahead" (2024, arXiv 2407.14435), with the penalty on the mean L0
    as in the trainer of `dictionary_learning`. As in Anthropic's update of January 2025, gradients
    pass through the step to the encoder too: β lowers pre-activations below 0, where no threshold
    can make a neuron fire.
    """

    activation: JumpReLU

    def __init__(self, recipe: Recipe):
        super().__init__(recipe, JumpReLU(recipe.d_sae))
        self.target_l0 = recipe.target_l0

    @classmethod
    def n_weights(cls, recipe: Recipe) -> int:
        """Return the number of weights, a threshold for each neuron included."""
        return super().n_weights(recipe) + recipe.d_sae

    def count_firing(self, pre_acts: Tensor, acts: Tensor) -> Tensor:
        """Return the number of neurons that fire [...], with gradients for p and the thresholds."""
        return self.activation.fires(pre_acts).sum(dim=-1, dtype=torch.float32)

    def sparsity_penalty(self, l1: Tensor, l0: Tensor) -> Tensor:
        """Return (L0 / target_l0 − 1)²."""
        return (l0 / self.target_l0 - 1).square()


# By the names of `recipe.SAE_KINDS`.
SAE_CLASSES: dict[str, type[Any]] = {
    "relu": ReluSAE,
    "topk": TopKSAE,
    "jumprelu": JumpReluSAE,
}
