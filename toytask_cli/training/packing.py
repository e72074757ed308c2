"""A model's weights laid end to end, so that one kernel works on all of them at once."""

from collections.abc import Iterator

import torch
from torch import Tensor, nn

# Kept in float32 whatever is computed in: a row's gradient is a sum over many examples.
EMBEDDINGS = ("token_embedding", "prompt_positions", "answer_positions")


class Packed:
    """Parameters laid end to end in one vector, of which they become views.

    Casting, clipping and stepping then cost one operation where they cost one for each parameter.

    Args:
        parameters: by name, all on one device; changing `vector` changes them from now on.
    """

    def __init__(self, parameters: dict[str, nn.Parameter]):
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        self.vector = nn.Parameter(torch.cat([p.detach().flatten() for p in parameters.values()]))
        views = self.parts(self.vector.detach())
        for name, parameter in parameters.items():
            parameter.data = views[name]

    def parts(self, vector: Tensor) -> dict[str, Tensor]:
        """What a vector of this layout holds, by name: views, through which gradients pass."""
        cut = vector.split([shape.numel() for shape in self.shapes.values()])
        shapes = self.shapes.items()
        return {name: part.view(shape) for (name, shape), part in zip(shapes, cut, strict=True)}


class PackedWeights:
    """All weights of a model: embeddings in one vector, layers in another.

    Args:
        model: on its device already.
    """

    def __init__(self, model: nn.Module):
        named = dict(model.named_parameters())
        self.embeddings = Packed({n: p for n, p in named.items() if n.startswith(EMBEDDINGS)})
        self.layers = Packed({n: p for n, p in named.items() if not n.startswith(EMBEDDINGS)})

    def cast(self, precision: torch.dtype) -> dict[str, Tensor]:
        """The weights to compute with, by name: layers in this precision.

        Cast once a step, where autocast would cast every layer's input and output as well.
        """
        layers = self.layers.parts(self.layers.vector.to(precision))
        return self.embeddings.parts(self.embeddings.vector) | layers

    def vectors(self) -> Iterator[tuple[str, nn.Parameter]]:
        """Both vectors, by name."""
        yield "embeddings", self.embeddings.vector
        yield "layers", self.layers.vector

    def copy(self) -> dict[str, Tensor]:
        """A copy of the weights by name."""
        return {
            name: part
            for packed in (self.embeddings, self.layers)
            for name, part in packed.parts(packed.vector.detach().clone()).items()
        }
