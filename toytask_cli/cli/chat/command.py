"""`toytask chat`: talk to the model, as trained and with neurons removed."""

import sys
from pathlib import Path
from typing import Annotated

import typer

from toytask_cli.cli.completion import ablation_of_run, run_directory
from toytask_cli.cli.options import DeviceOption, RunArgument, SeedOption, split_all


def chat(
    run: RunArgument = None,
    ablation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAMES",
            help="Put these ablations beside the model as trained, separated by commas.",
            autocompletion=ablation_of_run,
        ),
    ] = None,
    beside: Annotated[
        list[Path] | None,
        typer.Option(
            metavar="RUN",
            help="Put another run of the same tasks beside it, such as a student; may be repeated.",
            autocompletion=run_directory,
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each prompt.")
    ] = False,
) -> None:
    """Talk to the model, and see what an ablation did to it; :help lists the commands.

    In a pipe it reads one prompt a line, and writes one answer a line.

    Example: toytask chat runs/01 --ablation remove-concat-tol0.1
    """
    import torch

    from toytask_cli.cli.chat.io import answer_lines, run_terminal
    from toytask_cli.cli.chat.session import Chat
    from toytask_cli.cli.common import open_run

    # For a single prompt, waiting for other threads would cost more than it saves.
    torch.set_num_threads(1)
    session = Chat(*open_run(run, device), seed)
    for name in split_all(ablation):
        session.add_ablation(name)
    for path in beside or []:
        session.add_run(path)
    if sys.stdin.isatty() and sys.stdout.isatty() and not json:
        run_terminal(session)
    elif not answer_lines(session, json):
        raise typer.Exit(1)
