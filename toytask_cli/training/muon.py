"""Muon: steps along the orthogonalised momentum, for the matrices of hidden layers.

Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024). With G the gradient
of a matrix W, μ the momentum, η the rate and δ the weight decay:

    M ← μ M + (1 − μ) G      U = μ M + (1 − μ) G      W ← (1 − η δ) W − η polar(U)

With U = P Σ Qᵀ the singular value decomposition, polar(U) = P Qᵀ. Newton–Schulz iterations with the
coefficients of "The Polar Express" (Amsel et al., 2025, arXiv 2505.16932) approximate it.

Two things differ from the usual form, to save time. A matrix is orthogonalised in blocks of `BLOCK`
hidden units, so that all blocks of a model are one batch of small products; a unit is a row, or a
column of a matrix that maps many units to fewer outputs. And products are taken in the precision of
the training: `torch.optim.Muon` always takes bfloat16, which is thirty times slower on a processor
that does not multiply it.
"""

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.training.flat_parameters import FlatGroup
from toytask_cli.training.workers import ONE_WORKER, Workers

BLOCK = 128  # hidden units
COEFFICIENTS = (  # of X, of X Xᵀ X and of (X Xᵀ)² X in each iteration
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)
SAFETY = 1.01  # singular values are divided by this, so that rounding does not make them diverge


class Matrix(NamedTuple):
    """Views of one matrix's piece of the vectors, [rows, columns] each."""

    weights: Tensor
    gradient: Tensor
    average: Tensor  # of the gradients


class Muon:
    """Steps on matrices that are laid end to end in one vector.

    Args:
        group: the matrices.
        lr: a tensor [], read at every step, also at a captured one.
        lr_factor: η / lr.
        weight_decay: δ.
        precision: type of the products.
        workers: among whom the matrices are divided.
        momentum: μ.
    """

    def __init__(
        self,
        group: FlatGroup,
        lr: Tensor,
        lr_factor: float,
        weight_decay: float,
        precision: torch.dtype,
        workers: Workers = ONE_WORKER,
        momentum: float = 0.95,
    ):
        self.lr, self.lr_factor = lr, lr_factor
        self.weight_decay = weight_decay
        self.precision = precision
        self.momentum = momentum
        assert group.vector.grad is not None
        average = torch.zeros_like(group.vector)
        self.state = {group.vector: {"momentum": average}}
        vectors = group.vector.detach(), group.vector.grad, average
        matrices = [Matrix(*views) for views in zip(*map(group.views, vectors), strict=True)]
        self.workers = workers
        self.shares = share_evenly(matrices, workers.n)

    def step(self) -> None:
        """Take one step; the gradient is the vector's."""
        self.workers.map(self._step, self.shares)

    @torch.no_grad()
    def _step(self, matrices: Sequence[Matrix]) -> None:
        rate = self.lr * self.lr_factor
        blocks = []
        for matrix in matrices:
            matrix.average.lerp_(matrix.gradient, 1 - self.momentum)
            nesterov = matrix.gradient.lerp(matrix.average, self.momentum)
            blocks.append(to_blocks(nesterov.to(self.precision)))
        for (weights, *_), polar in zip(matrices, orthogonalise_all(blocks), strict=True):
            weights.mul_(1 - rate * self.weight_decay)
            weights.sub_(rate * from_blocks(polar.float(), weights))


def share_evenly(matrices: Iterable[Matrix], n: int) -> list[list[Matrix]]:
    """Divide matrices into n lists of about the same number of elements, the largest first."""
    shares: list[list[Matrix]] = [[] for _ in range(n)]
    sizes = [0] * n
    for matrix in sorted(matrices, key=lambda matrix: -matrix.weights.numel()):
        least = sizes.index(min(sizes))
        shares[least].append(matrix)
        sizes[least] += matrix.weights.numel()
    return [share for share in shares if share]


def to_blocks(matrix: Tensor) -> Tensor:
    """Cut [rows, columns] into [block, units, width], filled up with zeros after the last unit."""
    units = matrix.mT if maps_to_fewer(matrix) else matrix
    size = min(BLOCK, units.shape[1])
    return F.pad(units, (0, 0, 0, -len(units) % size)).unflatten(0, (-1, size))


def from_blocks(blocks: Tensor, matrix: Tensor) -> Tensor:
    """Join [block, units, width] to the shape of the matrix that `to_blocks` got.

    A matrix that maps to fewer outputs is scaled by √(outputs / units), for its outputs add up the
    steps of all units.
    """
    units = blocks.flatten(0, 1)[: max(matrix.shape)]
    if maps_to_fewer(matrix):
        return units.mT * (matrix.shape[0] / matrix.shape[1]) ** 0.5
    return units


def maps_to_fewer(matrix: Tensor) -> bool:
    """Return whether a matrix has fewer outputs than inputs, which are then its hidden units."""
    return matrix.shape[0] < matrix.shape[1]


def orthogonalise_all(stacks: Sequence[Tensor]) -> list[Tensor]:
    """Orthogonalise stacks [n, rows, columns] of matrices, those of one shape in one batch."""
    polars: dict[int, Tensor] = {}
    for shape in dict.fromkeys(stack.shape[1:] for stack in stacks):
        same = [i for i, stack in enumerate(stacks) if stack.shape[1:] == shape]
        batch = orthogonalise(torch.cat([stacks[i] for i in same]))
        polars |= zip(same, batch.split([len(stacks[i]) for i in same]), strict=True)
    return [polars[i] for i in range(len(stacks))]


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return [n, rows, columns] the approximate polar factors of matrices, rows ≤ columns.

    Singular values between 1e-3 and 1 times the matrix's norm end between 0.4 and 1.6.
    """
    norms = matrices.norm(dim=(-2, -1), keepdim=True).clamp(min=1e-30)
    x = matrices / (SAFETY * norms)
    for a, b, c in COEFFICIENTS:
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b / SAFETY**3, alpha=c / SAFETY**5)
        x = torch.baddbmm(x, polynomial, x, beta=a / SAFETY)
    return x
