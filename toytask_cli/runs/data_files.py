"""A data directory: token tensors as safetensors, and a manifest that describes them."""

from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError
from toytask_cli.recipe import DataSpec
from toytask_cli.runs import files, paths, tensor_files
from toytask_cli.splits import SPLITS

TOKENS, MANIFEST = "tokens.safetensors", "manifest.json"


def manifest(grid: Grid) -> dict[str, Any]:
    """Return what the data are made from, and how many examples each task and split has."""
    rows = list(zip(grid.task_names, grid.splits, grid.merged_tokens(), strict=True))
    return {
        "spec": grid.spec.to_json(),
        "counts": {
            task: {name: int((splits == index).sum()) for index, name in enumerate(SPLITS)}
            for task, splits, _ in rows
        },
        "vocabulary": list(grid.tokenizer.tokens),
        "merged_answers": {task: int(merged.sum()) for task, _, merged in rows},
    }


def write_data(grid: Grid, directory: Path) -> dict[str, Any]:
    """Write the grid into a new or empty directory; return the manifest.

    Raises:
        ToytaskError: the directory is not empty, or the system refuses to write.
    """
    paths.create_empty(directory)
    tensor_files.write(directory / TOKENS, _tensors(grid))
    return files.write_json(directory / MANIFEST, manifest(grid))


def read_spec(directory: Path) -> DataSpec:
    """Return what the data in a directory are made from, and check that they are exactly that.

    Raises:
        ToytaskError: a file is missing, cut, foreign or changed.
    """
    source, path = directory / MANIFEST, directory / TOKENS
    hint = f"write the data again with `toytask data --out {paths.as_typed(directory)}`"
    with files.reading(source, hint):
        values = files.read_json(source)
        spec = DataSpec.from_json(files.object_at(values, "spec"), "spec")
    with files.reading(path, hint):
        tensors, _ = tensor_files.read(path)
        # A large grid is built only for a large file.
        shape = tensors["splits"].shape if "splits" in tensors else ()
        if shape != (len(spec.tasks), 100**spec.digits):
            raise ToytaskError(f"does not fit {source}")
        expected = _tensors(build_grid(spec))
        tensor_files.check_layout(tensors, expected, source)
        if not all(torch.equal(tensors[name], tensor) for name, tensor in expected.items()):
            raise ToytaskError(f"does not hold the data of {source}")
    return spec


def _tensors(grid: Grid) -> dict[str, Tensor]:
    return {"prompts": grid.prompts, "answers": grid.answers, "splits": grid.splits}
