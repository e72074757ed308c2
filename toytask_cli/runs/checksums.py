"""Reports that carry the sha256 of what they say, so that a change to them is noticed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import json_files

SEAL = "sha256"


def write_sealed(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Writes an object; gives what was written.

    Raises:
        ValueError: a number is not finite.
    """
    sealed = {**values, SEAL: json_files.sha256_of(values)}
    json_files.write(path, sealed)
    return {"schema_version": json_files.SCHEMA_VERSION, **sealed}


def read_sealed(path: Path, hint: str) -> dict[str, Any]:
    """Reads what `write_sealed` wrote, or, without a seal, what a person did.

    Raises:
        ToytaskError: it is missing, cut, foreign, or not what was written.
    """
    values = json_files.read(path, hint)
    seal = values.pop(SEAL, None)
    if seal is not None and seal != json_files.sha256_of(values):
        raise ToytaskError(f"{path} was changed since it was written: {hint}")
    return values
