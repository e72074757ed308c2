"""Files of tensors: safetensors with JSON metadata and a checksum; nothing is ever unpickled."""

import json
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from toytask_cli.errors import ToytaskError, short_repr
from toytask_cli.runs.files import CHECKSUM, parse_object, read_bytes, write_bytes

MAX_BYTES = 2**29  # more than any model takes
KEY = "toytask"  # one key for all metadata: safetensors writes several in a random order

Tensors = Mapping[str, Tensor]


def write(path: Path, tensors: Tensors, metadata: Mapping[str, Any] | None = None) -> None:
    """Write tensors from any device, with a checksum over them and their metadata."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    values = {**(metadata or {})}
    values[CHECKSUM] = _checksum(*_split(save(flat)), values)
    write_bytes(path, save(flat, {KEY: json.dumps(values)}))


def read(path: Path, max_bytes: int = MAX_BYTES) -> tuple[dict[str, Tensor], dict[str, Any]]:
    """Read finite tensors onto the CPU, and their metadata."""
    content = read_bytes(path, max_bytes)
    try:
        tensors = load(content)
        header, data = _split(content)
    except (SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ToytaskError("cut or not a safetensors file") from error
    metadata = parse_object((header.pop("__metadata__", None) or {}).get(KEY, "{}"))
    if metadata.pop(CHECKSUM, None) not in (None, _checksum(header, data, metadata)):
        raise ToytaskError("changed since it was written")
    if not is_finite(tensors):
        raise ToytaskError("holds a number that is not finite")
    return tensors, metadata


def is_finite(tensors: Tensors) -> bool:
    """Return whether every number of every tensor is finite."""
    floats = (tensor for tensor in tensors.values() if tensor.is_floating_point())
    return all(tensor.float().isfinite().all() for tensor in floats)


def check_layout(tensors: Tensors, expected: Tensors, source: Path) -> None:
    """Raise a ToytaskError unless names, shapes and types are those that `source` asks for."""
    actual, asked = (
        {(name, tensor.shape, tensor.dtype) for name, tensor in each.items()}
        for each in (tensors, expected)
    )
    if differing := [name for name, _, _ in actual ^ asked]:
        raise ToytaskError(f"does not fit {source} (tensor {short_repr(min(differing))})")


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Split a safetensors file into its header and its data."""
    start = 8 + int.from_bytes(content[:8], "little")
    return parse_object(content[8:start]), memoryview(content)[start:]


def _checksum(header: Any, data: memoryview, metadata: Mapping[str, Any]) -> str:
    """Return the sha256 of the tensors' names, shapes, types and numbers, and of the metadata."""
    digest = sha256(json.dumps([header, metadata], sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
