"""Write files atomically and read them strictly: bytes, and JSON objects with a checksum.

Input files are untrusted and validated before use. Readers raise a ToytaskError that says what is
wrong; `reading` adds which file it is and what to do next. Writers raise a WriteError.
"""

import errno
import json
import os
import secrets
import stat
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from hashlib import sha256
from io import RawIOBase
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError, short_repr

PARTIAL = ".partial"  # suffix of a file that is not yet complete
SCHEMA_VERSION = 2
CHECKSUM = "sha256"  # the key of the checksum
MAX_JSON_BYTES = 2**25
MAX_JSON_DEPTH = 16

READ_ONLY = (errno.EROFS, errno.EACCES, errno.EPERM)
HINTS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.ENOENT: "its directory is gone",
    **dict.fromkeys(READ_ONLY, "work on a copy of your own"),
    errno.EEXIST: "move it away, or use another name",
}
NO_FSYNC = (errno.EINVAL, errno.ENOSYS, errno.ENOTSUP)  # of file systems that cannot wait


class WriteError(ToytaskError):
    """The system refuses to write a file."""


class ReadOnlyError(WriteError):
    """The user may not write there."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turn the system's refusal to write `path` into a `WriteError`."""
    try:
        yield
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "check that this path can be written to")
        kind = ReadOnlyError if error.errno in READ_ONLY else WriteError
        raise kind(f"cannot write {path} ({error.strerror or error}): {hint}") from error


@contextmanager
def reading(path: Path | str, hint: str) -> Iterator[None]:
    """Add the source and the next step to any error, which becomes a plain ToytaskError."""
    try:
        yield
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror}): {hint}") from error
    except ToytaskError as error:
        raise ToytaskError(f"{path}: {error}: {hint}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Write a file completely or not at all, even if the machine fails meanwhile."""
    partial = path.with_name(f".{path.name}.{secrets.token_hex(8)}{PARTIAL}")
    with writing(path):
        try:
            with partial.open("xb", buffering=0) as file:
                write_all(file, content)
                sync(file)
            partial.replace(path)
        except BaseException:
            partial.unlink(missing_ok=True)
            raise


def write_all(file: RawIOBase, content: bytes) -> None:
    """Write all of `content`, of which one system call may write less."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def sync(file: RawIOBase) -> None:
    """Wait until the disk holds what was written, if its file system can tell."""
    try:
        os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in NO_FSYNC:
            raise


def read_bytes(path: Path, max_bytes: int) -> bytes:
    """Read a regular file that is not too large; a pipe or a device may never end."""
    status = path.stat()
    if not stat.S_ISREG(status.st_mode):
        raise ToytaskError("not a regular file")
    if status.st_size > max_bytes:
        raise ToytaskError(f"too large ({status.st_size:,} bytes, {max_bytes:,} at most)")
    with path.open("rb") as file:
        return file.read(max_bytes)


def sha256_of(values: Any) -> str:
    """Return the sha256 of JSON values, in hex; raise a ValueError if a number is not finite."""
    return sha256(json.dumps(values, allow_nan=False).encode()).hexdigest()


def write_json(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Write an object with its schema version and checksum; return what was written.

    Raises:
        ValueError: a number is not finite.
    """
    complete = with_checksum(values)
    write_bytes(path, json_bytes(complete))
    return complete


def with_checksum(values: Mapping[str, Any]) -> dict[str, Any]:
    """Return an object as it is written: with its schema version and checksum.

    Raises:
        ValueError: a number is not finite.
    """
    return {"schema_version": SCHEMA_VERSION, **values, CHECKSUM: sha256_of(values)}


def json_bytes(values: Mapping[str, Any]) -> bytes:
    """Return an object as the contents of a JSON file."""
    return json.dumps(values, indent=2).encode() + b"\n"


def read_json(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read what was given to `write_json`, or an object without a checksum that a person wrote."""
    values = read_object(path, max_bytes)
    version, checksum = values.pop("schema_version", None), values.pop(CHECKSUM, None)
    if type(version) is not int:
        raise ToytaskError("not written by toytask (no schema_version)")
    if version != SCHEMA_VERSION:
        other = "a newer" if version > SCHEMA_VERSION else "an older"
        raise ToytaskError(
            f"written by {other} toytask (schema_version {short_repr(version)}, and this toytask "
            f"reads {SCHEMA_VERSION})"
        )
    if checksum not in (None, sha256_of(values)):
        raise ToytaskError("changed since it was written")
    return values


def read_object(path: Path, max_bytes: int = MAX_JSON_BYTES) -> dict[str, Any]:
    """Read any JSON object of finite numbers that gives no key twice."""
    return parse_object(read_bytes(path, max_bytes))


def parse_object(text: str | bytes, first_line: int = 1) -> dict[str, Any]:
    """Parse a JSON object of finite numbers, not nested too deep to be walked through.

    Args:
        text: the JSON.
        first_line: the line of a file that the text begins at, to name in an error.
    """
    try:
        values = json.loads(text, object_pairs_hook=_without_repeats)
        json.dumps(values, allow_nan=False)  # refuses NaN and 1e999, which the parser accepts
    except json.JSONDecodeError as error:
        at = f"line {first_line + error.lineno - 1}, column {error.colno}"
        raise ToytaskError(f"cut or not JSON ({at}: {error.msg})") from error
    except (ValueError, RecursionError) as error:
        raise ToytaskError("cut or not JSON") from error
    if not isinstance(values, dict):
        raise ToytaskError("not a JSON object")
    if _is_deeper(values, MAX_JSON_DEPTH):
        raise ToytaskError("nested too deep")
    return values


def _without_repeats(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """Return an object's pairs as a dict; refuse a key that is given twice, where one would win."""
    values: dict[str, Any] = {}
    for key, value in pairs:
        if key in values:
            raise ToytaskError(f"key {short_repr(key)} is given twice")
        values[key] = value
    return values


def object_at(values: Mapping[str, Any], key: str) -> dict[str, Any]:
    """Return the JSON object under a key, or raise a ToytaskError if there is none."""
    value = values.get(key)
    if not isinstance(value, dict):
        raise ToytaskError(f"{key} is missing or not an object")
    return value


def _is_deeper(value: Any, levels: int) -> bool:
    """Return whether a JSON value has more levels of objects and lists than this."""
    if not isinstance(value, dict | list):
        return False
    inner = value.values() if isinstance(value, dict) else value
    return levels == 0 or any(_is_deeper(each, levels - 1) for each in inner)
