"""JSON files: objects with a schema version, read strictly.

Every number of them is finite, and no text of any hand exhausts what reads it.
"""

import json
import math
from collections.abc import Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError, short_repr
from toytask_cli.runs.files import read_bytes, write_bytes

SCHEMA_VERSION = 2

LARGEST = 2**25  # bytes; a larger file is not of this program
DEEPEST = 16  # levels; of what is written, half as many


def to_text(values: Any, indent: int | None = 2) -> str:
    """JSON text; a number that is not finite is a bug, not a value."""
    return json.dumps(values, indent=indent, allow_nan=False, ensure_ascii=False)


def canonical(values: Any) -> bytes:
    """What is taken of values for a sha256: JSON, whose ASCII holds all that text can be."""
    return json.dumps(values, allow_nan=False).encode()


def sha256_of(values: Any) -> str:
    """The sha256 of these values, in hex."""
    return sha256(canonical(values)).hexdigest()


def write(path: Path, values: Mapping[str, Any]) -> None:
    """Writes an object with the schema version in front."""
    write_bytes(path, to_text({"schema_version": SCHEMA_VERSION, **values}).encode() + b"\n")


def parse_object(content: bytes, name: str, hint: str) -> dict[str, Any]:
    """The JSON object that these bytes are; all its numbers are finite.

    Raises:
        ToytaskError: they are something else; it calls them `name`.
    """
    try:
        values = json.loads(content, parse_float=_finite, parse_constant=_finite)
    except (ValueError, RecursionError) as error:
        raise ToytaskError(f"{name} is cut or no JSON: {hint}") from error
    if not isinstance(values, dict):
        raise ToytaskError(f"{name} holds no JSON object: {hint}")
    if _is_deeper(values, DEEPEST):
        raise ToytaskError(f"{name} is nested too deep: {hint}")
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


def read_object(path: Path, hint: str) -> dict[str, Any]:
    """Reads a JSON object from any hand.

    Raises:
        ToytaskError: the file is missing, cut, or holds something else.
    """
    return parse_object(read_bytes(path, hint, LARGEST), str(path), hint)


def read(path: Path, hint: str) -> dict[str, Any]:
    """Reads an object that `write` wrote, its schema version taken out.

    Args:
        path: the file.
        hint: the next step to name in an error.

    Raises:
        ToytaskError: the file is missing, cut, foreign, or from another version.
    """
    values = read_object(path, hint)
    version = values.pop("schema_version", None)
    if type(version) is not int or version < 1:
        raise ToytaskError(f"{path} was not written by toytask (no schema_version): {hint}")
    if version > SCHEMA_VERSION:
        raise ToytaskError(
            f"{path} has schema_version {short_repr(version)}, and this toytask reads up to "
            f"{SCHEMA_VERSION}: install a newer toytask"
        )
    if version < SCHEMA_VERSION:
        raise ToytaskError(
            f"{path} has schema_version {version}, of an earlier toytask, and this one reads "
            f"{SCHEMA_VERSION}: {hint}"
        )
    return values
