"""Options and arguments that several commands share."""

import inspect
from collections.abc import Callable, Iterable
from dataclasses import Field, fields
from functools import wraps
from pathlib import Path
from typing import Annotated, Any

import typer

from toytask_cli.cli.completion import one_of, run_directory, some_of
from toytask_cli.device import DEVICES, PRECISIONS
from toytask_cli.recipe import PRESETS, DataSpec, choices_of, option_of

RunArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[RUN]",
        help="Run directory. Default: the newest under runs/, else the reference.",
        autocompletion=run_directory,
    ),
]
DeviceOption = Annotated[
    str, typer.Option(help="auto, cpu, cuda or mps.", autocompletion=one_of(DEVICES))
]
JsonOption = Annotated[bool, typer.Option("--json", help="Print the report alone, as JSON.")]
PresetOption = Annotated[
    str,
    typer.Option(help="Recipe to start from: default or article.", autocompletion=one_of(PRESETS)),
]
RecipeOption = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE.json",
        help="Recipe fields that win over the preset; or a run's config.json; or - for standard "
        "input.",
    ),
]
PrecisionOption = Annotated[
    str, typer.Option(help="auto, float32 or bfloat16.", autocompletion=one_of(PRECISIONS))
]
FiguresOption = Annotated[bool, typer.Option("--figures/--no-figures", help="Draw the figures.")]
SeedOption = Annotated[int, typer.Option(min=0, help="Seed of every random draw.")]


def split_names(text: str) -> tuple[str, ...]:
    """Split at commas: `sum, concat` → ("sum", "concat")."""
    return tuple(name.strip() for name in text.split(","))


def split_all(texts: Iterable[str] | None) -> list[str]:
    """Split every value of an option that may be repeated: `a,b`, `c` → ["a", "b", "c"]."""
    return [name for text in texts or () for name in split_names(text)]


def with_fields_of(kind: type[DataSpec]) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """Give a command one option for each field of a configuration.

    The command receives the options that were typed, by field name, as its argument `overrides`.
    A field's help is written in the configuration, so a new field is a new option and nothing else.
    """

    def decorate(command: Callable[..., None]) -> Callable[..., None]:
        @wraps(command)
        def wrapped(**values: Any) -> None:
            options = {field.name: values.pop(field.name) for field in fields(kind)}
            overrides = {name: value for name, value in options.items() if value is not None}
            command(overrides=overrides, **values)

        signature = inspect.signature(command)
        own = [p for name, p in signature.parameters.items() if name != "overrides"]
        options = [_option(f) for f in fields(kind)]
        wrapped.__signature__ = signature.replace(parameters=own + options)  # type: ignore[attr-defined]
        return wrapped

    return decorate


def _option(field: Field[Any]) -> inspect.Parameter:
    """Return a field's option; its default is None, so that presets and files can decide."""
    name, choices = field.name, choices_of(field.name)
    kind: Any = field.type
    is_names = kind == tuple[str, ...]
    default: Any = field.default
    shown = ",".join(default) if is_names else default
    hint = "" if name == "split_seed" else f" [dim]\\[default: {shown}][/]"
    complete = some_of if is_names else one_of
    option = typer.Option(
        option_of(name),
        help=field.metadata["help"] + hint,
        autocompletion=complete(choices) if choices else None,
        show_default=False,
        metavar="NAMES" if is_names else None,
        parser=split_names if is_names else None,
        rich_help_panel="Recipe",
    )
    annotation: Any = Annotated[Any if is_names else kind | None, option]
    keyword = inspect.Parameter.KEYWORD_ONLY
    return inspect.Parameter(name, keyword, default=None, annotation=annotation)
