"""Where to compute, and in which precision."""

import torch

from toytask_cli.errors import ToytaskError, unknown_choice

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


def find_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one. CUDA is only asked about where it could be chosen.

    Raises:
        UsageError: a name that is no device.
        ToytaskError: a device that this machine does not have.
    """
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


def _processor() -> torch.device:
    """The processor, and memory that is kept for the next batch when one is done.

    glibc gives back to the system what is freed beyond twice the largest block, of up to 32 MiB,
    that it saw freed before; having it anew, page by page, took a tenth of an analysis. So one such
    block is freed here, untouched. Where malloc works otherwise this does nothing.
    """
    torch.empty(2**25 - 2**16, dtype=torch.uint8)
    return torch.device("cpu")


def find_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that matrix products are taken in; weights stay float32.

    `auto` takes bfloat16 where the hardware multiplies it: a processor with AVX512-BF16, as all
    have that have AMX, or a GPU of compute capability 8 or more.

    Raises:
        UsageError: a name that is no precision.
    """
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


def products_are_dear(precision: torch.dtype, device: torch.device) -> bool:
    """Whether sparing matrix products is worth the copies and launches it takes.

    So it is in float32 on a CPU. A GPU would also have to be waited for, as the shapes of what is
    left to do depend on the data.
    """
    return precision == torch.float32 and device.type == "cpu"
