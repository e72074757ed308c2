"""`toytask distill`: teach fresh weights what an ablated model does."""

from pathlib import Path
from typing import Annotated

import typer

from toytask_cli.cli.common import open_run
from toytask_cli.cli.completion import ablation_of_run
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    PrecisionOption,
    RunArgument,
)
from toytask_cli.cli.train import train_session


def distill(
    ablation: Annotated[
        str,
        typer.Option(
            metavar="NAME",
            help="The ablation under which the run is the teacher.",
            autocompletion=ablation_of_run,
        ),
    ],
    run: RunArgument = None,
    distribution: Annotated[
        bool,
        typer.Option(
            "--distribution",
            help="Learn the probability of every token, and not only the tokens written.",
        ),
    ] = False,
    noise: Annotated[
        float,
        typer.Option(
            min=0,
            max=1,
            help="Share of fresh weights at the start; the rest is the teacher's.",
        ),
    ] = 1.0,
    seed: Annotated[
        int | None,
        typer.Option(
            min=0,
            help="Seed of fresh weights and batches. Default: the teacher's and one more, because "
            "weights that start alike can inherit more than is taught.",
        ),
    ] = None,
    epochs: Annotated[
        int | None, typer.Option(min=1, help="Limit of epochs. Default: twice the teacher's.")
    ] = None,
    out_dir: Annotated[
        Path | None,
        typer.Option(
            "--out", metavar="DIR", help="New run directory. Default: the next under runs/."
        ),
    ] = None,
    device: DeviceOption = "auto",
    precision: PrecisionOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
) -> None:
    """Train a student on what a run writes with an ablation in place, and not on the true answers.

    The student is an ordinary run, trained by its teacher's recipe.

    Example: toytask distill runs/01 --ablation remove-concat-tol0.1
    """
    from toytask_cli.device import find_precision
    from toytask_cli.runs.lessons import student_recipe, teacher_of
    from toytask_cli.runs.session import Session

    opened, grid, model = open_run(run, device)
    teacher = teacher_of(opened, model, grid, ablation, distribution, noise)
    recipe = student_recipe(opened.config.recipe, seed, epochs)
    torch_device = model.readout.weight.device
    dtype = find_precision(precision, torch_device)
    session = Session.start(recipe, torch_device, dtype, out_dir, teacher=teacher)
    train_session(session, figures, json)
