"""The grid on disk: token tensors as safetensors, and a manifest that says what they are."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toytask_cli.dataset import PARTS, Grid, build_grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.recipe import DataSpec
from toytask_cli.runs import files, json_files, tensor_files
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
    tensor_files.write(directory / TOKENS, _tensors(grid))
    written = manifest(grid) | {"sha256": files.file_sha256(directory / TOKENS)}
    json_files.write(directory / MANIFEST, written)
    return written


def read_spec(directory: Path) -> DataSpec:
    """What the data in a directory are made from, after checking that they are just that.

    Raises:
        ToytaskError: a file is missing, cut, foreign or changed.
    """
    path, tokens = directory / MANIFEST, directory / TOKENS
    mend = f"write the data again with `toytask data --out {directory}`"
    values = json_files.read(path, mend)
    if not isinstance(values.get("spec"), dict):
        raise ToytaskError(f"{path}: missing key 'spec': {mend}")
    try:
        spec = DataSpec.from_json(values["spec"], str(path))
    except UsageError as error:
        raise ToytaskError(f"{path}: {error}") from error
    found = tensor_files.read(tokens, mend)
    if values.pop("sha256", None) != files.file_sha256(tokens, mend):
        raise ToytaskError(f"{tokens} is not the file of its manifest: {mend}")
    # A large grid is built only for a large file.
    if "parts" not in found or found["parts"].shape != (len(spec.tasks), 100**spec.digits):
        raise ToytaskError(f"{tokens} does not hold its manifest's parts: {mend}")
    grid = build_grid(spec)
    expected = _tensors(grid)
    tensor_files.check_layout(tokens, found, expected, path, mend)
    for name, tensor in expected.items():
        if not torch.equal(found[name], tensor):
            raise ToytaskError(f"{tokens} does not hold its manifest's {name}: {mend}")
    if values != manifest(grid):
        raise ToytaskError(f"{path} does not say what the data are: {mend}")
    return spec


def _tensors(grid: Grid) -> dict[str, Tensor]:
    return {"prompts": grid.prompts, "answers": grid.answers, "parts": grid.parts}
