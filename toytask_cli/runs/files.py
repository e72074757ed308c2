"""Single files: written beside themselves and renamed, read strictly, never unpickled.

What is read may come from any hand. Nothing is believed before it is checked: neither that a path
is a file, nor its size, nor that it still is what was written.
"""

import errno
import json
import math
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import file_digest, sha256
from io import RawIOBase
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load, save
from torch import Tensor

from toytask_cli.errors import ToytaskError, brief

SCHEMA_VERSION = 1

# Bytes beyond which a file is not of this program: read whole, it would fill the memory.
LARGEST_JSON, LARGEST_TENSORS, LARGEST_HEADER = 2**25, 2**28, 2**20
DEEPEST = 16  # levels of JSON; of what is written, half as many

PARTIAL = ".partial"  # what a name ends in until the file is whole

# What helps where the system refuses to write.
MENDS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EROFS: "work on a copy of your own",
    errno.EACCES: "work on a copy of your own",
    errno.ENOENT: "its directory is gone",
}


class WriteError(ToytaskError):
    """The disk does not take a file."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says against writing here into a `WriteError`."""
    try:
        yield
    except OSError as error:
        mend = MENDS.get(error.errno or 0, "see that this place can be written to")
        raise WriteError(f"cannot write {path} ({error.strerror or error}): {mend}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, even if the machine fails meanwhile.

    Raises:
        WriteError: the disk does not take it.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                write_all(file, content)
                os.fsync(file.fileno())
            beside.chmod(0o666 & ~_umask())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def write_all(file: RawIOBase, content: bytes) -> None:
    """Writes all of it, where one call may write a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def file_size(path: Path, mend: str) -> int:
    """How many bytes a file has.

    Raises:
        ToytaskError: it is missing, or is a pipe or a device, which could be read for ever.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror}): {mend}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ToytaskError(f"cannot read {path} (no file): {mend}")
    return found.st_size


def read_bytes(path: Path, mend: str, largest: int) -> bytes:
    """Reads a whole file of at most so many bytes.

    Raises:
        ToytaskError: it is missing, larger, or no file at all.
    """
    size = file_size(path, mend)
    if size > largest:
        raise ToytaskError(f"{path} is too large ({size:,} bytes, {largest:,} at most): {mend}")
    try:
        with path.open("rb") as file:
            return file.read(largest)
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror}): {mend}") from error


def file_sha256(path: Path, mend: str = "write it again") -> str:
    """The sha256 of a file's bytes, in hex.

    Raises:
        ToytaskError: it is missing or no file.
    """
    file_size(path, mend)
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()


# JSON


def to_json(values: Any, indent: int | None = 2) -> str:
    """JSON text; a number that is not finite is a bug, not a value."""
    return json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False)


def json_bytes(values: Any) -> bytes:
    """What is taken of values for a sha256: JSON, whose ASCII holds all that text can be."""
    return json.dumps(values, allow_nan=False).encode()


def json_sha256(values: Any) -> str:
    """The sha256 of these values, in hex."""
    return sha256(json_bytes(values)).hexdigest()


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes an object with the schema version in front."""
    write_bytes(path, to_json({"schema_version": SCHEMA_VERSION, **values}).encode() + b"\n")


def parse_object(content: bytes, name: str, mend: str) -> dict[str, Any]:
    """The JSON object that these bytes are; all its numbers are finite.

    Raises:
        ToytaskError: they are something else; it calls them `name`.
    """
    try:
        values = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ToytaskError(f"{name} is cut or no JSON: {mend}") from error
    if not isinstance(values, dict):
        raise ToytaskError(f"{name} holds no JSON object: {mend}")
    if _is_deeper(values, DEEPEST):
        raise ToytaskError(f"{name} is nested too deep: {mend}")
    return values


def _is_deeper(value: Any, levels: int) -> bool:
    """Whether a JSON value has more than so many levels of objects and lists."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)


def _finite(text: str) -> float:
    """`NaN`, `Infinity` and `1e999` are refused, all of which Python reads."""
    value = float(text)
    if not math.isfinite(value):
        raise ValueError(text)
    return value


def read_object(path: Path, mend: str) -> dict[str, Any]:
    """Reads a JSON object from any hand.

    Raises:
        ToytaskError: the file is missing, cut, or holds something else.
    """
    return parse_object(read_bytes(path, mend, LARGEST_JSON), str(path), mend)


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """Reads an object that `write_json` wrote, its schema version taken out.

    Args:
        path: the file.
        mend: the next step to name in an error.

    Raises:
        ToytaskError: the file is missing, cut, foreign, or from a newer version.
    """
    values = read_object(path, mend)
    version = values.pop("schema_version", None)
    if type(version) is not int or version < 1:
        raise ToytaskError(f"{path} was not written by toytask (no schema_version): {mend}")
    if version > SCHEMA_VERSION:
        raise ToytaskError(
            f"{path} has schema_version {brief(version)}, and this toytask reads up to "
            f"{SCHEMA_VERSION}: install a newer toytask"
        )
    return values


# Tensors


def write_tensors(
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


def read_tensors(path: Path, mend: str, largest: int = LARGEST_TENSORS) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU; all its numbers are finite.

    Raises:
        ToytaskError: the file is missing, cut, foreign, or not what was written.
    """
    content = read_bytes(path, mend, largest)
    try:
        tensors = load(content)
        header, data = _split(content)
    except (safetensors.SafetensorError, KeyError, ValueError, RecursionError) as error:
        raise ToytaskError(f"{path} is cut or no safetensors file: {mend}") from error
    written = (header.get("__metadata__") or {}).pop("sha256", None)
    if written is not None and written != _tensors_sha256(header, data):
        raise ToytaskError(f"{path} was changed since it was written: {mend}")
    for name, tensor in tensors.items():
        if tensor.is_floating_point() and not tensor.float().isfinite().all():
            raise ToytaskError(
                f"{path} holds a number that is not finite (in {brief(name)}): {mend}"
            )
    return tensors


def read_metadata(path: Path, mend: str) -> dict[str, str]:
    """The strings that `write_tensors` put beside the tensors, which are not read.

    Raises:
        ToytaskError: the file is missing, cut or foreign.
    """
    file_size(path, mend)
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            metadata = dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise ToytaskError(f"{path} is cut or no safetensors file: {mend}") from error
    metadata.pop("sha256", None)
    return metadata


def check_layout(
    path: Path, found: Mapping[str, Tensor], expected: Mapping[str, Tensor], maker: Path, mend: str
) -> None:
    """Refuses tensors that are not of the names, shapes and types that `maker` asks for.

    Raises:
        ToytaskError: naming one that is not.
    """
    layouts = [{n: (t.shape, t.dtype) for n, t in tensors.items()} for tensors in (found, expected)]
    odd = [n for n in layouts[0] | layouts[1] if layouts[0].get(n) != layouts[1].get(n)]
    if odd:
        raise ToytaskError(f"{path} does not fit {maker} (tensor {brief(min(odd))}): {mend}")


def _split(content: bytes) -> tuple[dict[str, Any], memoryview]:
    """Header and data of a safetensors file."""
    start = 8 + int.from_bytes(content[:8], "little")
    return json.loads(content[8:start]), memoryview(content)[start:]


def _tensors_sha256(header: Mapping[str, Any], data: memoryview) -> str:
    """The sha256 of all of a file but this sha256 itself."""
    digest = sha256(json.dumps(header, sort_keys=True).encode())
    digest.update(data)
    return digest.hexdigest()
