"""A model's weights laid end to end, so that one kernel works on all of them at once."""

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
    """All weights of a model: embeddings that train in one vector, layers that do in another.

    Args:
        model: on its device already. Parameters that want no gradient stay as they are.
    """

    def __init__(self, model: nn.Module):
        self.frozen: dict[str, nn.Parameter] = {}
        groups: dict[str, dict[str, nn.Parameter]] = {"embeddings": {}, "layers": {}}
        for name, parameter in model.named_parameters():
            group = "embeddings" if name.startswith(EMBEDDINGS) else "layers"
            (groups[group] if parameter.requires_grad else self.frozen)[name] = parameter
        self.packed = {group: Packed(named) for group, named in groups.items() if named}

    def cast(self, precision: torch.dtype) -> dict[str, Tensor]:
        """The weights to compute with, by name: layers in this precision.

        Cast once a step, where autocast would cast every layer's input and output as well.
        """
        weights = {
            name: weight if name.startswith(EMBEDDINGS) else weight.to(precision)
            for name, weight in self.frozen.items()
        }
        for group, packed in self.packed.items():
            vector = packed.vector if group == "embeddings" else packed.vector.to(precision)
            weights |= packed.parts(vector)
        return weights

    def copy(self) -> dict[str, Tensor]:
        """A copy of the weights by name."""
        weights: dict[str, Tensor] = {n: p.detach().clone() for n, p in self.frozen.items()}
        for packed in self.packed.values():
            weights |= packed.parts(packed.vector.detach().clone())
        return weights
