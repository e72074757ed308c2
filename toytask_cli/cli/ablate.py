"""`toytask ablate`: removes a task's neurons together, and proves what is lost and what is kept."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.console import err, print_json, say_next
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    RunArgument,
    SeedOption,
)
from toytask_cli.errors import UsageError

if TYPE_CHECKING:
    from toytask_cli.runs.run import Run


def ablate(
    run: RunArgument = None,
    remove: Annotated[
        list[str] | None, typer.Option(metavar="TASK", help="Task to remove; may be repeated.")
    ] = None,
    tolerance: Annotated[
        float | None,
        typer.Option(
            help="Remove a neuron that costs a kept task less than this, in nats per example. "
            "Default: the largest removal that keeps 99 % of every kept task on validation."
        ),
    ] = None,
    error: Annotated[
        str, typer.Option(help="keep or drop what the autoencoder does not reconstruct.")
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
    from toytask_cli.device import find_device
    from toytask_cli.runs import ablation_files
    from toytask_cli.runs.run import Run

    chosen = None if neurons is None else _split_numbers(neurons)
    if name is not None:
        ablation_files.check_name(name)
    opened = Run.open(run)
    grid = opened.grid()
    removed_indices(grid, remove or [])
    model = opened.model(grid, find_device(device))
    scores = score_neurons(model, grid, seed=seed, resamples=1)
    ablation = measure(
        scores,
        remove=remove or [], tolerance=tolerance, neurons=chosen, error=error, seed=seed,
    )  # fmt: skip
    name = name or ablation.default_name
    report = opened.write_ablation(name, asdict(ablation))
    if figures:
        _draw(opened, name, report)
    if json:
        print_json(report)
        return
    print_ablation(report)
    err().print(f"wrote {opened.path}/ablations/{name}.json", soft_wrap=True)
    say_next("chat", opened.path, "--ablation", name)


def _split_numbers(text: str) -> list[int]:
    try:
        return [int(number) for number in text.split(",")]
    except ValueError:
        raise UsageError(f"neurons is {text!r}: must be numbers, such as 462,479") from None


def _draw(run: "Run", name: str, report: dict[str, Any]) -> None:
    from toytask_cli.figures.ablation import draw_bars, draw_curve
    from toytask_cli.figures.style import png

    run.write_figure(f"{name}-curve", png(draw_curve(report)))
    run.write_figure(f"{name}-bars", png(draw_bars(report)))
