"""Single files: written beside themselves and renamed, read strictly, never unpickled."""

import errno
import json
import os
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from io import RawIOBase
from pathlib import Path
from typing import Any

import safetensors
from safetensors.torch import load_file, save
from torch import Tensor

from toytask_cli.errors import ToytaskError

SCHEMA_VERSION = 1


PARTIAL = ".partial"  # what a name ends in until the file is whole


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


def to_json(values: Any, indent: int | None = 2) -> str:
    """JSON text; a number that is not finite is a bug, not a value."""
    return json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False)


def write_json(path: Path, values: Mapping[str, Any]) -> None:
    """Writes an object with the schema version in front."""
    write_bytes(path, to_json({"schema_version": SCHEMA_VERSION, **values}).encode() + b"\n")


def read_object(path: Path, mend: str) -> dict[str, Any]:
    """Reads a JSON object from any hand.

    Raises:
        ToytaskError: the file is missing, cut, or holds something else.
    """
    try:
        values = json.loads(path.read_bytes())
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror}): {mend}") from error
    except (ValueError, RecursionError) as error:
        raise ToytaskError(f"{path} is cut or no JSON: {mend}") from error
    if not isinstance(values, dict):
        raise ToytaskError(f"{path} holds no JSON object: {mend}")
    return values


def read_json(path: Path, mend: str) -> dict[str, Any]:
    """Reads an object that `write_json` wrote, its schema version taken out.

    Args:
        path: the file.
        mend: the next step to name in an error.

    Raises:
        ToytaskError: the file is missing, cut, foreign, or from a newer version.
    """
    values = read_object(path, mend)
    if type(values.get("schema_version")) is not int:
        raise ToytaskError(f"{path} was not written by toytask (no schema_version): {mend}")
    version = values.pop("schema_version")
    if version > SCHEMA_VERSION:
        raise ToytaskError(
            f"{path} has schema_version {version}, and this toytask reads up to "
            f"{SCHEMA_VERSION}: install a newer toytask"
        )
    return values


def write_tensors(
    path: Path, tensors: Mapping[str, Tensor], metadata: Mapping[str, str] | None = None
) -> None:
    """Writes tensors as safetensors, from whichever device."""
    flat = {name: tensor.detach().cpu().contiguous() for name, tensor in tensors.items()}
    write_bytes(path, save(flat, dict(metadata) if metadata else None))


def read_tensors(path: Path, mend: str) -> dict[str, Tensor]:
    """Reads a safetensors file onto the CPU.

    Raises:
        ToytaskError: the file is missing, cut or foreign.
    """
    try:
        return load_file(path)
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror or 'missing'}): {mend}") from error
    except safetensors.SafetensorError as error:
        raise ToytaskError(f"{path} is cut or no safetensors file: {mend}") from error


def read_metadata(path: Path, mend: str) -> dict[str, str]:
    """The strings that `write_tensors` put beside the tensors.

    Raises:
        ToytaskError: the file is missing, cut or foreign.
    """
    try:
        with safetensors.safe_open(path, framework="pt") as file:
            return dict(file.metadata() or {})
    except (OSError, safetensors.SafetensorError) as error:
        raise ToytaskError(f"{path} is missing, cut or no safetensors file: {mend}") from error


def file_sha256(path: Path) -> str:
    """The sha256 of a file's bytes, in hex.

    Raises:
        ToytaskError: it cannot be read.
    """
    try:
        return sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise ToytaskError(f"cannot read {path}: {error.strerror}") from error
