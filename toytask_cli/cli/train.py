"""`toytask train`: learns the tasks and separates them, into a new run directory."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.console import (
    err,
    interval,
    out,
    percent,
    plain_table,
    print_json,
    say,
    say_next,
)
from toytask_cli.cli.options import DeviceOption, FiguresOption, JsonOption, with_fields_of
from toytask_cli.errors import UsageError
from toytask_cli.recipe import Recipe, checked_values, option_of, resolve

if TYPE_CHECKING:
    from toytask_cli.runs.session import Session


@with_fields_of(Recipe)
def train(
    preset: Annotated[str, typer.Option(help="Recipe to start from: default or article.")] = (
        "default"
    ),
    recipe: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE.json",
            help="Recipe fields that win over the preset; or a run's config.json.",
        ),
    ] = None,
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
        typer.Option(metavar="RUN", help="Go on with an interrupted run; takes --epochs."),
    ] = None,
    device: DeviceOption = "auto",
    precision: Annotated[str, typer.Option(help="auto, float32 or bfloat16.")] = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
    *,
    given: dict[str, Any],
) -> None:
    """Train a model and its sparse autoencoder, and measure them on unseen examples.

    What is given here wins over --recipe, and that over --preset.

    Example: toytask train --device cuda --seed 1
    """
    from toytask_cli.cli.signals import stop_on_signal
    from toytask_cli.cli.train_display import TrainDisplay, wants_live
    from toytask_cli.device import find_device, find_precision
    from toytask_cli.runs.run import Run
    from toytask_cli.runs.session import Session

    place = find_device(device)
    if resume is not None:
        others = {"recipe": recipe, "data": data, "out": out_dir}
        chosen = {"preset": preset != "default", "precision": precision != "auto"}
        _refuse_beside_resume(given, {**others, **chosen})
        opened = Run.open(resume)
        limit = opened.config.recipe.epochs
        session = Session.resume(opened, given.get("epochs"), place)
        if session.is_finished:
            _say_finished(session, json)
            if figures and not session.run.has_figure("accuracy"):  # ended before it was drawn
                _draw(session)
            return
        _say_new_limit(limit, session.run.config.recipe)
    else:
        full = _resolve(preset, recipe, data, given)
        session = Session.start(full, place, find_precision(precision, place), out_dir)
    _say_what_begins(session)
    with (
        TrainDisplay(session.trainer, live=wants_live()) as display,
        stop_on_signal(lambda text: err().print(text)) as stop,
    ):
        report = session.train(stop, display.step, display.epoch)
    measured = "validation" in report
    if json:
        print_json(report)
    elif measured:
        _print_summary(session, report)
    interrupted = report["status"] == "interrupted"
    if interrupted:
        kept = "the best weights are kept" if measured else "no weights yet: nothing was validated"
        err().print(f"interrupted after epoch {report['epochs']}; {kept}", soft_wrap=True)
        say_next("train", "--resume", session.run.path)
    else:
        say_next("eval", session.run.path)
    if figures and measured:  # last: by now all that has to be known is said
        _draw(session)
    if interrupted:
        raise typer.Exit(stop.exit_code)


def _resolve(preset: str, recipe: Path | None, data: Path | None, given: dict[str, Any]) -> Recipe:
    """Command line beats data beats recipe file beats preset."""
    layers = []
    if recipe is not None:
        from toytask_cli.runs import files

        with files.reading(recipe, "name a JSON file"):
            values = files.read_object(recipe)
        # A run's config.json holds its recipe beside what it was trained on.
        values = values["recipe"] if isinstance(values.get("recipe"), dict) else values
        layers.append(checked_values(Recipe, values, str(recipe)))
    if data is not None:
        from toytask_cli.runs.data_files import read_spec

        spec = vars(read_spec(data))
        for name in given.keys() & spec.keys():
            if given[name] != spec[name]:
                option = option_of(name)
                raise UsageError(f"{option} is settled by {data}: leave it out, or --data")
        layers.append(spec)
    return resolve(preset, *layers, given)


def _refuse_beside_resume(given: dict[str, Any], others: dict[str, Any]) -> None:
    named = [*(given.keys() - {"epochs"}), *(name for name, value in others.items() if value)]
    if named:
        option = option_of(min(named))
        raise UsageError(f"--resume takes the run's own recipe: leave out {option}")


def _say_what_begins(session: "Session") -> None:
    """Device and threads are those of this sitting, which need not be those of the first."""
    from torch import get_num_threads

    config, device = session.run.config, session.trainer.device.type
    err().print(
        f"{session.run.path}: {', '.join(config.recipe.tasks)}, seed {config.recipe.seed}, "
        f"{device}, {config.precision}, {get_num_threads()} threads",
        soft_wrap=True,
    )
    if config.recipe.separate_epochs >= config.recipe.epochs:
        err().print(
            "every epoch is one of separating, none of learning: is --separate-epochs meant to be "
            f"{config.recipe.separate_epochs}, with {config.recipe.epochs} --epochs?",
            style="yellow", soft_wrap=True,
        )  # fmt: skip


def _say_finished(session: "Session", json: bool) -> None:
    if json:
        print_json(session.run.read_report("train"))
    done, path = session.trainer.progress.epoch, session.run.path
    err().print(f"{path} has finished after {done} epochs: nothing to do", soft_wrap=True)
    say_next("eval", path)


def _say_new_limit(before: int, recipe: Recipe) -> None:
    """What another number of epochs does to the schedule."""
    if recipe.epochs != before:
        last = recipe.epochs - recipe.separate_epochs
        then = f", and {recipe.separate_epochs} of separating follow" * bool(recipe.separate_epochs)
        err().print(
            f"epochs {before} → {recipe.epochs}: learning goes on at the same rate until epoch "
            f"{last} at the latest{then}",
            soft_wrap=True,
        )


def _draw(session: "Session") -> None:
    from toytask_cli.figures.style import png
    from toytask_cli.figures.training import draw_accuracy, draw_losses

    metrics = session.run.read_metrics()
    session.run.write_figure("losses", png(draw_losses(metrics)))
    session.run.write_figure("accuracy", png(draw_accuracy(metrics)))


def _print_summary(session: "Session", report: dict[str, Any]) -> None:
    split = report["split"]
    table = plain_table("task", f"{split} accuracy", "95 % interval", "n", "CE loss (nats)")
    for name, task in report["tasks"].items():
        table.add_row(
            name, percent(task["accuracy"]), interval(task["ci95"]), f"{task['n']:,}",
            f"{task['ce_loss']:.4f}",
        )  # fmt: skip
    out().print(table)
    best = report["validation"]
    say(
        f"{report['epochs']} epochs in {report['seconds']:.0f} s; best weights from epoch "
        f"{report['best_epoch']}: validation loss {best['loss']:.4f}, CE {best['ce']:.4f}, "
        f"l0 {best['l0']:.1f}, dead neurons {best['dead_neurons']} of "
        f"{session.run.config.recipe.d_sae}"
    )
