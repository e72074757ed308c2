"""The grid on disk: token tensors as safetensors, and a manifest that says what they are."""

from pathlib import Path
from typing import Any

import torch

from toytask_cli.dataset import PARTS, Grid, build_grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.recipe import DataSpec
from toytask_cli.runs import files
from toytask_cli.runs.places import claim

TOKENS, MANIFEST = "tokens.safetensors", "manifest.json"


def counts(grid: Grid) -> dict[str, dict[str, int]]:
    """Number of examples by task and part."""
    return {
        task.name: {part: int((row == index).sum()) for index, part in enumerate(PARTS)}
        for task, row in zip(grid.tasks, grid.parts, strict=True)
    }


def manifest(grid: Grid) -> dict[str, Any]:
    """What the data are made from and how much there is of them."""
    return {
        "spec": grid.spec.to_json(),
        "counts": counts(grid),
        "vocabulary": list(grid.tokenizer.tokens),
        "resplit_answers": {
            task.name: int(row.sum()) for task, row in zip(grid.tasks, grid.resplit(), strict=True)
        },
    }


def write_data(grid: Grid, directory: Path) -> dict[str, Any]:
    """Writes the grid into a new or empty directory, and gives the manifest.

    Raises:
        ToytaskError: the directory is not empty, or the disk does not take it.
    """
    claim(directory)
    tensors = {"prompts": grid.prompts, "answers": grid.answers, "parts": grid.parts}
    files.write_tensors(directory / TOKENS, tensors)
    written = manifest(grid) | {"sha256": files.file_sha256(directory / TOKENS)}
    files.write_json(directory / MANIFEST, written)
    return written


def read_spec(directory: Path) -> DataSpec:
    """What the data in a directory are made from, after checking that they are just that.

    Raises:
        ToytaskError: a file is missing, cut, foreign or changed.
    """
    mend = f"write the data again with `toytask data --out {directory}`"
    values = files.read_json(directory / MANIFEST, mend)
    if not isinstance(values.get("spec"), dict):
        raise ToytaskError(f"{directory / MANIFEST}: missing key 'spec': {mend}")
    try:
        spec = DataSpec.from_json(values["spec"], str(directory / MANIFEST))
    except UsageError as error:
        raise ToytaskError(f"{directory / MANIFEST}: {error}") from error
    tensors = files.read_tensors(directory / TOKENS, mend)
    if values.get("sha256") != files.file_sha256(directory / TOKENS):
        raise ToytaskError(f"{directory / TOKENS} is not the file of its manifest: {mend}")
    grid = build_grid(spec)
    for name in ("prompts", "answers", "parts"):
        if name not in tensors or not torch.equal(tensors[name], getattr(grid, name)):
            raise ToytaskError(f"{directory / TOKENS} does not hold its manifest's {name}: {mend}")
    return spec
