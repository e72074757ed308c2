"""The configuration of a run: enough to rebuild everything."""

import platform
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields
from typing import Any

import numpy
import torch

from toytask_cli import __version__
from toytask_cli.device import PRECISIONS
from toytask_cli.errors import ToytaskError, short_repr
from toytask_cli.recipe import Recipe
from toytask_cli.runs.files import object_at, sha256_of
from toytask_cli.runs.teacher import Teacher


@dataclass(frozen=True)
class Config:
    """The contents of `config.json`."""

    recipe: Recipe
    precision: str
    machine: dict[str, Any]  # where the run was started; nothing depends on it
    teacher: Teacher | None = None  # None: the true answers are learnt
    taught: list[str] | None = None  # the tasks that there are examples of; None: all

    @classmethod
    def here(
        cls,
        recipe: Recipe,
        device: torch.device,
        precision: torch.dtype,
        teacher: Teacher | None = None,
        taught: list[str] | None = None,
    ) -> "Config":
        """Return the configuration of a run on this machine."""
        machine = {
            "device": str(device),
            "threads": torch.get_num_threads(),
            "toytask": __version__,
            "python": platform.python_version(),
            "torch": torch.__version__,
            "numpy": numpy.__version__,
        }
        precision_name = str(precision).removeprefix("torch.")
        return cls(recipe, precision_name, machine, teacher, taught)

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Config":
        """Return the configuration that `to_json` wrote.

        Raises:
            ToytaskError: a key is unknown or missing, or a value is not valid.
        """
        if unknown := sorted(values.keys() - {field.name for field in fields(cls)}):
            raise ToytaskError(f"unknown key {short_repr(unknown[0])}")
        precision = values.get("precision")
        if not (isinstance(precision, str) and precision in PRECISIONS[1:]):
            raise ToytaskError(f"precision is {short_repr(precision)}, which is not valid")
        recipe = Recipe.from_json(object_at(values, "recipe"), "recipe")
        teacher = Teacher.from_json(object_at(values, "teacher")) if "teacher" in values else None
        taught = values.get("taught")
        if taught is not None and not _is_some_of(taught, recipe.tasks):
            raise ToytaskError(f"taught is {short_repr(taught)}, which is not valid")
        return cls(recipe, precision, object_at(values, "machine"), teacher, taught)

    def to_json(self) -> dict[str, Any]:
        """Return the object that `from_json` reads; what is None is left out."""
        values = {"recipe": self.recipe.to_json(), "precision": self.precision}
        return {**values, "machine": self.machine, **self._lesson()}

    def _lesson(self) -> dict[str, Any]:
        """Return what is learnt in place of the true answers of all tasks, by its key."""
        lesson = {"teacher": self.teacher and asdict(self.teacher), "taught": self.taught}
        return {key: value for key, value in lesson.items() if value is not None}

    def fingerprint(self, with_epochs: bool = False) -> str:
        """Return the sha256 of recipe, precision and lesson, to which weights are bound.

        Args:
            with_epochs: whether the limit of epochs counts too.
        """
        recipe = self.recipe.to_json()
        if not with_epochs:
            del recipe["epochs"]
        return sha256_of([recipe, self.precision, *self._lesson().items()])


def _is_some_of(names: Any, tasks: tuple[str, ...]) -> bool:
    """Return whether a JSON value lists some of the tasks, in their order."""
    return isinstance(names, list) and names != [] and names == [t for t in tasks if t in names]
