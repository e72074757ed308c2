"""The plan of a study: which runs it has, each with its recipe.

`--vary`, `--seeds`, `--split-seeds` and `--folds` are crossed: one run for each combination.
"""

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, fields
from itertools import product
from typing import Any

from toytask_cli import __version__
from toytask_cli.device import PRECISIONS
from toytask_cli.errors import ToytaskError, UsageError, short_repr, unknown_choice
from toytask_cli.folds import fold_names, parse_fold
from toytask_cli.recipe import Recipe, resolve
from toytask_cli.runs.files import object_at, sha256_of
from toytask_cli.runs.paths import RUN_ID
from toytask_cli.valid import key_of

MAX_RUNS = 10_000

Fields = Mapping[str, Any]  # field name → value


@dataclass(frozen=True)
class PlannedRun:
    """One run: the name of its directory, and its recipe."""

    id: str
    recipe: Recipe

    @property
    def cell(self) -> tuple[int, str]:
        """Its row and column in a table of seeds by splits; runs of one cell are compared."""
        fold = self.recipe.split_by if parse_fold(self.recipe.split_by) else "split"
        return self.recipe.seed, f"{fold}-{self.recipe.split_seed}"


@dataclass(frozen=True)
class Plan:
    """The contents of `study.json`."""

    runs: tuple[PlannedRun, ...]
    varied: tuple[str, ...]  # names of the fields that tell recipes apart
    tolerances: tuple[float, ...]  # of the removals, nats
    precision: str
    threads: int  # of each run
    version: str = __version__  # another version may train other weights by the same recipe

    def recipe_of(self, run: PlannedRun) -> dict[str, Any]:
        """Return the fields that tell the run's recipe from the others', by JSON key."""
        values = run.recipe.to_json()
        return {key_of(name): values[key_of(name)] for name in self.varied}

    def fingerprint(self, run: PlannedRun) -> str:
        """Return the sha256 of all that a run's numbers depend on, apart from the machine."""
        return sha256_of([run.recipe.to_json(), self.precision, self.threads])

    def job(self, run: PlannedRun, path: str, device: str) -> dict[str, Any]:
        """Return what a worker is told: JSON values."""
        return {
            "path": path,
            "recipe": run.recipe.to_json(),
            "device": device,
            "precision": self.precision,
            "threads": self.threads,
            "tolerances": list(self.tolerances),
            "fingerprint": self.fingerprint(run),
            "version": self.version,
        }

    def to_json(self) -> dict[str, Any]:
        """Return the object that `from_json` reads."""
        runs = [{"id": run.id, "recipe": run.recipe.to_json()} for run in self.runs]
        return {**vars(self), "varied": list(map(key_of, self.varied)), "runs": runs}

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "Plan":
        """Return the plan that `to_json` wrote.

        Raises:
            ToytaskError: the plan is of another version of toytask, or a value is not valid.
        """
        if values.get("version") != __version__:
            version = short_repr(values.get("version"))
            raise ToytaskError(f"a study of toytask {version}, and this is {__version__}")
        try:
            runs = tuple(map(_read_run, values["runs"]))
            names = {key_of(f.name): f.name for f in fields(Recipe)}
            plan = cls(
                runs=runs,
                varied=tuple(names[key] for key in values["varied"]),
                tolerances=tuple(map(float, values["tolerances"])),
                precision=str(values["precision"]),
                threads=int(values["threads"]),
            )
        except (KeyError, TypeError, ValueError) as error:
            raise ToytaskError("not a study's plan") from error
        if plan.precision not in PRECISIONS or plan.threads < 1:
            raise ToytaskError("its precision or number of threads is not valid")
        if not runs or len({run.id for run in runs}) < len(runs):
            raise ToytaskError("no run, or two of one name")
        return plan


def _read_run(values: Mapping[str, Any]) -> PlannedRun:
    if not RUN_ID.fullmatch(values["id"]):
        raise ToytaskError(f"{short_repr(values['id'])} is no name of a run")
    return PlannedRun(values["id"], Recipe.from_json(object_at(values, "recipe"), values["id"]))


