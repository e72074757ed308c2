"""`toytask chat`: talk to the model, as trained and with neurons removed."""

import sys
from typing import Annotated

import typer

from toytask_cli.cli.options import DeviceOption, RunArgument, SeedOption


def chat(
    run: RunArgument = None,
    ablation: Annotated[
        list[str] | None,
        typer.Option(
            metavar="NAME", help="Put this ablation beside the model as trained; may be repeated."
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    json: Annotated[
        bool, typer.Option("--json", help="Print one JSON object for each prompt.")
    ] = False,
) -> None:
    """Talk to the model, and see what an ablation did to it; :help lists what it understands.

    In a pipe it reads one prompt a line, and writes one answer a line.

    Example: toytask chat runs/01 --ablation remove-concat-tol0.1
    """
    import torch

    from toytask_cli.cli.chat_pipe import answer_lines
    from toytask_cli.cli.chat_session import Chat
    from toytask_cli.cli.chat_terminal import talk
    from toytask_cli.device import find_device
    from toytask_cli.runs.run import Run

    # A single prompt is too small to share out; waiting for threads would cost more than it saves.
    torch.set_num_threads(1)
    place = find_device(device)
    chat = Chat.open(Run.open(run), place, seed)
    for name in ablation or []:
        chat.add_saved(name)
    if sys.stdin and sys.stdin.isatty() and sys.stdout.isatty() and not json:
        talk(chat)
    elif not answer_lines(chat, json):
        raise typer.Exit(1)
