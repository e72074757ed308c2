"""Every kind of SAE computes its formula and trains to the sparsity that it promises."""

import pytest
import torch
from conftest import TINY
from torch import Tensor

from toytask_cli.dataset import build_grid
from toytask_cli.model import new_model
from toytask_cli.recipe import SAE_KINDS, resolve
from toytask_cli.sae import (
    BANDWIDTH,
    INITIAL_THRESHOLD,
    SAE_CLASSES,
    JumpReLU,
    JumpReluSAE,
    Step,
    TopKSAE,
)
from toytask_cli.training.loop import EpochRecord, Trainer

WIDTHS = {"d_model": 8, "d_sae": 24, "n_heads": 2}


def random_numbers(*shape: int) -> Tensor:
    return torch.randn(shape, generator=torch.Generator().manual_seed(0))


# Formulas


@pytest.mark.parametrize("k", [1, 5, 24])
def test_topk_keeps_the_k_largest_pre_activations_and_of_these_the_positive_ones(k):
    sae = TopKSAE(resolve("default", {**WIDTHS, "sae": "topk", "k": k}))
    p = random_numbers(3, 7, 24)
    p[0, 0] = -p[0, 0].abs()  # none is positive
    for row, acts in zip(p.flatten(0, 1), sae.activation(p).flatten(0, 1), strict=True):
        largest = sorted(range(24), key=lambda i: -float(row[i]))[:k]
        expected = [max(0.0, float(row[i])) if i in largest else 0.0 for i in range(24)]
        assert acts.tolist() == expected


@pytest.mark.parametrize("kind", SAE_KINDS)
def test_an_example_gives_the_same_in_any_batch(kind):
    sae = SAE_CLASSES[kind](resolve("default", {**WIDTHS, "sae": kind, "k": 3}))
    x = random_numbers(6, 4, 8)
    for whole, alone in zip(sae(x), zip(*(sae(row[None]) for row in x), strict=True), strict=True):
        torch.testing.assert_close(whole, torch.cat(alone))


@pytest.mark.parametrize("kind", SAE_KINDS)
def test_l0_counts_the_neurons_that_fire_at_each_position(kind):
    sae = SAE_CLASSES[kind](resolve("default", {**WIDTHS, "sae": kind, "k": 3}))
    out = sae(random_numbers(6, 4, 8))
    assert out.acts.min() == 0
    assert torch.equal(out.l0, (out.acts > 0).sum(dim=-1).float())
    assert 0 < out.l0.mean() < 24


def jump(threshold: list[float]) -> JumpReLU:
    activation = JumpReLU(len(threshold))
    activation.threshold.data = torch.tensor(threshold)
    return activation


def test_a_jump_relu_passes_what_is_above_its_threshold_as_it_is():
    p = torch.tensor([[0.5, 0.5, 0.5, -0.5], [0.2, 0.7, 0.1, 0.1]])
    acts = jump([0.3, 0.6, -1.0, -1.0])(p)
    torch.testing.assert_close(acts, torch.tensor([[0.5, 0, 0.5, 0], [0, 0.7, 0.1, 0.1]]))


def smoothed_step(p: Tensor, threshold: Tensor) -> Tensor:
    """The mean of the step over pre-activations moved by up to ε/2, on a fine grid."""
    moves = BANDWIDTH * (torch.arange(2000, dtype=torch.float64) + 0.5 - 1000) / 2000
    return (p.unsqueeze(-1) + moves > threshold.unsqueeze(-1)).double().mean(dim=-1)


def test_the_straight_through_gradient_is_that_of_the_smoothed_step():
    threshold = torch.tensor([0.2, 0.5, 1.0], dtype=torch.float64).requires_grad_()
    distances = BANDWIDTH * torch.tensor([-2, -0.7, -0.3, -0.1, 0.1, 0.3, 0.7, 2])
    p = (threshold.detach() + distances[:, None]).requires_grad_()
    weights = random_numbers(*p.shape).double()
    (weights * Step.apply(p, threshold)).sum().backward()
    h = 0.01 * BANDWIDTH
    with torch.no_grad():
        slope = (smoothed_step(p + h, threshold) - smoothed_step(p - h, threshold)) / (2 * h)
    assert slope.count_nonzero() == 12
    torch.testing.assert_close(p.grad, weights * slope)
    torch.testing.assert_close(threshold.grad, -(weights * slope).sum(dim=0))


def test_a_threshold_below_zero_can_come_back():
    activation = jump([-0.3])
    activation.fires(torch.tensor([[BANDWIDTH / 4], [-1.0]])).sum().backward()
    assert activation.threshold.grad.item() == -1 / BANDWIDTH


@pytest.mark.parametrize(("l0", "penalty"), [(16.0, 0.0), (8.0, 0.25), (32.0, 1.0)])
def test_the_penalty_on_l0_is_the_square_of_its_relative_distance_to_the_target(l0, penalty):
    sae = JumpReluSAE(resolve("default", {"sae": "jumprelu", "target_l0": 16.0}))
    assert sae.sparsity_penalty(torch.tensor(7.0), torch.tensor(l0)).item() == penalty


# Training


def train(**fields: object) -> tuple[Trainer, EpochRecord]:
    """A finished trainer of a tiny recipe with these fields, and its last epoch."""
    recipe = resolve("default", TINY, fields)
    grid = build_grid(recipe)
    trainer = Trainer(recipe, grid, new_model(recipe, len(grid.tokenizer)), torch.float32)
    *_, last = trainer.run()
    return trainer, last


@pytest.mark.parametrize(("target", "beta"), [(4.0, 0.1), (12.0, 0.0)])
def test_jumprelu_reaches_its_target_within_a_tenth_and_moves_its_thresholds(target, beta):
    fields = {"target_l0": target, "beta": beta, "epochs": 50, "separate_epochs": 20}
    trainer, last = train(sae="jumprelu", **fields)
    assert last.validation["l0"] == pytest.approx(target, rel=0.1)
    moved = trainer.best["sae.activation.threshold"] - INITIAL_THRESHOLD
    assert moved.abs().median() > 0.003


def test_with_topk_no_more_than_k_neurons_fire_and_the_reconstruction_is_learnt():
    trainer, last = train(sae="topk", k=5, epochs=30)
    (examples,) = trainer.validation
    out = trainer.engine.model(examples.prompts, examples.answers[:, :-1])
    assert out.l0.max() == 5
    assert last.train["mse"] < 0.1
