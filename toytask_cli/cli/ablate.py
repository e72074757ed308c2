"""`toytask ablate`: remove a task's neurons together; measure what is lost and what is kept."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from toytask_cli.cli.common import Report, keep_ablation, open_run, show_kept, write_figures
from toytask_cli.cli.completion import one_of, task_of_run
from toytask_cli.cli.neuron_maps import neuron_figures
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    RunArgument,
    SeedOption,
    split_all,
)
from toytask_cli.errors import UsageError

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toytask_cli.analysis.importance import NeuronScores


def ablate(
    run: RunArgument = None,
    remove: Annotated[
        list[str] | None,
        typer.Option(
            metavar="TASKS",
            help="Task to remove, or several separated by commas.",
            autocompletion=task_of_run,
        ),
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Remove a neuron that costs a kept task less than this, in nats per example. "
            "Default: the largest removal that keeps 99 % of every kept task on validation."
        ),
    ] = None,
    error: Annotated[
        str,
        typer.Option(
            help="keep or drop what the autoencoder does not reconstruct.",
            autocompletion=one_of(("keep", "drop")),
        ),
    ] = "keep",
    neurons: Annotated[
        str | None,
        typer.Option(metavar="LIST", help="Remove these neurons, such as 462,479, and no others."),
    ] = None,
    name: Annotated[str | None, typer.Option(help="Name of the ablation.")] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
) -> None:
    """Remove one task and keep the others; measured on pairs that nothing was chosen on.

    Example: toytask ablate runs/01 --remove concat --tolerance 0.1
    """
    from toytask_cli.analysis.ablate import ablate as measure
    from toytask_cli.analysis.importance import score_neurons
    from toytask_cli.analysis.select import removed_indices
    from toytask_cli.cli.ablation_view import print_ablation
    from toytask_cli.runs.paths import check_ablation_name

    if not remove:
        raise UsageError("name a task to --remove, such as concat")
    removed = split_all(remove)
    given_neurons = None if neurons is None else _split_numbers(neurons)
    if name is not None:
        check_ablation_name(name)
    opened, grid, model = open_run(run, device)
    removed_indices(grid, removed)  # an unknown task is refused before scoring all neurons
    scores = score_neurons(model, grid, seed=seed, resamples=1)
    ablation = measure(
        scores,
        remove=removed, tolerance=tolerance, neurons=given_neurons, error=error, seed=seed,
    )  # fmt: skip
    name = name or ablation.default_name
    kept = keep_ablation(opened, name, asdict(ablation))
    show_kept(kept, json, print_ablation, ("chat", kept.run.path, "--ablation", name))
    if figures and not kept.refusal:
        write_figures(kept.run, partial(_figures, name, kept.report, scores))


def _split_numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"neurons is {text!r}: must be numbers, such as 462,479") from None


def _figures(name: str, report: Report, scores: "NeuronScores") -> "dict[str, Figure]":
    from toytask_cli.analysis.operand_maps import at_all_operands
    from toytask_cli.figures.ablation import draw_bars, draw_curve

    matched = at_all_operands(scores.matched.model, scores.matched.grid)
    removed = set(report["neurons"])
    return {
        f"{name}-curve": draw_curve(report),
        f"{name}-bars": draw_bars(report),
        **neuron_figures(f"{name}-neurons", matched, scores.tensors, removed),
    }
