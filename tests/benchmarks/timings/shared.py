"""Shared by the timings: a stopwatch, and Markdown tables printed row by row."""

import time
from collections.abc import Callable

import torch


def seconds(work: Callable[[], object]) -> float:
    """Return the wall time of some work, up to the end of what it sent to a GPU."""
    start = time.perf_counter()
    work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - start


def print_header(*cells: str) -> None:
    """Print the heading of a Markdown table."""
    print_row(*cells)
    print_row(*("---" for _ in cells))


def print_row(*cells: object) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)
