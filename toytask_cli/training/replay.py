"""Work that is recorded once as a CUDA graph and then replayed, one launch instead of hundreds."""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Work = Callable[[], Tensor]
Recording = tuple[Callable[[], object], Tensor]

WARM_UP = 3  # runs before recording, in which libraries choose their kernels


def cuda_graph(work: Work) -> Recording:
    """A function that repeats what `work` launches, and the tensor that it leaves the result in.

    Where the driver does not take the recording, every repetition launches all of it anew, and a
    warning says so. `work` runs a few times first: what it changes is for the caller to undo.
    """
    try:
        return _recorded(work)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        warnings.warn(f"without CUDA graphs, which is slower ({reason})", stacklevel=2)
        return _launched_anew(work)


def _recorded(work: Work) -> Recording:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            work()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        result = work()
    return graph.replay, result


def _launched_anew(work: Work) -> Recording:
    result = work()
    return lambda: result.copy_(work()), result


class Replay:
    """Calls `work` by replaying what was recorded when inputs of these shapes first came.

    The result of a call is overwritten by the next.

    Args:
        work: launches the same kernels whatever its inputs hold, and never waits for the device.
        record: how to record.
    """

    def __init__(self, work: Callable[..., Tensor], record: Callable[[Work], Recording]):
        self.work = work
        self.record = record
        self.recorded: dict[tuple[torch.Size, ...], tuple[tuple[Tensor, ...], Recording]] = {}

    def __call__(self, *inputs: Tensor) -> Tensor:
        """What `work` gives on these."""
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self.recorded:
            held = tuple(tensor.clone() for tensor in inputs)
            self.recorded[shapes] = held, self.record(lambda: self.work(*held))
        held, (replay, result) = self.recorded[shapes]
        for place, tensor in zip(held, inputs, strict=True):
            place.copy_(tensor)
        replay()
        return result
