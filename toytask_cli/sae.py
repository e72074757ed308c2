"""The sparse autoencoder (SAE): many neurons, few of which fire, that reconstruct a vector x.

    p = W_e x + b_e      f = activation(p)      x̂ = W_d f + b_d

A kind of SAE is a class here and a name in `recipe.SAE_KINDS`. Whoever needs activations calls
`encode`: a kind may make one neuron's activation depend on all of x.
"""

from collections.abc import Callable
from typing import NamedTuple

from torch import Tensor, nn


class SAEOutput(NamedTuple):
    """The three stages of a forward pass."""

    pre_acts: Tensor  # [..., d_sae] p
    acts: Tensor  # [..., d_sae] f
    recon: Tensor  # [..., d_model] x̂


class SparseAutoencoder(nn.Module):
    """The frame of every kind; a kind is a subclass that takes the widths alone.

    Args:
        d_model: width of x.
        d_sae: number of neurons.
        activation: p [..., d_sae] → f [..., d_sae].
    """

    def __init__(self, d_model: int, d_sae: int, activation: nn.Module):
        super().__init__()
        self.encoder = nn.Linear(d_model, d_sae)
        self.activation = activation
        self.decoder = nn.Linear(d_sae, d_model)

    def forward(self, x: Tensor) -> SAEOutput:
        """x [..., d_model] → p, f and x̂."""
        pre_acts = self.encoder(x)
        acts = self.activation(pre_acts)
        return SAEOutput(pre_acts, acts, self.decode(acts))

    def encode(self, x: Tensor) -> Tensor:
        """x [..., d_model] → f [..., d_sae]."""
        return self.activation(self.encoder(x))

    def decode(self, acts: Tensor) -> Tensor:
        """f [..., d_sae] → x̂ [..., d_model]."""
        return self.decoder(acts)

    @property
    def directions(self) -> Tensor:
        """[d_sae, d_model] d_i, what one unit of each neuron adds to x̂: the decoder's columns."""
        return self.decoder.weight.T

    @property
    def d_sae(self) -> int:
        """Number of neurons."""
        return self.encoder.out_features


class ReluSAE(SparseAutoencoder):
    """f = ReLU(p), as in the source; an L1 penalty in the loss makes f sparse."""

    def __init__(self, d_model: int, d_sae: int):
        super().__init__(d_model, d_sae, nn.ReLU())


# By the names of `recipe.SAE_KINDS`.
SAE_CLASSES: dict[str, Callable[[int, int], SparseAutoencoder]] = {"relu": ReluSAE}
