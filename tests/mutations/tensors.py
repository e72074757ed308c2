"""Mutations of what a safetensors file says, of its header or its tensors.

Those that `forge` write a file as this program would, its sha256 included, so that the checks
behind it are reached.
"""

import json
import os
from collections.abc import Callable
from contextlib import suppress
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import load_file
from torch import Tensor

from mutations.texts import change_somewhere, dump, random_json, update_checksum
from mutations.victim import ESCAPE, GIGABYTE, TENSORS, Victim, is_small
from toytask_cli.runs import tensor_files


def _header(path: Path) -> tuple[dict[str, Any], bytes]:
    content = path.read_bytes()
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), content[start:]


def _metadata(path: Path) -> dict[str, Any]:
    metadata = json.loads(_header(path)[0]["__metadata__"][tensor_files.KEY])
    del metadata["sha256"]
    return metadata


def _put_header(path: Path, header: Any, data: bytes, length: int | None = None) -> None:
    text = header if isinstance(header, bytes) else dump(header).encode()
    length = len(text) if length is None else length
    path.write_bytes(length.to_bytes(8, "little") + text + data)


def header_length(victim: Victim) -> list[Path]:
    """A header that claims to be longer than the file, or than any memory."""
    path = victim.choose(*TENSORS)
    header, data = _header(path)
    lengths = [0, 1, 99_999_999, GIGABYTE, 2**31, 2**63, 2**64 - 1, victim.random.randrange(2**20)]
    _put_header(path, header, data, victim.random.choice(lengths))
    return [path]


def header_claims(victim: Victim) -> list[Path]:
    """A tensor that claims another type, shape, offset or name, a gigabyte among them."""
    path = victim.choose(*TENSORS)
    header, data = _header(path)
    name = victim.random.choice([key for key in header if key != "__metadata__"])
    tensor = header[name]
    claims: list[Callable[[], Any]] = [
        lambda: tensor.update(dtype=victim.random.choice(["F16", "I64", "F8_E4M3", "F4", "X", 3])),
        lambda: tensor.update(shape=victim.random.choice([[GIGABYTE], [2**63], [-1], [], "x"])),
        lambda: tensor.update(
            data_offsets=victim.random.choice([[0, GIGABYTE], [9, 3], [0], None])
        ),
        lambda: tensor.update(shape=[2**28], data_offsets=[0, GIGABYTE]),
        lambda: header.update({ESCAPE: header.pop(name)}),
        lambda: header.update(__metadata__=random_json(victim.random)),
        lambda: header.update({name: random_json(victim.random)}),
        lambda: header.pop("__metadata__", None),
    ]
    victim.random.choice(claims)()
    _put_header(path, header, data)
    if victim.random.random() < 0.2:
        os.truncate(path, 2 * GIGABYTE)
    return [path]


def deep_header(victim: Victim) -> list[Path]:
    path = victim.choose(*TENSORS)
    _, data = _header(path)
    depth = victim.random.choice([10, 100_000])
    text = b"[" * depth + b"]" * depth
    _put_header(path, victim.random.choice([text, b'{"a":' + text + b"}"]), data)
    return [path]


def _forge(path: Path, change: Callable[[dict[str, Tensor]], None]) -> list[Path]:
    """Writes the tensors changed, and everything bound to them as this program would."""
    tensors, metadata = load_file(path), _metadata(path)
    change(tensors)
    before = sha256(path.read_bytes()).hexdigest()
    tensor_files.write(path, tensors, metadata)
    after = sha256(path.read_bytes()).hexdigest()
    for other in filter(is_small, path.parent.parent.rglob("*.json")):
        with suppress(OSError, ValueError, AttributeError):  # it may be mutated already
            update_checksum(other, lambda text: text.replace(before, after))
    return [path]


def _choose_name(victim: Victim, tensors: dict[str, Tensor]) -> str:
    return victim.random.choice(
        [n for n in tensors if tensors[n].is_floating_point()] or [*tensors]
    )


def forge_numbers(victim: Victim) -> list[Path]:
    """A number that is NaN or infinite, under a right checksum."""

    def change(tensors: dict[str, Tensor]) -> None:
        flat = tensors[_choose_name(victim, tensors)].view(-1)
        flat[victim.random.randrange(len(flat))] = victim.random.choice([1, -1]) * torch.inf
        flat[0] = victim.random.choice([torch.nan, torch.inf])

    return _forge(victim.choose(*TENSORS[:3]), change)


def forge_overflow(victim: Victim) -> list[Path]:
    """Finite weights of which a pass through the model makes infinities."""

    def change(tensors: dict[str, Tensor]) -> None:
        some = victim.random.sample(sorted(tensors), victim.random.choice([1, 4, len(tensors)]))
        for name in some:
            tensors[name] = torch.full_like(
                tensors[name], victim.random.choice([3e38, -1e30, 1e20])
            )

    return _forge(victim.choose(TENSORS[0]), change)


def forge_shape(victim: Victim) -> list[Path]:
    """A tensor of another shape that holds as many numbers, or of more or fewer, or of none."""

    def change(tensors: dict[str, Tensor]) -> None:
        name = _choose_name(victim, tensors)
        tensor = tensors[name]
        shapes = [
            tensor.reshape(-1), tensor[None], tensor.reshape(-1)[:1], tensor.new_empty(0),
            torch.cat([tensor.reshape(-1)] * 2), tensor.sum(), tensor[..., None],
        ]  # fmt: skip
        tensors[name] = victim.random.choice([s for s in shapes if s.shape != tensor.shape])

    return _forge(victim.choose(*TENSORS), change)


def forge_type(victim: Victim) -> list[Path]:
    def change(tensors: dict[str, Tensor]) -> None:
        name = _choose_name(victim, tensors)
        types = [torch.float64, torch.float16, torch.bfloat16, torch.int32, torch.bool, torch.uint8]
        types = [*types, torch.float8_e4m3fn, torch.complex64]
        dtype = victim.random.choice([t for t in types if t != tensors[name].dtype])
        tensors[name] = tensors[name].to(dtype)

    return _forge(victim.choose(*TENSORS), change)


def forge_names(victim: Victim) -> list[Path]:
    """A tensor too few, too many, or under a name with control characters."""

    def change(tensors: dict[str, Tensor]) -> None:
        name = _choose_name(victim, tensors)
        tensor = tensors[name].clone()
        if victim.random.random() < 0.7:
            del tensors[name]
        if victim.random.random() < 0.7 or name in tensors:
            tensors[victim.random.choice([ESCAPE, "x" * 10_000, f"{name}.{name}"])] = tensor

    return _forge(victim.choose(*TENSORS), change)


def forge_progress(victim: Victim) -> list[Path]:
    """Another state of training beside the tensors of a checkpoint."""
    path = victim.choose(TENSORS[1])
    tensors, metadata = load_file(path), _metadata(path)
    progress = metadata["progress"]
    if victim.random.random() < 0.3:
        metadata["progress"] = random_json(victim.random)
    else:
        change_somewhere(victim.random, progress, lambda old: random_json(victim.random))
        progress["epoch"] = victim.random.choice([0, -1, "3", 2.0, True, 10**400])
    tensor_files.write(path, tensors, json.loads(dump(metadata)))  # NaN among them
    return [path]
