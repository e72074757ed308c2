"""Probes read what is linearly there, and nothing else."""

import pytest
import torch
from memorised import memorised

from toytask_cli.analysis import probes
from toytask_cli.analysis.generate import AS_TRAINED, Variant
from toytask_cli.analysis.probes import BLOCKS, STRENGTHS, features, named_by_probe, probe, ridge
from toytask_cli.hooks import ablate_neurons


def drawn(*shape: int, seed: int = 0) -> torch.Tensor:
    draw = torch.Generator().manual_seed(seed)
    return torch.randn(*shape, generator=draw, dtype=torch.float64)


def test_ridge_solves_the_penalised_least_squares():
    inputs, targets = drawn(40, 6), drawn(40, 3, seed=1)
    for strength, (weights, offset) in zip(
        STRENGTHS, ridge(inputs, targets, STRENGTHS), strict=True
    ):
        # Least squares on rows added for the penalty, with a free offset.
        left = torch.cat([inputs, strength**0.5 * torch.eye(6, dtype=torch.float64)])
        ones = torch.cat([torch.ones(40, 1), torch.zeros(6, 1)]).double()
        right = torch.cat([targets, torch.zeros(6, 3, dtype=torch.float64)])
        expected = torch.linalg.lstsq(torch.cat([left, ones], dim=1), right).solution
        torch.testing.assert_close(weights, expected[:6])
        torch.testing.assert_close(offset, expected[6])


def test_a_probe_names_a_class_that_is_a_direction_and_none_from_noise():
    targets = [torch.arange(60) % 4 for _ in range(3)]
    noise = [drawn(60, 8, seed=seed) for seed in range(3)]
    codes = drawn(4, 8, seed=9)
    assert named_by_probe(
        [9 * codes[t] + n for t, n in zip(targets, noise, strict=True)], targets
    ).all()
    assert named_by_probe(noise, targets).double().mean() < 0.5


def test_the_strength_is_chosen_on_the_second_sample(monkeypatch):
    """Two fits of which the first is right on the second sample and the other on the third."""
    always = [(torch.zeros(1, 2).double(), torch.eye(2)[i].double()) for i in (0, 1)]
    monkeypatch.setattr(probes, "ridge", lambda *args: iter(always))
    targets = [torch.tensor([0, 1]), torch.tensor([0, 0]), torch.tensor([1, 1])]
    assert not named_by_probe([torch.zeros(2, 1).double()] * 3, targets).any()


def test_blocks_are_read_where_the_answer_begins_with_the_ablation_in_place():
    model, grid = memorised("sum", "concat")
    examples = grid.split("train")[:7]
    with torch.no_grad(), ablate_neurons(model, [1, 2, 3]):
        output = model(examples.prompts, examples.answers[:, :-1])
        read = features(model, examples)
    assert list(read) == list(BLOCKS)
    assert read["encoder"].shape == (7, examples.prompts.shape[1] * model.readout.in_features)
    torch.testing.assert_close(read["decoder"], output.resid[:, 0].double())
    torch.testing.assert_close(read["sae"], output.acts[:, 0].double())
    torch.testing.assert_close(read["recon"], output.recon[:, 0].double())
    torch.testing.assert_close(read["logits"].exp(), output.logits[:, 0].softmax(-1).double())


def test_of_several_tasks_the_share_is_over_all_their_examples(monkeypatch):
    model, grid = memorised("sum", "concat")
    shares = [
        probe(model, Variant(AS_TRAINED), grid, tasks, seed=0) for tasks in ([0], [1], [0, 1])
    ]
    for block in BLOCKS:
        mean = (shares[0][block] + shares[1][block]) / 2
        assert shares[2][block] == pytest.approx(mean)
    monkeypatch.setattr(probes, "MAX_EXAMPLES", 5)
    few = probe(model, Variant(AS_TRAINED), grid, [0], seed=0)
    assert all(round(5 * share) == pytest.approx(5 * share) for share in few.values())
