"""The recipe of a training: options over data over a recipe file over a preset."""

import sys
from pathlib import Path
from typing import Any

from toytask_cli.errors import UsageError
from toytask_cli.recipe import Recipe, checked_values, option_of, resolve
from toytask_cli.runs import files


def resolve_layers(
    preset: str, recipe: Path | None, data: Path | None, overrides: dict[str, Any]
) -> Recipe:
    """Return the recipe: options beat data, data beats the recipe file, and that the preset."""
    layers = []
    if recipe is not None:
        layers.append(read_recipe(recipe))
    if data is not None:
        from toytask_cli.runs.data_files import read_spec

        spec = vars(read_spec(data))
        for name in overrides.keys() & spec.keys():
            if overrides[name] != spec[name]:
                option = option_of(name)
                raise UsageError(f"{option} is settled by {data}: leave it out, or --data")
        layers.append(spec)
    full = resolve(preset, *layers, overrides)
    # A recipe file can hold the settings of the kind of SAE that --sae replaces.
    for layer in [overrides] if "sae" in overrides else [*layers, overrides]:
        full.check_settings(layer)
    return full


def read_recipe(path: Path) -> dict[str, Any]:
    """Return the fields of a recipe file, or of standard input for `-`."""
    is_stdin = str(path) == "-"
    source = "standard input" if is_stdin else str(path)
    with files.reading(source, "correct it, or name another file"):
        values = (
            files.parse_object(sys.stdin.buffer.read(files.MAX_JSON_BYTES))
            if is_stdin
            else files.read_object(path)
        )
    # A run's config.json holds its recipe beside what it was trained on.
    values = values["recipe"] if isinstance(values.get("recipe"), dict) else values
    return checked_values(Recipe, values, source)
