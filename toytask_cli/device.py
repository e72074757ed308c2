"""Where to compute, and in which precision."""

import torch

from toytask_cli.errors import ToytaskError, unknown

DEVICES = ("auto", "cpu", "cuda", "mps")
PRECISIONS = ("auto", "float32", "bfloat16")


def find_device(name: str) -> torch.device:
    """`auto` takes a GPU where there is one. CUDA is only asked about where it could be chosen.

    Raises:
        UsageError: a name that is no device.
        ToytaskError: a device that this machine does not have.
    """
    if name not in DEVICES:
        raise unknown("device", name, DEVICES)
    if name == "cpu":
        return torch.device("cpu")
    if name in ("auto", "cuda") and torch.cuda.is_available():
        return torch.device("cuda")
    if name in ("auto", "mps") and torch.backends.mps.is_available():
        return torch.device("mps")
    if name == "auto":
        return torch.device("cpu")
    raise ToytaskError(f"this machine has no {name} device: use --device cpu")


def find_precision(name: str, device: torch.device) -> torch.dtype:
    """The type that matrix products are taken in; weights stay float32.

    `auto` takes bfloat16 where the hardware multiplies it: a processor with AMX, a GPU of compute
    capability 8 or more.

    Raises:
        UsageError: a name that is no precision.
    """
    if name not in PRECISIONS:
        raise unknown("precision", name, PRECISIONS)
    if name != "auto":
        return torch.bfloat16 if name == "bfloat16" else torch.float32
    if device.type == "cuda":
        fast = torch.cuda.get_device_capability(device) >= (8, 0)
    else:
        fast = device.type == "cpu" and torch.cpu._is_amx_tile_supported()
    return torch.bfloat16 if fast else torch.float32
