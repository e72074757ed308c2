"""Reports that carry the sha256 of what they say, so that a change to them is noticed."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files

SEAL = "sha256"


def write_sealed(path: Path, values: Mapping[str, Any]) -> dict[str, Any]:
    """Writes an object; gives what was written.

    Raises:
        ValueError: a number is not finite.
    """
    sealed = {**values, SEAL: files.json_sha256(values)}
    files.write_json(path, sealed)
    return {"schema_version": files.SCHEMA_VERSION, **sealed}


def read_sealed(path: Path, mend: str) -> dict[str, Any]:
    """Reads what `write_sealed` wrote, or, without a seal, what a person did.

    Raises:
        ToytaskError: it is missing, cut, foreign, or not what was written.
    """
    values = files.read_json(path, mend)
    seal = values.pop(SEAL, None)
    if seal is not None and seal != files.json_sha256(values):
        raise ToytaskError(f"{path} was changed since it was written: {mend}")
    return values
