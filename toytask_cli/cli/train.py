"""`toytask train`: learn the tasks and separate them, in a new run directory."""

from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.common import Report, write_figures
from toytask_cli.cli.completion import run_directory
from toytask_cli.cli.console import (
    interval,
    percent,
    print_json,
    print_message,
    print_next,
    print_result,
    print_table,
)
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    PrecisionOption,
    PresetOption,
    RecipeOption,
    with_fields_of,
)
from toytask_cli.cli.recipe_layers import resolve_layers
from toytask_cli.errors import UsageError
from toytask_cli.recipe import Recipe, option_of

if TYPE_CHECKING:
    import torch

    from toytask_cli.runs.run import Run
    from toytask_cli.runs.session import Session


@with_fields_of(Recipe)
def train(
    preset: PresetOption = "default",
    recipe: RecipeOption = None,
    data: Annotated[
        Path | None, typer.Option(metavar="DIR", help="Data written by `toytask data --out DIR`.")
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="New run directory. Default: the next under runs/."
        ),
    ] = None,
    resume: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="Go on with an interrupted run; takes --epochs.",
            autocompletion=run_directory,
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Train a model and its sparse autoencoder, and measure them on unseen examples.

    Options win over --recipe, and that over --preset.

    Example: toytask train --device cuda --seed 1
    """
    from toytask_cli.device import find_device, find_precision
    from toytask_cli.runs.run import Run
    from toytask_cli.runs.session import Session

    torch_device = find_device(device)
    if resume is not None:
        others = {"recipe": recipe, "data": data, "out": out_dir}
        changed = {"preset": preset != "default", "precision": precision != "auto"}
        _refuse_beside_resume(overrides, {**others, **changed})
        run = Run.open(resume)
        session = _resume(run, overrides.get("epochs"), torch_device)
        if session is None or session.is_finished:
            _show_finished(run, figures, json)
            return
    else:
        full = resolve_layers(preset, recipe, data, overrides)
        dtype = find_precision(precision, torch_device)
        session = Session.start(full, torch_device, dtype, out_dir)
    train_session(session, figures, json)


def follow_training(session: "Session") -> tuple[Report, int]:
    """Train to the end or until a signal, and show the progress.

    Returns:
        The report, and the exit code that the signal asks for; 0 if none came.
    """
    from toytask_cli.cli.signals import stop_on_signal
    from toytask_cli.cli.train_display import TrainDisplay, wants_live

    _print_start(session)
    with (
        TrainDisplay(session.trainer, _labels(), live=wants_live()) as display,
        stop_on_signal(print_message) as stop,
    ):
        report = session.train(stop, display.step, display.epoch)
    return report, stop.exit_code if stop() else 0


def train_session(session: "Session", figures: bool, json: bool) -> None:
    """Train to the end or until a signal; print the report, and the command that comes next."""
    report, exit_code = follow_training(session)
    is_interrupted = report["status"] == "interrupted"
    try:
        _show_trained(session, report, is_interrupted, json)
    finally:  # even if nobody reads stdout any more; last, so that a failure hides nothing
        if figures and "validation" in report:
            write_figures(session.run, partial(_figures, session.run))
        if is_interrupted:
            raise typer.Exit(exit_code)


def _show_trained(session: "Session", report: Report, is_interrupted: bool, json: bool) -> None:
    """Print what a training has reached, and the command that comes next."""
    is_measured = "validation" in report
    if is_interrupted:
        kept = (
            "the best weights are kept" if is_measured else "no weights yet: nothing was validated"
        )
        print_message(f"interrupted after epoch {report['epochs']}; {kept}")
    if json:
        print_json(report)
    elif is_measured:
        _print_report(session, report)
    after = ["attack"] if session.run.config.teacher else ["eval"]
    print_next(*(["train", "--resume"] if is_interrupted else after), session.run.path)


def _refuse_beside_resume(overrides: dict[str, Any], others: dict[str, Any]) -> None:
    names = [*(overrides.keys() - {"epochs"}), *(name for name, value in others.items() if value)]
    if names:
        option = option_of(min(names))
        raise UsageError(f"--resume takes the run's own recipe: leave out {option}")


def _resume(run: "Run", epochs: int | None, device: "torch.device") -> "Session | None":
    """Return the training at its last checkpoint; print what a new limit of epochs changes.

    A finished run is whole without its checkpoint: then return None.
    """
    from toytask_cli.runs.session import Session, says_finished

    if not run.checkpoint_file.exists() and says_finished(run):
        if epochs is not None:
            raise UsageError(
                f"{run.path} has finished, and has no checkpoint to go on from: train anew with "
                "--epochs"
            )
        return None
    before = run.config.recipe.epochs
    session = Session.resume(run, epochs, device)
    recipe = session.run.config.recipe
    if recipe.epochs != before and not session.is_finished:
        last = recipe.epochs - recipe.separate_epochs
        then = f", and {recipe.separate_epochs} of separating follow" * bool(recipe.separate_epochs)
        print_message(
            f"epochs {before} → {recipe.epochs}: learning goes on at the same rate until epoch "
            f"{last} at the latest{then}"
        )
    return session


def _print_start(session: "Session") -> None:
    """Print what is trained, and on what; device and threads can change when a run is resumed."""
    from torch import get_num_threads

    config, device = session.run.config, session.trainer.device.type
    print_message(
        f"{session.run.path}: {', '.join(config.taught or config.recipe.tasks)}, seed "
        f"{config.recipe.seed}, {device}, {config.precision}, {get_num_threads()} threads"
    )
    if teacher := config.teacher:
        taught = f"what {teacher.run} writes with {teacher.ablation}"
        print_message(f"it learns {taught}; its accuracy while it trains is agreement with that")
    if config.recipe.separate_epochs >= config.recipe.epochs:
        print_message(
            "every epoch is one of separating, none of learning: is --separate-epochs meant to be "
            f"{config.recipe.separate_epochs}, with {config.recipe.epochs} --epochs?",
            style="yellow",
        )


def _show_finished(run: "Run", figures: bool, json: bool) -> None:
    """Say that there is nothing to train; draw the figures that an earlier end left out."""
    report = run.read_report("train")
    if json:
        print_json(run.complete_report(report))
    print_message(f"{run.path} has finished after {report.get('epochs')} epochs: nothing to do")
    print_next("eval", run.path)
    if figures and not run.has_figure("accuracy"):
        write_figures(run, partial(_figures, run))


def _figures(run: "Run") -> dict[str, Any]:
    from toytask_cli.figures.training import draw_losses, draw_metrics

    metrics, labels = run.read_metrics(), _labels()
    return {"losses": draw_losses(metrics, labels), "accuracy": draw_metrics(metrics, labels)}


def _labels() -> dict[str, str]:
    """Return name → label of every loss term and every metric of an epoch."""
    from toytask_cli.objective import LOSS_TERMS
    from toytask_cli.training.validation import EPOCH_METRICS

    return {name: metric.label for name, metric in (LOSS_TERMS | EPOCH_METRICS).items()}


def _print_report(session: "Session", report: Report) -> None:
    from toytask_cli.cli.train_display import in_one_line

    split = report["split"]
    rows = []
    for name, task in report["tasks"].items():
        accuracy = percent(task["accuracy"]), interval(task["ci95"])
        rows.append([name, *accuracy, f"{task['n']:,}", f"{task['ce_loss']:.4f}"])
    headings = ["task", f"{split} accuracy", "95 % interval", "n", "CE loss (nats)"]
    print_table(headings, rows)
    print_result(
        f"{report['epochs']} epochs in {report['seconds']:.0f} s; best weights from epoch "
        f"{report['best_epoch']}, on validation: {in_one_line(report['validation'])}; "
        f"d_sae {session.run.config.recipe.d_sae}"
    )
