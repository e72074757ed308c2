"""Muon: momentum whose direction is orthogonalised, for the matrices of hidden layers.

Keller Jordan, "Muon: an optimizer for hidden layers in neural networks" (2024). With G the gradient
of a matrix W, μ the momentum, η the rate and δ the weight decay:

    M ← μ M + (1 − μ) G      U = μ M + (1 − μ) G      W ← (1 − η δ) W − η polar(U)

polar(U) = P Qᵀ, with U = P Σ Qᵀ the singular value decomposition, by Newton–Schulz iterations whose
coefficients are those of "The Polar Express" (Amsel et al., 2025, arXiv 2505.16932).

Two things differ from the usual form, both to take less time. A matrix is orthogonalised in blocks
of `BLOCK` hidden units, a unit being a row, or a column of a matrix that maps hidden units back to
x: all blocks of the model are then one batch of small products, a third of the work. And products
are taken in the training's precision; `torch.optim.Muon` always takes bfloat16, in which a processor
that does not multiply it is thirty times slower.
"""

from collections.abc import Iterable

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.training.flat_parameters import FlatGroup

BLOCK = 128  # hidden units
COEFFICIENTS = (  # of X, of X Xᵀ X and of (X Xᵀ)² X, in each iteration
    (8.28721201814563, -23.595886519098837, 17.300387312530933),
    (4.107059111542203, -2.9478499167379106, 0.5448431082926601),
    (3.9486908534822946, -2.908902115962949, 0.5518191394370137),
    (3.3184196573706015, -2.488488024314874, 0.51004894012372),
)
# Keeps singular values below 1 in spite of rounding: each iteration divides them by this.
SAFETY = 1.01


def orthogonalise(matrices: Tensor) -> Tensor:
    """Return [n, rows, columns] the approximate polar factors of matrices, rows ≤ columns.

    Singular values between 1e-3 and 1 times the matrix's norm end between 0.4 and 1.6.
    """
    norms = matrices.norm(dim=(-2, -1), keepdim=True)
    x = matrices / (SAFETY * norms + 1e-7)
    for a, b, c in COEFFICIENTS:
        a, b, c = a / SAFETY, b / SAFETY**3, c / SAFETY**5
        gram = x @ x.mT
        polynomial = torch.baddbmm(gram, gram, gram, beta=b, alpha=c)
        x = torch.baddbmm(x, polynomial, x, beta=a)
    return x


class Muon(torch.optim.Optimizer):
    """Steps on matrices that are laid end to end in one vector.

    Args:
        group: the matrices.
        lr: η as a tensor [], which a captured step reads anew.
        lr_factor: what η is multiplied by.
        momentum: μ.
        weight_decay: δ.
        precision: type of the products.
    """

    def __init__(
        self,
        group: FlatGroup,
        lr: Tensor,
        lr_factor: float,
        weight_decay: float,
        precision: torch.dtype,
        momentum: float = 0.95,
    ):
        super().__init__([group.vector], {"lr": lr})
        self.group = group
        self.lr, self.lr_factor = lr, lr_factor
        self.momentum, self.weight_decay = momentum, weight_decay
        self.precision = precision
        self.state[group.vector]["momentum"] = torch.zeros_like(group.vector)

    @torch.no_grad()
    def step(self, closure: None = None) -> None:
        """Take one step along the orthogonalised momentum."""
        vector = self.group.vector
        gradient, average = vector.grad, self.state[vector]["momentum"]
        assert gradient is not None
        average.lerp_(gradient, 1 - self.momentum)
        nesterov = gradient.lerp(average, self.momentum)
        rate = self.lr * self.lr_factor
        vector.mul_(1 - rate * self.weight_decay)
        updates = self._directions(list(self.group.views(nesterov)))
        vector.sub_(torch.cat([update.flatten() for update in updates]) * rate)

    def _directions(self, matrices: list[Tensor]) -> Iterable[Tensor]:
        """Return the polar factors of matrices, block by block, in the shapes of the matrices."""
        units = [matrix.mT if is_wide(matrix) else matrix for matrix in matrices]
        blocks = [to_blocks(matrix) for matrix in units]
        batches: dict[torch.Size, list[Tensor]] = {}
        for block in blocks:
            batches.setdefault(block.shape[1:], []).append(block)
        results = {
            shape: iter(
                orthogonalise(torch.cat(batch).to(self.precision))
                .float()
                .split([len(block) for block in batch])
            )
            for shape, batch in batches.items()
        }
        for matrix, unit, block in zip(matrices, units, blocks, strict=True):
            direction = next(results[block.shape[1:]]).flatten(0, 1)[: len(unit)]
            if is_wide(matrix):
                direction = direction.mT * (matrix.shape[0] / matrix.shape[1]) ** 0.5
            yield direction


def is_wide(matrix: Tensor) -> bool:
    """Return whether a matrix maps more hidden units to fewer outputs: its columns are the units."""
    return matrix.shape[0] < matrix.shape[1]


def to_blocks(matrix: Tensor) -> Tensor:
    """[units, width] → [block, units of a block, width], zeros after the last unit."""
    units, width = matrix.shape
    size = min(BLOCK, width)
    return F.pad(matrix, (0, 0, 0, -units % size)).unflatten(0, (-1, size))
