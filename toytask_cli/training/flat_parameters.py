"""A model's parameters in flat vectors, so that one kernel works on all of them at once.

For speed alone: casting, clipping and stepping cost one operation for a vector instead of one for
each parameter, and layers are cast once a step where autocast casts every input and output.
"""

from collections.abc import Iterable, Sequence
from itertools import islice

import torch
from torch import Tensor, nn

# Computed in float32 in any precision: the gradient of a row is a sum over many examples.
EMBEDDINGS = ("token_embedding", "prompt_positions", "answer_positions")

# Matrices of these layers are hidden ones, which Muon can update; without queries and keys, which
# AdamW learns in as many epochs and less time.
HIDDEN = ("encoder.", "decoder.", "sae.")
NOT_HIDDEN = ("attention.query.weight", "attention.key.weight")


class FlatGroup:
    """Parameters laid end to end: a float32 vector for the optimiser, and a copy to compute with.

    Args:
        parameters: by name, on one device, either all trained or all frozen; they become views of
            the copy.
        precision: type of the copy; in float32 it is the vector's own memory.
    """

    def __init__(self, parameters: dict[str, nn.Parameter], precision: torch.dtype):
        self.parameters = parameters
        joined = torch.cat([parameter.detach().flatten() for parameter in parameters.values()])
        trained = next(iter(parameters.values())).requires_grad
        self.vector = nn.Parameter(joined, requires_grad=trained)
        self.vector.grad = torch.zeros_like(joined) if trained else None
        self.copy = joined.to(precision)
        for parameter, view in zip(parameters.values(), self.views(self.copy), strict=True):
            parameter.data = view

    def sync_weights(self) -> None:
        """Give the parameters the vector's present values."""
        if self.copy.dtype != self.vector.dtype:
            self.copy.copy_(self.vector.detach())

    def views(self, vector: Tensor) -> Iterable[Tensor]:
        """Return the pieces of a vector of this layout, in the parameters' order and shapes."""
        shapes = [parameter.shape for parameter in self.parameters.values()]
        pieces = vector.split([shape.numel() for shape in shapes])
        return (piece.view(shape) for piece, shape in zip(pieces, shapes, strict=True))


class FlatParameters:
    """All parameters of a model: embeddings, hidden matrices and the rest, in a vector each.

    Frozen parameters are in vectors of their own, which are not in `vectors`.

    Args:
        model: on its device; its layers are cast to `precision`.
        precision: type to compute in.
    """

    def __init__(self, model: nn.Module, precision: torch.dtype):
        members: dict[tuple[str, bool], dict[str, nn.Parameter]] = {}
        for name, parameter in model.named_parameters():
            kind = _kind(name, parameter)
            members.setdefault((kind, parameter.requires_grad), {})[name] = parameter
        groups = {
            key: FlatGroup(named, torch.float32 if key[0] == "embeddings" else precision)
            for key, named in members.items()
        }
        self.groups = list(groups.values())
        self.trained = {kind: group for (kind, is_trained), group in groups.items() if is_trained}
        self.vectors = {kind: group.vector for kind, group in self.trained.items()}

    def sync_weights(self) -> None:
        """Give the model the vectors' present values; once a step, before it computes."""
        for group in self.trained.values():
            group.sync_weights()

    def backward(self, loss: Tensor) -> list[Tensor]:
        """Return the gradient of each vector, in their order, of a loss computed with the model."""
        wanted = [p for group in self.trained.values() for p in group.parameters.values()]
        gradients = torch.autograd.grad(loss, wanted, materialize_grads=True)
        pieces = iter(gradient.flatten() for gradient in gradients)
        groups = self.trained.values()
        return [torch.cat([*islice(pieces, len(group.parameters))]) for group in groups]

    def set_gradients(self, shares: Iterable[Sequence[Tensor]]) -> None:
        """Make the sum of what `backward` returned for each share the vectors' gradients."""
        for vector, gradients in zip(self.vectors.values(), zip(*shares, strict=True), strict=True):
            assert vector.grad is not None
            vector.grad.copy_(gradients[0])
            for gradient in gradients[1:]:
                vector.grad.add_(gradient)

    def state_dict(self) -> dict[str, Tensor]:
        """Return a float32 copy of all parameters by name."""
        weights: dict[str, Tensor] = {}
        for group in self.groups:
            views = group.views(group.vector.detach().clone())
            weights |= zip(group.parameters, views, strict=True)
        return weights


def _kind(name: str, parameter: nn.Parameter) -> str:
    """Return the vector that a parameter belongs to."""
    if name.startswith(EMBEDDINGS):
        return "embeddings"
    is_hidden = name.startswith(HIDDEN) and not name.endswith(NOT_HIDDEN)
    return "matrices" if is_hidden and parameter.dim() == 2 else "layers"
