"""A model's weights laid end to end, so that one kernel works on all of them at once."""

import torch
from torch import Tensor, nn

# Kept in float32 whatever is computed in: a row's gradient is a sum over many examples.
EMBEDDINGS = ("token_embedding", "prompt_positions", "answer_positions")


class Packed:
    """Parameters laid end to end in one vector, of which they become views.

    Casting, clipping and stepping then cost one operation where they cost one for each parameter.

    Args:
        parameters: by name, all on one device, and all of them wanting a gradient or none;
            changing `vector` changes them from now on.
        is_cast: whether they are computed with in another precision than float32.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], is_cast: bool):
        self.is_cast = is_cast
        self.shapes = {name: parameter.shape for name, parameter in parameters.items()}
        joined = torch.cat([p.detach().flatten() for p in parameters.values()])
        trains = next(iter(parameters.values())).requires_grad
        self.vector = nn.Parameter(joined, requires_grad=trains)
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

    Parameters that want no gradient are in vectors of their own, which are not in `vectors`.

    Args:
        model: on its device already.
    """

    def __init__(self, model: nn.Module):
        groups: dict[tuple[str, bool], dict[str, nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            kind = "embeddings" if name.startswith(EMBEDDINGS) else "layers"
            groups.setdefault((kind, parameter.requires_grad), {})[name] = parameter
        packed = {key: Packed(named, key[0] == "layers") for key, named in groups.items()}
        self.packed = list(packed.values())
        self.vectors = {kind: each.vector for (kind, trains), each in packed.items() if trains}

    def cast(self, precision: torch.dtype) -> dict[str, Tensor]:
        """The weights to compute with, by name: layers in this precision.

        Cast once a step, where autocast would cast every layer's input and output as well.
        """
        weights: dict[str, Tensor] = {}
        for packed in self.packed:
            vector = packed.vector
            weights |= packed.parts(vector.to(precision) if packed.is_cast else vector)
        return weights

    def copy(self) -> dict[str, Tensor]:
        """A copy of the weights by name."""
        weights: dict[str, Tensor] = {}
        for packed in self.packed:
            weights |= packed.parts(packed.vector.detach().clone())
        return weights
