"""A model's weights laid end to end, so that one kernel works on all of them at once."""

from collections.abc import Iterable
from itertools import islice

import torch
from torch import Tensor, nn

# Kept in float32 whatever is computed in: a row's gradient is a sum over many examples.
EMBEDDINGS = ("token_embedding", "prompt_positions", "answer_positions")


class Packed:
    """Parameters laid end to end: in float32 for the optimiser, and as what is computed with.

    Casting, clipping and stepping then cost one operation where they cost one for each parameter.

    Args:
        parameters: by name, all on one device, and all of them wanting a gradient or none; from
            now on they are views of one vector, in this precision.
        precision: to compute in.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], precision: torch.dtype):
        self.parameters = parameters
        joined = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
        trains = next(iter(parameters.values())).requires_grad
        self.vector = nn.Parameter(joined, requires_grad=trains)
        self.vector.grad = torch.zeros_like(joined) if trains else None
        self.rounded = joined.to(precision)  # in float32 the very same memory
        for parameter, part in zip(parameters.values(), self.parts(self.rounded), strict=True):
            parameter.data = part

    def round(self) -> None:
        """Gives the parameters the values that the vector has now."""
        if self.rounded.dtype != self.vector.dtype:
            self.rounded.copy_(self.vector.detach())

    def collect(self, gradients: Iterable[Tensor]) -> None:
        """Lays the parameters' gradients end to end as the vector's."""
        assert self.vector.grad is not None
        for part, gradient in zip(self.parts(self.vector.grad), gradients, strict=True):
            part.copy_(gradient)

    def parts(self, vector: Tensor) -> Iterable[Tensor]:
        """What a vector of this layout holds for each parameter: views."""
        shapes = [parameter.shape for parameter in self.parameters.values()]
        cut = vector.split([shape.numel() for shape in shapes])
        return (part.view(shape) for part, shape in zip(cut, shapes, strict=True))


class PackedWeights:
    """All weights of a model: embeddings in one vector, layers in another.

    Parameters that want no gradient are in vectors of their own, which are not in `vectors`.

    Args:
        model: on its device already; its layers are cast to `precision`.
        precision: to compute in.
    """

    def __init__(self, model: nn.Module, precision: torch.dtype):
        groups: dict[tuple[str, bool], dict[str, nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            kind = "embeddings" if name.startswith(EMBEDDINGS) else "layers"
            groups.setdefault((kind, parameter.requires_grad), {})[name] = parameter
        of_kind = {"embeddings": torch.float32, "layers": precision}
        self.packed = {key: Packed(named, of_kind[key[0]]) for key, named in groups.items()}
        self.trained = {kind: each for (kind, trains), each in self.packed.items() if trains}
        self.vectors = {kind: packed.vector for kind, packed in self.trained.items()}

    def round(self) -> None:
        """Gives the model the values that the vectors have now.

        Once a step, where autocast would cast every layer's input and output as well.
        """
        for packed in self.trained.values():
            packed.round()

    def differentiate(self, loss: Tensor) -> None:
        """Gives the vectors the gradient of a loss that the model was used for."""
        wanted = [p for packed in self.trained.values() for p in packed.parameters.values()]
        gradients = iter(torch.autograd.grad(loss, wanted, materialize_grads=True))
        for packed in self.trained.values():
            packed.collect(islice(gradients, len(packed.parameters)))

    def copy(self) -> dict[str, Tensor]:
        """A copy of the weights by name, in float32."""
        weights: dict[str, Tensor] = {}
        for packed in self.packed.values():
            parts = packed.parts(packed.vector.detach().clone())
            weights |= zip(packed.parameters, parts, strict=True)
        return weights
