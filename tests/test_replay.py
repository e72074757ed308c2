"""The replayed engine does what the eager one does: with real CUDA graphs where there is a GPU,
elsewhere with a tape that repeats the very operations on the very memory, as a graph would."""

from dataclasses import replace

import pytest
import torch
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from toytask_cli.dataset import build_grid
from toytask_cli.model import new_model
from toytask_cli.recipe import resolve
from toytask_cli.training import replay
from toytask_cli.training.engine import Engine
from toytask_cli.training.replay import Replay, cuda_graph
from toytask_cli.training.trainer import Trainer

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


def tape(work):
    """Stands in for `cuda_graph` on a machine without a GPU."""
    work()  # the warm-up, whose effects the engine has to undo
    with Tape() as recorded:
        result = work()
    return recorded.replay, result


def run(recipe, device, record, precision=torch.float32):
    """All records of a run with this way to record, and the weights it ends with."""
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer)).to(device)
    trainer = Trainer(recipe, grid, model, precision)
    trainer.engine = Engine(recipe, model, len(grid.tasks), precision, record)
    trainer.finished = (trainer.progress, trainer.state())
    return list(trainer.run()), trainer.engine.weights.copy()


def test_a_replay_sees_new_inputs_and_new_state():
    state = torch.tensor(1.0)

    def work(x):
        state.add_(1)
        return x.sum() * state

    replay = Replay(work, tape)
    replay(torch.zeros(3))
    for before, x in [(1.0, torch.ones(3)), (10.0, torch.full((3,), 2.0)), (5.0, torch.ones(7))]:
        replay(x)
        state.fill_(before)
        assert replay(x).item() == x.sum().item() * (before + 1)
    assert len(replay.recorded) == 2


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_replayed_operations_train_to_the_same_bytes(tiny, precision, fixed_shapes):
    recipe = replace(tiny, batch_size=17)  # the last batch is smaller: a recording of its own
    records, weights = run(recipe, "cpu", None, precision)
    recordings = []
    again, same = run(
        recipe, "cpu", lambda work: recordings.append(tape(work)) or recordings[-1], precision
    )
    assert len(recordings) == 3  # a step of either size, and validation
    assert {record.phase for record in records} == {"learn", "separate"}
    assert [replace(r, seconds=0) for r in again] == [replace(r, seconds=0) for r in records]
    assert all(torch.equal(same[name], weight) for name, weight in weights.items())


def test_without_graphs_it_says_so_and_trains_to_the_same_bytes(tiny, monkeypatch, fixed_shapes):
    def refuse(work):
        work()  # the warm-up went well
        raise RuntimeError("CUDA error: operation not permitted when stream is capturing\nmore")

    monkeypatch.setattr(replay, "_recorded", refuse)
    records, weights = run(tiny, "cpu", None)
    with pytest.warns(UserWarning, match=r"without CUDA graphs.*is capturing\)$") as said:
        again, same = run(tiny, "cpu", cuda_graph)
    assert len(said) == 3  # a step of either size, and validation
    assert [replace(r, seconds=0) for r in again] == [replace(r, seconds=0) for r in records]
    assert all(torch.equal(same[name], weight) for name, weight in weights.items())


@needs_cuda
def test_a_cuda_graph_trains_as_the_eager_engine_does():
    recipe = resolve("article", {"epochs": 3})
    records, _ = run(recipe, "cuda", None)
    again, _ = run(recipe, "cuda", cuda_graph)
    for eager, graph in zip(records, again, strict=True):
        assert graph.train["loss"] == pytest.approx(eager.train["loss"], rel=1e-4)
        assert graph.validation["loss"] == pytest.approx(eager.validation["loss"], rel=1e-4)


@needs_cuda
def test_a_cuda_run_stays_close_to_one_on_the_processor():
    recipe = resolve("article", {"epochs": 2})
    on_gpu, _ = run(recipe, "cuda", cuda_graph)
    on_cpu, _ = run(recipe, "cpu", None)
    for one, other in zip(on_gpu, on_cpu, strict=True):
        assert one.train["ce"] == pytest.approx(other.train["ce"], rel=1e-2)
