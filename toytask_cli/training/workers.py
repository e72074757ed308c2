"""Threads that work side by side on the shares of a batch, for speed alone.

PyTorch by itself divides each operation over its threads, hundreds of times a step, and the threads
wait for one another after each. Here each worker takes a share of the batch through the whole
model, and they meet only a few times a step, so that a core that is busy with something else delays
them little.
"""

from collections.abc import Callable, Iterable
from concurrent.futures import ThreadPoolExecutor
from itertools import cycle
from typing import TypeVar

import torch

LEAST_SHARE = 64  # examples; with fewer, a worker spends most of its time on calls

Result = TypeVar("Result")


class Workers:
    """A fixed number of workers.

    Args:
        n: how many; one works in the calling thread, with all of its threads.
        threads: of each, within an operation.
    """

    def __init__(self, n: int = 1, threads: int = 1):
        self.n = n
        self._workers = [
            ThreadPoolExecutor(1, initializer=torch.set_num_threads, initargs=(threads,))
            for _ in range(n)
        ]

    @classmethod
    def for_batches(cls, batch_size: int, device: torch.device) -> "Workers":
        """Return as many workers as a batch has shares of a useful size, on a GPU one."""
        threads = torch.get_num_threads() if device.type == "cpu" else 1
        n = max(1, min(threads, batch_size // LEAST_SHARE))
        return cls(n, threads // n)

    def map(self, function: Callable[..., Result], *inputs: Iterable[object]) -> list[Result]:
        """Return the function's result on each item, in their order.

        Item i always goes to the same worker. The order in which a backward pass adds gradients up,
        and so their last digits, depends on whether the thread is that of the forward pass.
        """
        if self.n == 1:
            return list(map(function, *inputs))
        items = zip(*inputs, strict=True)
        results = [
            worker.submit(function, *item)
            for worker, item in zip(cycle(self._workers), items, strict=False)
        ]
        return [result.result() for result in results]


ONE_WORKER = Workers()
