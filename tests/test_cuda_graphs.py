"""A replayed engine computes what an eager one does: with CUDA graphs where there is a GPU,
elsewhere with a tape that repeats the very operations on the very memory, as a graph would."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from toytask_cli.dataset import build_grid
from toytask_cli.model import new_model
from toytask_cli.recipe import resolve
from toytask_cli.training import cuda_graphs
from toytask_cli.training.cuda_graphs import GraphedCallable, capture
from toytask_cli.training.loop import Trainer
from toytask_cli.training.step import Engine

needs_cuda = pytest.mark.skipif(
    not torch.cuda.is_available(), reason="this machine has no CUDA GPU"
)


class Tape(TorchDispatchMode):
    """Every operation that ran, to be run again on the same memory, without Python above it."""

    def __init__(self):
        super().__init__()
        self.calls = []

    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        assert func is not torch.ops.aten._local_scalar_dense.default, "waits for the device"
        result = func(*args, **(kwargs or {}))
        self.calls.append((func, args, kwargs or {}, result))
        return result

    @torch.no_grad()
    def replay(self):
        for func, args, kwargs, result in self.calls:
            again = func(*args, **kwargs)
            for place, value in zip(tree_leaves(result), tree_leaves(again), strict=True):
                if torch.is_tensor(place) and place.data_ptr() != value.data_ptr():
                    place.data.copy_(value)


def tape(function):
    """Stands in for `capture` on a machine without a GPU."""
    function()  # the warm-up, whose effects the engine has to undo
    with Tape() as recorded:
        results = function()
    return recorded.replay, results


def run(recipe, device, graphs, precision=torch.float32):
    """All records of a run with this way to capture, and the weights it ends with."""
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer)).to(device)
    trainer = Trainer(recipe, grid, model, precision)
    trainer.engine = Engine(recipe, model, len(grid.tasks), precision, graphs)
    trainer.finished = (trainer.progress, trainer.state())
    return list(trainer.run()), trainer.engine.weights.state_dict()


def same_run(one, other):
    """Return whether two results of `run` are equal, but for the time they took."""
    records = ([replace(record, seconds=0) for record in records] for records, _ in (one, other))
    weights = (weights for _, weights in (one, other))
    return len(set(map(str, records))) == 1 and all(map(torch.equal, *map(dict.values, weights)))


def test_a_replay_reads_new_inputs_and_new_state():
    state = torch.tensor(1.0)

    def function(x):
        state.add_(1)
        return {"product": x.sum() * state}

    graphed = GraphedCallable(function, tape)
    graphed(torch.zeros(3))
    for before, x in [(1.0, torch.ones(3)), (10.0, torch.full((3,), 2.0)), (5.0, torch.ones(7))]:
        graphed(x)
        state.fill_(before)
        assert graphed(x)["product"].item() == x.sum().item() * (before + 1)
    assert len(graphed.captured) == 2


@pytest.mark.parametrize(
    ("sae", "precision"),
    [
        ("relu", torch.float32),
        ("relu", torch.bfloat16),
        ("topk", torch.bfloat16),
        ("jumprelu", torch.bfloat16),
    ],
    ids=str,
)
def test_replayed_operations_train_to_the_same_bytes(tiny, sae, precision):
    # The last batch is smaller: captured by itself.
    recipe = replace(tiny, epochs=4, separate_epochs=2, batch_size=34, sae=sae)
    eager = run(recipe, "cpu", None, precision)
    captured = []
    replayed = run(
        recipe, "cpu", lambda function: captured.append(tape(function)) or captured[-1], precision
    )
    assert len(captured) == 3  # a step of either size, and validation
    assert {record.phase for record in eager[0]} == {"learn", "separate"}
    assert same_run(eager, replayed)


def test_without_graphs_it_warns_and_trains_to_the_same_bytes(tiny, monkeypatch):
    def refuse(function):
        function()  # the warm-up went well
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(cuda_graphs, "_capture_graph", refuse)
    recipe = replace(tiny, epochs=4, separate_epochs=2)
    eager = run(recipe, "cpu", None)
    with pytest.warns(UserWarning, match=r"without CUDA graphs.*is capturing\)$") as warnings:
        called = run(recipe, "cpu", capture)
    assert len(warnings) == 3  # a step of either size, and validation
    assert same_run(eager, called)


@needs_cuda
def test_a_cuda_graph_trains_as_the_eager_engine_does():
    recipe = resolve("article", {"epochs": 3})
    records, _ = run(recipe, "cuda", None)
    again, _ = run(recipe, "cuda", capture)
    for eager, graph in zip(records, again, strict=True):
        assert graph.train["loss"] == pytest.approx(eager.train["loss"], rel=1e-4)
        assert graph.validation["loss"] == pytest.approx(eager.validation["loss"], rel=1e-4)


@needs_cuda
def test_a_cuda_run_stays_close_to_one_on_the_processor():
    recipe = resolve("article", {"epochs": 2})
    on_gpu, _ = run(recipe, "cuda", capture)
    on_cpu, _ = run(recipe, "cpu", None)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one.train["ce"] == pytest.approx(other.train["ce"], rel=1e-2)
