"""What a run was made from: enough to rebuild everything."""

import platform
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

import numpy
import torch

from toytask_cli import __version__
from toytask_cli.device import DEVICES, PRECISIONS
from toytask_cli.errors import ToytaskError, UsageError, short_repr, unknown_choice
from toytask_cli.recipe import Recipe
from toytask_cli.runs import json_files

# Names from a file are shown and looked up, so they are held to what this program writes there.
_VALID: dict[str, Callable[[Any], bool]] = {
    "device": lambda name: name.partition(":")[0] in DEVICES[1:] and name.isprintable(),
    "precision": lambda name: name in PRECISIONS[1:],
    "threads": lambda n: n > 0,
    "versions": lambda found: all(
        type(text) is str and text.isprintable() for pair in found.items() for text in pair
    ),
}


@dataclass(frozen=True)
class Config:
    """The contents of `config.json`."""

    recipe: Recipe
    device: str
    precision: str
    threads: int
    versions: dict[str, str]

    @classmethod
    def here(cls, recipe: Recipe, device: torch.device, precision: torch.dtype) -> "Config":
        """The configuration of a run on this machine."""
        versions = {
            "toytask": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        }
        name = str(precision).removeprefix("torch.")
        return cls(recipe, str(device), name, torch.get_num_threads(), versions)

    @classmethod
    def from_json(cls, values: Mapping[str, Any], source: str) -> "Config":
        """Strict: every key and no other.

        Raises:
            ToytaskError: a key that is unknown or missing, or a value of the wrong kind.
        """
        kinds = {"recipe": dict, "device": str, "precision": str, "threads": int, "versions": dict}
        for key in values:
            if key not in kinds:
                raise ToytaskError(f"{source}: {unknown_choice('key', key, kinds)}")
        for key, kind in kinds.items():
            if key not in values:
                raise ToytaskError(f"{source}: missing key {key!r}")
            if type(values[key]) is not kind:
                raise ToytaskError(f"{source}: {key} is no {kind.__name__}")
        for key, valid in _VALID.items():
            if not valid(values[key]):
                raise ToytaskError(f"{source}: {key} is {short_repr(values[key])}, which cannot be")
        try:
            recipe = Recipe.from_json(values["recipe"], source)
        except UsageError as error:
            raise ToytaskError(f"{source}: {error}") from error
        return cls(**{**values, "recipe": recipe})

    def to_json(self) -> dict[str, Any]:
        """The object that `from_json` reads."""
        return {**asdict(self), "recipe": self.recipe.to_json()}

    def sha256(self, with_epochs: bool) -> str:
        """What binds weights to the recipe and the precision that they were trained in.

        Args:
            with_epochs: whether another limit of epochs makes it another one.
        """
        recipe = self.recipe.to_json()
        if not with_epochs:
            del recipe["epochs"]
        return json_files.sha256_of([recipe, self.precision])