def cross(
    preset: str,
    layers: Sequence[Fields],
    vary: Mapping[str, list[Any]],
    seeds: list[int] | None = None,
    split_seeds: list[int] | None = None,
    folds: int | None = None,
) -> tuple[PlannedRun, ...]:
    """Return one run for each combination of values, seeds, split seeds and folds.

    Args:
        preset: of `resolve`, as are the layers of field values over it.
        vary: field name → its values.
        seeds: None for the one of preset and layers.
        split_seeds: None to split by each run's own seed, as `toytask train` does.
        folds: number of folds. Without split seeds they are folds of one split, so that all seeds
            are measured on the same ones.

    Raises:
        UsageError: too many runs, or a recipe that is not valid.
    """
    first = resolve(preset, *layers, {name: values[0] for name, values in vary.items()})
    if folds and split_seeds is None:
        split_seeds = [first.split_seed]
    split_by = fold_names(folds) if folds else None
    axes = {**vary, "split_by": split_by, "split_seed": split_seeds, "seed": seeds or [first.seed]}
    given = {name: values for name, values in axes.items() if values is not None}
    n_runs = math.prod(map(len, given.values()))
    if n_runs > MAX_RUNS:
        raise UsageError(f"the study would have {n_runs:,} runs: {MAX_RUNS:,} at most")
    chosen = (dict(zip(given, values, strict=True)) for values in product(*given.values()))
    return tuple(PlannedRun(_id_of(each), _resolve(preset, *layers, each)) for each in chosen)


def _resolve(preset: str, *layers: Fields) -> Recipe:
    """Return the recipe; refuse a field that only another kind of SAE has.

    Layers below the one that sets the kind may be made for another.
    """
    recipe = resolve(preset, *layers)
    first = max((i for i, layer in enumerate(layers) if "sae" in layer), default=0)
    recipe.check_settings(name for layer in layers[first:] for name in layer)
    return recipe


def _id_of(values: Fields) -> str:
    """Return the name of a run: `lambda-0.001-split-3-seed-0`, `fold-1-of-5-split-0-seed-0`."""
    labels = {name: f"{key_of(name)}-" for name in values} | {
        "split_seed": "split-",
        "split_by": "",
    }
    return "-".join(
        labels[name] + ("+".join(value) if isinstance(value, tuple) else str(value))
        for name, value in values.items()
    )


def parse_numbers(name: str, text: str) -> list[int]:
    """Return the numbers of a list of numbers and ranges: `0-2,7` → 0, 1, 2, 7.

    Raises:
        UsageError: it is no such list, or a range runs backwards or is too long.
    """
    numbers: list[int] = []
    for piece in text.split(","):
        match = re.fullmatch(r"\s*(\d{1,19})(?:-(\d{1,19}))?\s*", piece)
        if not match:
            raise UsageError(f"{name} is {short_repr(text)}: must be numbers, such as 0-9 or 0,3,7")
        first, last = int(match[1]), int(match[2] or match[1])
        if last < first:
            raise UsageError(f"{name}: the range {piece.strip()} runs backwards")
        if last - first >= MAX_RUNS:
            raise UsageError(
                f"{name}: the range {piece.strip()} is too long ({MAX_RUNS:,} at most)"
            )
        numbers += range(first, last + 1)
    return list(dict.fromkeys(numbers))


def parse_vary(texts: Iterable[str]) -> dict[str, list[Any]]:
    """Return field name → values from texts such as `lambda=0,0.01` and `tasks=sum+max,sum+diff`.

    Raises:
        UsageError: an unknown field, one that cannot vary, or a value that is none of the field's.
    """
    by_key = {key_of(f.name): f for f in fields(Recipe)}
    vary: dict[str, list[Any]] = {}
    for text in texts:
        key, _, values = text.partition("=")
        key = key.strip().replace("-", "_")
        if key in ("seed", "split_seed"):
            raise UsageError(f"{key} does not go with --vary: use --{key.replace('_', '-')}s")
        if key not in by_key:
            raise unknown_choice("field", key, by_key)
        field = by_key[key]
        parsed = [_parse_value(key, field.type, value.strip()) for value in values.split(",")]
        vary[field.name] = list(dict.fromkeys(parsed))
    return vary


def _parse_value(key: str, kind: Any, text: str) -> Any:
    if kind == tuple[str, ...]:
        return tuple(text.split("+"))
    try:
        return kind(text)
    except ValueError:
        noun = "a whole number" if kind is int else "a number"
        raise UsageError(f"{key} cannot be {short_repr(text)}: must be {noun}") from None
