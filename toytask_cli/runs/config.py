"""The configuration of a run: enough to rebuild everything."""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy
import torch

from toytask_cli import __version__
from toytask_cli.device import PRECISIONS
from toytask_cli.errors import ToytaskError, short_repr
from toytask_cli.recipe import Recipe
from toytask_cli.runs.files import object_at, sha256_of


@dataclass(frozen=True)
class Config:
    """The contents of `config.json`."""

    recipe: Recipe
    precision: str
    machine: dict[str, Any]  # where the run was started; nothing depends on it

    @classmethod
    def here(cls, recipe: Recipe, device: torch.device, precision: torch.dtype) -> "Config":
        """Return the configuration of a run on this machine."""
        machine = {
            "device": str(device),
            "threads": torch.get_num_threads(),
            "toytask": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        }
        return cls(recipe, str(precision).removeprefix("torch."), machine)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """Return the configuration that `to_json` wrote.

        Raises:
            ToytaskError: a key is unknown or missing, or a value is not valid.
        """
        if unknown := sorted(values.keys() - {"recipe", "precision", "machine"}):
            raise ToytaskError(f"unknown key {short_repr(unknown[0])}")
        precision = values.get("precision")
        if not (isinstance(precision, str) and precision in PRECISIONS[1:]):
            raise ToytaskError(f"precision is {short_repr(precision)}, which is not valid")
        recipe = Recipe.from_json(object_at(values, "recipe"), "recipe")
        return cls(recipe, precision, object_at(values, "machine"))

    def to_json(self) -> dict[str, Any]:
        """Return the object that `from_json` reads."""
        return {**vars(self), "recipe": self.recipe.to_json()}

    def fingerprint(self, with_epochs: bool = False) -> str:
        """Return the sha256 of recipe and precision, to which weights are bound.

        Args:
            with_epochs: whether the limit of epochs counts too.
        """
        recipe = self.recipe.to_json()
        if not with_epochs:
            del recipe["epochs"]
        return sha256_of([recipe, self.precision])
