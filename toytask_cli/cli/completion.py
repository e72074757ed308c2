"""Complete values in the shell; whatever is needed for it is read without PyTorch."""

from collections.abc import Callable, Iterable
from pathlib import Path

import typer

from toytask_cli.errors import ToytaskError
from toytask_cli.recipe import Recipe
from toytask_cli.runs import files, paths


def one_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the completion of one of these names."""

    def complete(incomplete: str) -> list[str]:
        return [name for name in names if name.startswith(incomplete)]

    return complete


def some_of(names: Iterable[str]) -> Callable[[str], list[str]]:
    """Return the completion of several of these names, separated by commas."""

    def complete(incomplete: str) -> list[str]:
        return _complete_last(names, incomplete)

    return complete


def run_directory(incomplete: str) -> list[str]:
    """Complete a run under `runs/`; the shell completes any other path."""
    runs = (run for run in paths.known_runs() if paths.as_typed(run) == str(run))
    return [str(run) for run in runs if str(run).startswith(incomplete)]


def study_directory(incomplete: str) -> list[str]:
    """Complete a numbered study under `runs/`."""
    studies = paths.numbered(paths.RUNS, paths.STUDY_PREFIX).values()
    return [str(path) for path in sorted(studies) if str(path).startswith(incomplete)]


def run_or_study_directory(incomplete: str) -> list[str]:
    """Complete a run under `runs/` or a numbered study."""
    return [*run_directory(incomplete), *study_directory(incomplete)]


def task_of_run(context: typer.Context, incomplete: str) -> list[str]:
    """Complete tasks of the run on the command line, or of the default one."""
    try:
        config = files.read_json(_run_of(context) / paths.CONFIG)
        recipe = Recipe.from_json(files.object_at(config, "recipe"), "recipe")
    except (ToytaskError, OSError):
        return []
    return _complete_last(recipe.tasks, incomplete)


def ablation_of_run(context: typer.Context, incomplete: str) -> list[str]:
    """Complete an ablation of the run on the command line, or of the default one."""
    try:
        return _complete_last(paths.ablation_names(_run_of(context)), incomplete)
    except (ToytaskError, OSError):
        return []


def _run_of(context: typer.Context) -> Path:
    """Return the run on the command line, or the default one."""
    assert context.parent is not None
    # Parsing ended at the option whose value is missing, before any argument: give it a value.
    words = [*context.parent.args, "value"]
    complete = context.command.make_context(context.info_name, words, resilient_parsing=True)
    run = complete.params.get("run")
    return paths.newest() if run is None else Path(run)


def _complete_last(names: Iterable[str], incomplete: str) -> list[str]:
    """Complete the last name of a list, with one that is not in it yet."""
    *given, last = incomplete.split(",")
    rest = (name for name in names if name not in given and name.startswith(last))
    return [",".join([*given, name]) for name in rest]
