"""The device to compute on, and the precision."""

import math
import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from toytask_cli.errors import ToytaskError, unknown_choice

if TYPE_CHECKING:
    import torch

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


def find_device(name: str) -> "torch.device":
    """Return the device; `auto` is a GPU where there is one.

    CUDA is only asked about where it could be chosen: it may be broken.

    Raises:
        UsageError: a name that is no device.
        ToytaskError: a device that this machine does not have.
    """
    import torch

    if name not in DEVICES:
        raise unknown_choice("device", name, DEVICES)
    if name == "cpu":
        return _processor()
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if name in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if name == "auto":
        return _processor()
    raise ToytaskError(f"this machine has no {name} device: use --device cpu")


def _processor() -> "torch.device":
    """Return the CPU, with threads for the cores that this process may use.

    glibc is made to keep memory that is freed for the next batch. It returns freed memory to the
    system beyond twice the largest block, up to 32 MiB, that was freed before; getting it back,
    page by page, took a tenth of an analysis. So one such block is freed here, untouched. With
    another malloc this does nothing.
    """
    import torch

    torch.empty(2**25 - 2**16, dtype=torch.uint8)
    limit = cores_of_quota()
    if limit and "OMP_NUM_THREADS" not in os.environ:
        torch.set_num_threads(min(limit, torch.get_num_threads()))
    return torch.device("cpu")


def cores_of_quota(root: Path = Path("/sys/fs/cgroup")) -> int | None:
    """Return the cores whose time a container may use, rounded up; None without a limit.

    PyTorch knows which cores a process may run on, but not this limit (`docker run --cpus`).

    Args:
        root: where the system shows control groups, of version 2 or 1.
    """
    for names in ("cpu.max",), ("cpu/cpu.cfs_quota_us", "cpu/cpu.cfs_period_us"):
        with suppress(OSError, ValueError):
            words = " ".join((root / name).read_text() for name in names).split()
            quota, period = map(int, words)  # microseconds; "max" or -1 is no limit
            return math.ceil(quota / period) if quota > 0 else None
    return None


def find_precision(name: str, device: "torch.device") -> "torch.dtype":
    """Return the type of matrix products; weights stay float32.

    `auto` is bfloat16 where the hardware multiplies it: a processor with AVX512-BF16 (all with AMX
    have it), or a GPU of compute capability 8 or more.

    Raises:
        UsageError: a name that is no precision.
    """
    import torch

    if name not in PRECISIONS:
        raise unknown_choice("precision", name, PRECISIONS)
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        capabilities = torch.cpu.get_capabilities()
        fast = device.type == "cpu" and bool(capabilities.get("avx512_bf16"))
    return torch.bfloat16 if fast else torch.float32
