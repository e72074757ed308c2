"""Functions captured once as a CUDA graph and then replayed, one launch instead of hundreds.

For speed alone: a replay repeats the very operations of the function.
"""

import warnings
from collections.abc import Callable

import torch
from torch import Tensor

Results = dict[str, Tensor]
Function = Callable[[], Results]
Captured = tuple[Callable[[], object], Results]  # how to replay, and where the results are then

WARM_UP = 3  # calls before the capture, in which libraries choose their kernels


def capture(function: Function) -> Captured:
    """Capture what a function launches on the GPU.

    The function is called a few times first: the caller undoes what that changes. Where the driver
    refuses the capture, a replay calls the function instead, and a warning says so.
    """
    try:
        return _capture_graph(function)
    except RuntimeError as error:
        reason = str(error).strip().split("\n")[0]
        warnings.warn(f"without CUDA graphs, which is slower ({reason})", stacklevel=2)
        return _call_each_time(function)


def _capture_graph(function: Function) -> Captured:
    side = torch.cuda.Stream()
    side.wait_stream(torch.cuda.current_stream())
    with torch.cuda.stream(side):
        for _ in range(WARM_UP):
            function()
    torch.cuda.current_stream().wait_stream(side)
    graph = torch.cuda.CUDAGraph()
    with torch.cuda.graph(graph):
        results = function()
    return graph.replay, results


def _call_each_time(function: Function) -> Captured:
    results = function()

    def call() -> None:
        for name, tensor in function().items():
            results[name].copy_(tensor)

    return call, results


class GraphedCallable:
    """Calls a function by replaying what was captured when inputs of these shapes first came.

    The results of a call are overwritten by the next.

    Args:
        function: launches the same kernels whatever its inputs hold, and never waits for the
            device.
        capture: how to capture it.
    """

    def __init__(
        self, function: Callable[..., Results], capture: Callable[[Function], Captured] = capture
    ):
        self.function = function
        self.capture = capture
        self.captured: dict[tuple[torch.Size, ...], tuple[tuple[Tensor, ...], Captured]] = {}

    def __call__(self, *inputs: Tensor) -> Results:
        """Return the function's results on these inputs."""
        shapes = tuple(tensor.shape for tensor in inputs)
        if shapes not in self.captured:
            static = tuple(tensor.clone() for tensor in inputs)
            self.captured[shapes] = static, self.capture(lambda: self.function(*static))
        static, (replay, results) = self.captured[shapes]
        for buffer, tensor in zip(static, inputs, strict=True):
            buffer.copy_(tensor)
        replay()
        return results
