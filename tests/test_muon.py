import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from toytask_cli.training.flat_parameters import FlatGroup
from toytask_cli.training.muon import (
    Muon,
    from_blocks,
    orthogonalise,
    orthogonalise_all,
    to_blocks,
)


def conditioned(n: int, rows: int, columns: int, smallest: float) -> torch.Tensor:
    """Random matrices whose singular values lie between the smallest and 1."""
    draw = torch.Generator().manual_seed(rows)
    left, _, right = torch.linalg.svd(
        torch.randn(n, rows, columns, generator=draw), full_matrices=False
    )
    return left @ torch.diag_embed(torch.linspace(smallest, 1, rows).expand(n, rows)) @ right


@pytest.mark.parametrize(("rows", "columns"), [(4, 4), (16, 48), (128, 256)])
def test_the_polar_factor_has_the_singular_vectors_and_singular_values_near_one(rows, columns):
    matrices = conditioned(3, rows, columns, 0.05)
    left, _, right = torch.linalg.svd(matrices, full_matrices=False)
    polars = orthogonalise(matrices)
    values = left.mT @ polars @ right.mT  # diagonal if the singular vectors are the same
    diagonal = values.diagonal(dim1=-2, dim2=-1)
    torch.testing.assert_close(values, torch.diag_embed(diagonal), atol=1e-4, rtol=0)
    assert 0.4 < diagonal.min() < diagonal.max() < 1.6


def test_the_scale_of_a_matrix_does_not_matter():
    matrices = conditioned(2, 8, 32, 0.1)
    torch.testing.assert_close(orthogonalise(1e-3 * matrices), orthogonalise(matrices))


def test_a_gradient_of_zero_moves_nothing():
    assert not orthogonalise(torch.zeros(1, 4, 8)).any()


@settings(max_examples=30, deadline=None)
@given(rows=st.integers(1, 400), columns=st.integers(1, 400))
def test_blocks_hold_each_hidden_unit_once(rows, columns):
    matrix = torch.randn(rows, columns, generator=torch.Generator().manual_seed(0))
    blocks = to_blocks(matrix)
    assert blocks.shape[1] <= min(128, blocks.shape[2])
    scale = min(1, rows / columns) ** 0.5
    torch.testing.assert_close(from_blocks(blocks, matrix), matrix * scale)


def test_stacks_of_different_shapes_are_orthogonalised_as_each_by_itself():
    stacks = [conditioned(n, 8, width, 0.1) for n, width in ((2, 16), (1, 32), (3, 16))]
    for together, alone in zip(orthogonalise_all(stacks), map(orthogonalise, stacks), strict=True):
        torch.testing.assert_close(together, alone)


def test_a_step_is_its_definition():
    draw = torch.Generator().manual_seed(0)
    weights = {
        name: torch.nn.Parameter(torch.randn(shape, generator=draw))
        for name, shape in {"up": (24, 8), "down": (8, 24), "square": (8, 8)}.items()
    }
    group = FlatGroup(dict(weights), torch.float32)
    lr, decay = torch.tensor(0.1), 0.5
    muon = Muon(group, lr, 3.0, decay, torch.float32)
    momentum = {name: torch.zeros_like(weight) for name, weight in weights.items()}
    for _ in range(3):
        before = {name: weight.detach().clone() for name, weight in weights.items()}
        gradients = [torch.randn(weight.shape, generator=draw) for weight in weights.values()]
        group.vector.grad.copy_(torch.cat([gradient.flatten() for gradient in gradients]))
        muon.step()
        for (name, weight), gradient in zip(weights.items(), gradients, strict=True):
            momentum[name] = 0.95 * momentum[name] + 0.05 * gradient
            blocks = to_blocks(0.95 * momentum[name] + 0.05 * gradient)
            polar = from_blocks(orthogonalise(blocks), gradient)
            expected = before[name] * (1 - 0.3 * decay) - 0.3 * polar
            torch.testing.assert_close(weight.detach(), expected)
