"""`toytask study`: many runs by one plan, here or on a cluster, and what they say together."""

from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Any, NamedTuple

import typer

from toytask_cli.cli.common import Report, write_figures
from toytask_cli.cli.console import print_json, print_message, print_next, print_result
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    PrecisionOption,
    PresetOption,
    RecipeOption,
    with_fields_of,
)
from toytask_cli.cli.study_options import (
    ClusterOption,
    DryRunOption,
    ExtendOption,
    FoldsOption,
    JobsOption,
    OutOption,
    PlanOptions,
    SeedsOption,
    SplitSeedsOption,
    StudyArgument,
    TolerancesOption,
    VaryOption,
    n_jobs,
    n_threads,
    precision_of,
)
from toytask_cli.cli.study_view import duration, print_study
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.recipe import Recipe

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toytask_cli.runs.study_directory import StudyDirectory
    from toytask_cli.studies.plan import Plan
    from toytask_cli.studies.workers import Workers

STOPPING = "ending the runs in training; Ctrl-C again leaves at once"


class Place(NamedTuple):
    """Where runs are trained."""

    device: str
    jobs: int | None
    cluster: str | None

    def options(self) -> list[object]:
        """Return the options that ask for the same again."""
        named = {"device": self.device, "jobs": self.jobs, "cluster": self.cluster}
        given = {name: value for name, value in named.items() if value not in (None, "auto")}
        return [word for name, value in given.items() for word in (f"--{name}", value)]

    def n_jobs(self, threads: int) -> int:
        """Return how many runs are trained at a time on this machine."""
        from toytask_cli.device import find_device

        return self.jobs or n_jobs(threads, find_device(self.device))

    def check(self) -> None:
        """Raise a ToytaskError unless runs can be trained there."""
        with self.workers(threads=1):
            pass

    def workers(self, threads: int) -> "AbstractContextManager[Workers]":
        """Return what trains the runs."""
        from toytask_cli.studies.workers import cluster_workers, local_workers

        if self.cluster is not None:
            return cluster_workers(self.cluster)
        return local_workers(self.n_jobs(threads))


@with_fields_of(Recipe)
def study(
    study: StudyArgument = None,
    seeds: SeedsOption = None,
    split_seeds: SplitSeedsOption = None,
    vary: VaryOption = None,
    folds: FoldsOption = None,
    tolerance: TolerancesOption = None,
    preset: PresetOption = "default",
    recipe: RecipeOption = None,
    out_dir: OutOption = None,
    extend: ExtendOption = False,
    dry_run: DryRunOption = False,
    jobs: JobsOption = None,
    cluster: ClusterOption = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Train and measure many runs: all combinations of values, seeds, split seeds and folds.

    The same command, or `toytask study STUDY`, goes on with a study that was interrupted.

    Example: toytask study --vary beta=0,0.1 --seeds 0-9
    """
    from toytask_cli.runs.study_directory import StudyDirectory
    from toytask_cli.studies.open import find_study, read_plan

    place = Place(device, jobs, cluster)
    options = PlanOptions(seeds, split_seeds, vary, folds, tolerance, recipe, preset, overrides)
    directory: StudyDirectory | None
    if study is not None:
        others = {"out": out_dir, "extend": extend, "precision": precision != "auto"}
        options.refuse_beside(study, others)
        directory = StudyDirectory(study)
        plan = read_plan(directory)
    elif extend and out_dir is None:
        raise UsageError("--extend needs --out: name the study to add runs to")
    else:
        asked = options.plan(precision_of(precision, device, cluster is not None), n_threads(jobs))
        plan, directory = find_study(asked, out_dir, extend)
    if dry_run:
        _print_estimate(plan, directory, place)
        return
    if directory is None:
        place.check()  # before anything is written
        directory = StudyDirectory.create(out_dir, plan.to_json())
    with directory.locked():
        if extend:
            directory.write_plan(plan.to_json())
        _run(plan, directory, place, figures, json)


def _run(
    plan: "Plan", directory: "StudyDirectory", place: Place, figures: bool, json: bool
) -> None:
    """Train what is left, until a signal; write and print the report."""
    from toytask_cli.studies.drive import read_finished
    from toytask_cli.studies.report import build_report

    failed, signal_code = _train(plan, directory, place)
    finished = read_finished(plan, directory)
    report = directory.write_report(build_report(plan, directory.path, finished, failed))
    if json:
        print_json(report)
    else:
        print_study(report)
    if len(finished) < len(plan.runs):
        print_next("study", directory.path, *place.options())
    else:
        print_next("eval", _worst_run(report))
    if figures and finished:
        write_figures(directory, lambda: _figures(report))
    if signal_code or failed:
        raise typer.Exit(signal_code or 1)


def _train(plan: "Plan", directory: "StudyDirectory", place: Place) -> tuple[dict[str, str], int]:
    """Train what is left; return run id → reason of those that failed, and a signal's exit code."""
    from toytask_cli.cli.signals import stop_on_signal
    from toytask_cli.cli.study_display import StudyDisplay
    from toytask_cli.cli.train_display import wants_live
    from toytask_cli.runs.files import WriteError
    from toytask_cli.studies.drive import drive, read_finished

    finished = read_finished(plan, directory)
    left = [run for run in plan.runs if run.id not in finished]
    print_message(
        f"{directory.path}: {len(plan.runs)} runs, {len(finished)} finished, {len(left)} to train, "
        f"{plan.precision}, {plan.threads} thread{'s' * (plan.threads > 1)} each"
    )
    if not left:
        return {}, 0
    with (
        place.workers(plan.threads) as workers,
        StudyDisplay(plan, finished, live=wants_live()) as display,
        stop_on_signal(lambda _: print_message(STOPPING)) as stop,
    ):
        try:
            failed = drive(
                plan, directory, left, workers, device=place.device, observer=display, stop=stop
            )
        except WriteError as error:
            again = f"then go on with `toytask study {directory.shell_path}`"
            raise ToytaskError(f"{error}, {again}") from error
        return failed, stop.exit_code if stop() else 0


def _worst_run(report: Report) -> str:
    """Return the path of the run with the lowest accuracy of any task."""
    return min(report["runs"], key=lambda run: _lowest_accuracy(run["values"]))["path"]


def _lowest_accuracy(values: dict[str, float]) -> float:
    return min(value for name, value in values.items() if name.startswith("accuracy."))


def _print_estimate(plan: "Plan", directory: "StudyDirectory | None", place: Place) -> None:
    """Print how many runs are left, how long they take at most, and how much disk."""
    import torch

    from toytask_cli.device import find_device
    from toytask_cli.studies.drive import read_finished
    from toytask_cli.studies.estimate import estimate_bytes, estimate_seconds

    finished = read_finished(plan, directory) if directory else {}
    recipes = [run.recipe for run in plan.runs if run.id not in finished]
    torch.set_num_threads(plan.threads)
    device = find_device("auto" if place.cluster else place.device)
    seconds = estimate_seconds(recipes, device, getattr(torch, plan.precision))
    jobs = place.n_jobs(plan.threads)
    print_result(
        f"{len(plan.runs)} runs, {len(finished)} finished, {len(recipes)} to train: about "
        f"{duration(seconds / jobs)} of training at most, {jobs} at a time here; "
        f"{estimate_bytes(recipes) / 1e6:,.0f} MB of disk"
    )


def _figures(report: Report) -> "dict[str, Figure]":
    from toytask_cli.figures.study import study_figures

    return study_figures(report)
