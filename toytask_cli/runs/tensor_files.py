"""Files of tensors: safetensors with a sha256 of all that is in them; never unpickled."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from toytask_cli.errors import ToytaskError, short_repr
from toytask_cli.runs.files import file_size, read_bytes, write_bytes

# Bytes beyond which a file is not of this program: read whole, it would fill the memory.
LARGEST, LARGEST_HEADER = 2**28, 2**20


def write(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as safetensors, from whichever device, with a sha256 of it all among them."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    header, data = _split(save(flat))
    # Written here: the library puts metadata in another order each time.
    header["__metadata__"] = {**(metadata or {})}
    header["__metadata__"]["sha256"] = _tensors_sha256(header, data)
    text = json.dumps(header).encode()
    text += b" " * (-len(text) % 8)
    write_bytes(path, b"".join([len(text).to_bytes(8, "little"), text, data]))


def read(path: Path, hint: str, largest: int = LARGEST) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU; all its numbers are finite.

    Raises:
        ToytaskError: the file is missing, cut, foreign, or not what was written.
    """
    content = read_bytes(path, hint, largest)
    try:
        tensors = load(content)
        header, data = _split(content)
    except (safetensors.SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ToytaskError(f"{path} is cut or no safetensors file: {hint}") from error
    written = (header.get("__metadata__") or {}).pop("sha256", None)
    if written is not None and written != _tensors_sha256(header, data):
        raise ToytaskError(f"{path} was changed since it was written: {hint}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise ToytaskError(
                f"{path} holds a number that is not finite (in {short_repr(name)}): {hint}"
            )
    return tensors


def read_metadata(path: Path, hint: str) -> dict[str, str]:
    """The strings that `write` put beside the tensors, which are not read.

    Raises:
        ToytaskError: the file is missing, cut or foreign.
    """
    file_size(path, hint)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise ToytaskError(f"{path} is cut or no safetensors file: {hint}") from error
    metadata.pop("sha256", None)
    return metadata


def check_layout(
    path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], maker: Path, hint: str
) -> None:
    """Refuses tensors that are not of the names, shapes and types that `maker` asks for.

    Raises:
        ToytaskError: naming one that is not.
    """
    layouts = [{n: (t.shape, t.dtype) for n, t in tensors.items()} for tensors in (found, expected)]
    odd = [n for n in layouts[0] | layouts[1] if layouts[0].get(n) != layouts[1].get(n)]
    if odd:
        raise ToytaskError(f"{path} does not fit {maker} (tensor {short_repr(min(odd))}): {hint}")


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and data of a safetensors file."""
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), memoryview(content)[start:]


def _tensors_sha256(header: Mapping[str, Any], data: memoryview) -> str:
    """The sha256 of all of a file but this sha256 itself."""
    digest = sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
