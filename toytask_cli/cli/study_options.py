"""Read the options of `toytask study`: the plan they ask for, and how many runs at a time."""

import math
import os
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NamedTuple

import typer

from toytask_cli.cli.completion import study_directory
from toytask_cli.cli.recipe_layers import read_recipe
from toytask_cli.device import cores_of_quota
from toytask_cli.errors import UsageError
from toytask_cli.recipe import option_of

if TYPE_CHECKING:
    import torch

    from toytask_cli.studies.plan import Plan

TOLERANCE = 0.1  # nats

StudyArgument = Annotated[
    Path | None,
    typer.Argument(
        metavar="[STUDY]",
        help="Study to go on with, by its own plan.",
        autocompletion=study_directory,
    ),
]
SeedsOption = Annotated[
    str | None, typer.Option(metavar="LIST", help="Seeds, such as 0-9 or 0,3,7.")
]
SplitSeedsOption = Annotated[
    str | None,
    typer.Option(metavar="LIST", help="Split seeds, each with every seed. Default: the seed."),
]
VaryOption = Annotated[
    list[str] | None,
    typer.Option(
        metavar="FIELD=A,B",
        help="Values of a field of the recipe; repeat it to cross several. Tasks are joined by +.",
    ),
]
FoldsOption = Annotated[
    int | None, typer.Option(min=2, help="Test each of so many disjoint parts of the pairs.")
]
TolerancesOption = Annotated[
    list[float] | None,
    typer.Option(help=f"Of the removals, in nats; may be repeated. Default: {TOLERANCE}."),
]
OutOption = Annotated[
    Path | None,
    typer.Option("--out", metavar="DIR", help="Study's directory. Default: runs/study-01, …"),
]
ExtendOption = Annotated[
    bool, typer.Option("--extend", help="Add the runs that the study at --out lacks.")
]
DryRunOption = Annotated[
    bool, typer.Option("--dry-run", help="Say how many runs, how long and how much disk.")
]
JobsOption = Annotated[
    int | None,
    typer.Option(min=1, help="Runs at a time. Default: one for each core, on one thread."),
]
ClusterOption = Annotated[
    str | None,
    typer.Option(metavar="ADDRESS", help="Train on the Dask cluster of this scheduler."),
]


class PlanOptions(NamedTuple):
    """The options that make a plan, as they were typed."""

    seeds: str | None
    split_seeds: str | None
    vary: list[str] | None
    folds: int | None
    tolerance: list[float] | None
    recipe: Path | None
    preset: str
    overrides: dict[str, Any]

    def refuse_beside(self, study: Path, others: Mapping[str, Any]) -> None:
        """Raise a UsageError if any of these or others was typed: a study has its own plan."""
        typed = {**self._asdict(), **others, **self.overrides, "overrides": None}
        typed["preset"] = self.preset != "default"
        names = [n for n, value in typed.items() if value is not None and value is not False]
        if names:
            raise UsageError(
                f"{study} has its own plan: leave out {option_of(min(names))}; or, to add runs, "
                f"give the whole command with --out {study} --extend"
            )

    def plan(self, precision: str, threads: int) -> "Plan":
        """Return the plan that they ask for.

        Raises:
            UsageError: they contradict each other, or a value is not valid.
        """
        from toytask_cli.studies.plan import Plan, cross, parse_numbers, parse_vary

        vary = parse_vary(self.vary or [])
        self._check(vary)
        seeds, split_seeds = (
            None if text is None else parse_numbers(name, text)
            for name, text in (("seeds", self.seeds), ("split_seeds", self.split_seeds))
        )
        layers = [read_recipe(self.recipe)] if self.recipe else []
        runs = cross(self.preset, [*layers, self.overrides], vary, seeds, split_seeds, self.folds)
        tolerances = tuple(dict.fromkeys(self.tolerance or [TOLERANCE]))
        return Plan(runs, tuple(vary), tolerances, precision, threads)

    def _check(self, vary: Mapping[str, Any]) -> None:
        """Raise a UsageError for a field that is given twice, or a tolerance that is none."""
        for tolerance in self.tolerance or []:
            if not 0 <= tolerance < math.inf:
                raise UsageError(f"tolerance is {tolerance}: must be 0 or more")
        several = {"seed": self.seeds, "split_seed": self.split_seeds, "split_by": self.folds}
        given = [name for name, value in several.items() if value is not None]
        for name in [*given, *vary]:
            if name in self.overrides:
                raise UsageError(f"{option_of(name)} is given twice, once with several values")
        if "split_by" in vary and self.folds:
            raise UsageError("--folds settles how pairs are split: leave out --vary split_by")


def n_threads(jobs: int | None) -> int:
    """Return the threads of each run: OMP_NUM_THREADS, else its share of the cores, else 1."""
    wanted = os.environ.get("OMP_NUM_THREADS", "")
    if wanted.isdecimal() and int(wanted):
        return int(wanted)
    return max(1, n_cores() // jobs) if jobs else 1


def n_jobs(threads: int, device: "torch.device") -> int:
    """Return how many runs to train at a time: as many as the cores allow, or one on a GPU."""
    return max(1, n_cores() // threads) if device.type == "cpu" else 1


def n_cores() -> int:
    """Return the number of cores that this process may use."""
    has_affinity = hasattr(os, "sched_getaffinity")
    cores = len(os.sched_getaffinity(0)) if has_affinity else os.cpu_count() or 1
    return min(cores, cores_of_quota() or cores)


def precision_of(name: str, device: str, on_cluster: bool) -> str:
    """Return the precision of every run; `auto` asks this machine, but for a cluster's GPUs."""
    from toytask_cli.device import find_device, find_precision

    if on_cluster and name == "auto" and device == "cuda":
        return "bfloat16"
    precision = find_precision(name, find_device("cpu" if on_cluster else device))
    return str(precision).removeprefix("torch.")
