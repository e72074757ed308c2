"""`toytask attack`: try to bring a removed task back, and say how hard it was."""

from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toytask_cli.cli.attack_view import AttackProgress, StoppedError, print_attack
from toytask_cli.cli.common import (
    OpenRun,
    Report,
    keep_report,
    open_run,
    own_run,
    show_kept,
    write_figures,
)
from toytask_cli.cli.completion import ablation_of_run, run_directory, task_of_run
from toytask_cli.cli.console import print_message, print_next
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    RunArgument,
    SeedOption,
    split_all,
)
from toytask_cli.cli.signals import stop_on_signal
from toytask_cli.cli.train import follow_training

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toytask_cli.analysis.attack import Attack
    from toytask_cli.analysis.generate import Variant
    from toytask_cli.analysis.relearning import Candidate
    from toytask_cli.runs.run import Run


def attack(
    run: RunArgument = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Attack the run with this ablation in place.",
            autocompletion=ablation_of_run,
        ),
    ] = None,
    task: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASKS",
            help="Tasks to bring back, separated by commas. Default: what the ablation removes, or "
            "what the ablation of a distilled run's teacher does.",
            autocompletion=task_of_run,
        ),
    ] = None,
    control: Annotated[
        Path | None,
        typer.Option(
            metavar="RUN",
            help="A run that was taught the kept tasks alone, to compare with. Default: one is "
            "trained, once, and kept in the attacked run.",
            autocompletion=run_directory,
        ),
    ] = None,
    steps: Annotated[
        int, typer.Option(min=1, help="Largest number of steps of a fine-tuning.")
    ] = 1000,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
) -> None:
    """Try to bring a removed task back, as hard as we can: lift the mask, probe, fine-tune.

    The same is done to a control, which is trained by the same recipe and never taught the task.

    Example: toytask attack runs/01 --ablation remove-concat-tol0.1
    """
    from toytask_cli.analysis.generate import Variant
    from toytask_cli.analysis.relearning import Candidate, accuracy_by_task
    from toytask_cli.runs.attacks import accuracy_before, tasks_to_attack

    opened = open_run(run, device)
    tasks = tasks_to_attack(opened.run, opened.grid, ablation, split_all(task))
    whole = Candidate("run", opened.model, Variant())
    lifted = accuracy_by_task(whole, opened.grid)
    before = accuracy_before(opened.run, lifted, tasks)
    opened = opened._replace(run=own_run(opened.run))  # which a control is kept in
    control_run = _open_control(opened, tasks, control, ablation)
    held = whole._replace(variant=_variant(opened, ablation))
    measured = _measure(opened, held, control_run, lifted, before, steps, seed)
    name = "attack" if ablation is None else f"attack-{ablation}"
    settings = {"ablation": ablation, "control": str(control_run.path)}
    kept = keep_report(opened.run, name, {**settings, **asdict(measured)})
    show_kept(kept, json, print_attack, _next_command(opened.run, ablation))
    if figures and not kept.refusal:
        write_figures(opened.run, partial(_figures, name, kept.report))


def _figures(name: str, report: Report) -> "dict[str, Figure]":
    from toytask_cli.figures.attack import draw_attack

    return {f"{name}-relearning": draw_attack(report)}


def _variant(opened: OpenRun, ablation: str | None) -> "Variant":
    from toytask_cli.analysis.generate import Variant

    if ablation is None:
        return Variant()
    return Variant.from_report(opened.run.read_ablation(ablation), opened.model.sae.d_sae)


def _next_command(run: "Run", ablation: str | None) -> tuple[object, ...]:
    if ablation is not None:
        return ("distill", run.path, "--ablation", ablation)
    if teacher := run.config.teacher:
        return ("chat", teacher.run, "--ablation", teacher.ablation, "--beside", run.path)
    return ("chat", run.path)


def _open_control(
    opened: OpenRun, tasks: list[str], given: Path | None, ablation: str | None
) -> "Run":
    """Return the control that is given, or the run's own, which is trained first if needed."""
    from toytask_cli.device import find_precision
    from toytask_cli.runs.attacks import check_control, control_session
    from toytask_cli.runs.run import Run

    kept = [name for name in opened.grid.task_names if name not in tasks]
    if given is not None:
        control = Run.open(given)
        check_control(control, opened.run, kept)
        return control
    device = opened.model.readout.weight.device
    session = control_session(opened.run, kept, device, find_precision("auto", device))
    if not session.is_finished:
        print_message(f"first, a control is taught {', '.join(kept)} alone; it is kept")
        report, exit_code = follow_training(session)
        if exit_code:
            print_message(f"interrupted: the control keeps its {report['epochs']} epochs")
            print_next("attack", opened.run.path, *(["--ablation", ablation] if ablation else []))
            raise typer.Exit(exit_code)
    return session.run


def _measure(
    opened: OpenRun,
    attacked: "Candidate",
    control_run: "Run",
    lifted: dict[str, float],
    before: dict[str, float],
    steps: int,
    seed: int,
) -> "Attack":
    """Attack the run, its control and fresh weights; Ctrl-C leaves everything as it was."""
    from toytask_cli.analysis.attack import attack
    from toytask_cli.analysis.generate import Variant
    from toytask_cli.analysis.relearning import Attacker, Candidate
    from toytask_cli.device import find_precision
    from toytask_cli.model import new_model

    grid, recipe, device = opened.grid, opened.run.config.recipe, opened.model.readout.weight.device
    fresh = new_model(recipe, len(grid.tokenizer)).to(device)
    control = Candidate("control", control_run.model(grid, device), Variant())
    tasks = [grid.task_names.index(name) for name in before]
    try:
        with stop_on_signal(print_message) as stop, AttackProgress(stop) as progress:
            attacker = Attacker(
                recipe, find_precision("auto", device), grid, tasks, steps, seed,
                progress.begin, progress.step,
            )  # fmt: skip
            untaught = Candidate("fresh", fresh, Variant())
            return attack(attacked, control, untaught, attacker, lifted, before)
    except StoppedError:
        print_message("interrupted: nothing is written of an attack that is not finished")
        raise typer.Exit(stop.exit_code) from None
