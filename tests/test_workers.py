"""Training divided among workers does what one worker does."""

from dataclasses import replace

import pytest
import torch

from toytask_cli.dataset import build_grid
from toytask_cli.model import new_model
from toytask_cli.objective import Coefficients
from toytask_cli.training.loop import read_back
from toytask_cli.training.muon import Matrix, share_evenly
from toytask_cli.training.step import Engine
from toytask_cli.training.workers import Workers

COEFFICIENTS = Coefficients(1.0, 0.1)


def after_steps(recipe, n: int) -> tuple[dict[str, float], dict[str, float], torch.Tensor]:
    """Take two steps with n workers; return the last loss, a validation, the last gradients."""
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer))
    engine = Engine(recipe, model, 2, torch.float32, workers=Workers(n))
    for batch in list(grid.split("train").batches(recipe.batch_size))[:2]:
        terms = engine.step(batch, 1e-3, COEFFICIENTS)
    batches = [batch.cut() for batch in grid.split("validation").batches(7)]
    loss, metrics = read_back(terms, engine.validate(batches, COEFFICIENTS))
    return loss, metrics, torch.cat([vector.grad for vector in engine.weights.vectors.values()])


@pytest.mark.parametrize("optimizer", ["muon", "adamw"])
def test_workers_together_take_the_step_of_one(tiny, optimizer):
    recipe = replace(tiny, optimizer=optimizer)
    loss, metrics, gradients = after_steps(recipe, 1)
    shared_loss, shared_metrics, shared_gradients = after_steps(recipe, 3)
    assert shared_loss == {name: pytest.approx(value, rel=1e-5) for name, value in loss.items()}
    assert shared_metrics == {name: pytest.approx(v, rel=1e-4) for name, v in metrics.items()}
    assert gradients.abs().max() > 1e-2
    torch.testing.assert_close(shared_gradients, gradients, atol=1e-5, rtol=0)


def test_the_same_number_of_workers_gives_the_same_bytes(tiny):
    one, same = after_steps(tiny, 2), after_steps(tiny, 2)
    assert one[:2] == same[:2]
    assert torch.equal(one[2], same[2])


def test_matrices_are_shared_evenly_and_each_once():
    matrices = [Matrix(*[torch.zeros(rows, 4)] * 3) for rows in (8, 1, 2, 5, 3, 1)]
    shares = share_evenly(matrices, 2)
    assert [sum(m.weights.numel() for m in share) for share in shares] == [40, 40]
    assert sorted(id(m) for share in shares for m in share) == sorted(map(id, matrices))
    assert len(share_evenly(matrices, 9)) == len(matrices)


def test_a_batch_has_as_many_workers_as_shares_of_a_useful_size(monkeypatch):
    monkeypatch.setattr(torch, "get_num_threads", lambda: 4)
    workers = {
        size: Workers.for_batches(size, torch.device("cpu")).n for size in (16, 128, 255, 1024)
    }
    assert workers == {16: 1, 128: 2, 255: 3, 1024: 4}
    assert Workers.for_batches(1024, torch.device("meta")).n == 1


def test_the_first_error_of_a_worker_reaches_the_caller():
    with pytest.raises(ZeroDivisionError):
        Workers(2).map(lambda x: 1 / x, [1, 0, 2])
