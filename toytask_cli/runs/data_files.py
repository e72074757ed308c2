"""The grid on disk: token tensors as safetensors, and a manifest that says what they are."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.recipe import DataSpec
from toytask_cli.runs import files, json_files, tensor_files
from toytask_cli.runs.paths import claim
from toytask_cli.splits import SPLITS

TOKENS, MANIFEST = "tokens.safetensors", "manifest.json"


def counts(grid: Grid) -> dict[str, dict[str, int]]:
    """Number of examples by task and part."""
    return {
        task.name: {part: int((row == index).sum()) for index, part in enumerate(SPLITS)}
        for task, row in zip(grid.tasks, grid.splits, strict=True)
    }


def manifest(grid: Grid) -> dict[str, Any]:
    """What the data are made from and how much there is of them."""
    return {
        "spec": grid.spec.to_json(),
        "counts": counts(grid),
        "vocabulary": list(grid.tokenizer.tokens),
        "merged_answers": {
            task.name: int(row.sum())
            for task, row in zip(grid.tasks, grid.merged_tokens(), strict=True)
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
    hint = f"write the data again with `toytask data --out {directory}`"
    values = json_files.read(path, hint)
    if not isinstance(values.get("spec"), dict):
        raise ToytaskError(f"{path}: missing key 'spec': {hint}")
    try:
        spec = DataSpec.from_json(values["spec"], str(path))
    except UsageError as error:
        raise ToytaskError(f"{path}: {error}") from error
    found = tensor_files.read(tokens, hint)
    if values.pop("sha256", None) != files.file_sha256(tokens, hint):
        raise ToytaskError(f"{tokens} is not the file of its manifest: {hint}")
    # A large grid is built only for a large file.
    if "splits" not in found or found["splits"].shape != (len(spec.tasks), 100**spec.digits):
        raise ToytaskError(f"{tokens} does not hold its manifest's splits: {hint}")
    grid = build_grid(spec)
    expected = _tensors(grid)
    tensor_files.check_layout(tokens, found, expected, path, hint)
    for name, tensor in expected.items():
        if not torch.equal(found[name], tensor):
            raise ToytaskError(f"{tokens} does not hold its manifest's {name}: {hint}")
    if values != manifest(grid):
        raise ToytaskError(f"{path} does not say what the data are: {hint}")
    return spec


def _tensors(grid: Grid) -> dict[str, Tensor]:
    return {"prompts": grid.prompts, "answers": grid.answers, "splits": grid.splits}
