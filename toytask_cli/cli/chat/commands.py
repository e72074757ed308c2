"""The `:commands` of a chat."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from toytask_cli.analysis.atlas import map_neuron
from toytask_cli.analysis.generate import generate
from toytask_cli.analysis.neurons import explain, neuron_summary
from toytask_cli.analysis.select import removed_indices
from toytask_cli.cli.chat.session import BY_HAND, TRAINED, Chat
from toytask_cli.cli.chat.view import answers_view, score_view, tokens_view
from toytask_cli.cli.console import print_message
from toytask_cli.cli.neuron_view import neuron_view
from toytask_cli.errors import ToytaskError, UsageError, shorten, unknown_choice

MAX_DIGITS = 10  # of a typed number; Python refuses to read some thousands
NEURONS_SHOWN = 8  # for each token, by `:why`


class Command(NamedTuple):
    """A row of the table of commands."""

    usage: str  # its arguments
    help: str
    run: Callable[[Chat, list[str]], RenderableType]
    choices: Callable[[Chat], Iterable[str]] = lambda chat: ()  # valid arguments, to complete


def run_command(chat: Chat, line: str) -> RenderableType:
    """Run a line that begins with a colon; return what to show.

    Raises:
        ToytaskError: an unknown command, or arguments that it cannot take.
        EOFError: the chat is over.
    """
    name, *args = line.split()
    name = name.lower()
    if name not in COMMANDS:
        raise unknown_choice("command", name, COMMANDS)
    return COMMANDS[name].run(chat, args)


def completions(chat: Chat, words: list[str]) -> Iterable[str]:
    """Return what can follow these words of a line."""
    if not words:
        return COMMANDS
    return COMMANDS[words[0]].choices(chat) if words[0] in COMMANDS else ()


def _ablate(chat: Chat, args: list[str]) -> RenderableType:
    """Remove tasks, with an optional tolerance last; or apply a saved ablation by its name."""
    if not args:
        raise UsageError(f"name a task, as in :ablate {chat.grid.task_names[-1]} 0.1")
    is_task = args[0] in chat.grid.task_names
    if len(args) == 1 and not is_task and args[0] in chat.run.ablation_names():
        name = args[0]
        chat.add_ablation(name)
    else:
        name = _ablate_tasks(chat, args)
    n_off = len(chat.columns[name].removed())
    return Group(Text(f"{name}: {n_off} of {chat.d_sae} neurons off"), _ask_again(chat))


def _ablate_tasks(chat: Chat, args: list[str]) -> str:
    *tasks, last = args
    tolerance = _parse_number(last)
    if tolerance is None:
        tasks.append(last)
    if not tasks:
        raise UsageError(
            f"name a task before {last}, as in :ablate {chat.grid.task_names[-1]} {last}"
        )
    for task in tasks:
        if task not in chat.grid.task_names:
            raise unknown_choice("task", task, _tasks_and_ablations(chat))
    removed_indices(chat.grid, tasks)  # all tasks are refused before every neuron is measured
    if "neuron_scores" not in vars(chat):
        print_message("measuring every neuron, this once …", style="dim")
    return chat.ablate(tasks, tolerance)


def _ask_again(chat: Chat) -> RenderableType:
    """Show the columns' answers to the last prompt, without counting them for the score."""
    if chat.last_prompt is None:
        return Text("ask something")
    answers = generate(chat.model, chat.grid, [chat.last_prompt], chat.columns)[0]
    return Group(Text(chat.last_prompt.plain, "dim"), answers_view(chat.last_prompt, answers))


def _restore(chat: Chat, args: list[str]) -> RenderableType:
    chat.restore(" ".join(args) or None)
    return Text(f"left: {', '.join(chat.columns)}")


def _switch(chat: Chat, args: list[str], *, off: bool) -> RenderableType:
    if not args:
        raise UsageError(f"name a neuron, as in :{'off' if off else 'on'} 12")
    n_off = chat.switch([_parse_neuron(arg) for arg in args], off)
    text = f"{BY_HAND}: {n_off} of {chat.d_sae} neurons off" if n_off else "all neurons are on"
    return Group(Text(text), _ask_again(chat))


def _why(chat: Chat, args: list[str]) -> RenderableType:
    """Show the neurons behind the last answer; arguments: how many, and of which column."""
    if chat.last_prompt is None:
        raise UsageError("ask something first")
    has_number = bool(args) and args[0].isdecimal()
    n_shown = int(args.pop(0)[:MAX_DIGITS]) if has_number else NEURONS_SHOWN
    if not n_shown:
        raise UsageError(f"list one neuron at least, as in :why {NEURONS_SHOWN}")
    column = " ".join(args) or TRAINED
    if column not in chat.columns:
        raise unknown_choice("column", column, chat.columns)
    # Of the model as trained, show what the newest column has removed.
    off_column = column if args else list(chat.columns)[-1]
    off = chat.columns[off_column].removed()
    heading = (
        f"{chat.last_prompt.plain}, {column}{f'; off: removed in {off_column}' if off else ''}"
    )
    is_other = chat.columns[column].other_model is not None
    importance, note = ({}, Text()) if is_other else _known_importance(chat)
    tokens = explain(chat.model, chat.grid, chat.last_prompt, chat.columns[column])
    logit_note = Text("logit: what the neuron adds to the logit of the token written", "dim")
    return Group(Text(heading), tokens_view(tokens, importance, off, n_shown), logit_note, note)


def _neuron(chat: Chat, args: list[str]) -> RenderableType:
    if len(args) != 1:
        raise UsageError("name one neuron, as in :neuron 12")
    importance, note = _known_importance(chat)
    number = _parse_neuron(args[0])
    neuron = neuron_summary(chat.model, chat.grid, chat.unseen_examples, number)
    mapped = map_neuron(chat.all_operands, number)
    return Group(neuron_view(neuron, mapped, importance), note)


def _known_importance(chat: Chat) -> tuple[Mapping[str, Tensor], Text]:
    """Return task → [d_sae] nats and a note that explains it; empty if it is not known."""
    names = chat.grid.task_names
    try:
        importance = dict(zip(names, chat.known_importance(), strict=True))
    except ToytaskError as error:
        return {}, Text(f"importance is not known: {error}", "dim")
    return importance, Text(
        f"{', '.join(names)}: importance in nats; positive: removing hurts", "dim"
    )


def _score(chat: Chat, args: list[str]) -> RenderableType:
    return score_view(list(chat.columns), chat.grid.task_names, chat.score)


def _random(chat: Chat, args: list[str]) -> RenderableType:
    if len(args) > 1:
        raise UsageError(f"name one task at most: {', '.join(chat.grid.task_names)}")
    prompt = chat.random_prompt(args[0] if args else None)
    return Group(Text(prompt.plain), answers_view(prompt, chat.ask([prompt])[0]))


def _help(chat: Chat, args: list[str]) -> RenderableType:
    table = Table.grid(padding=(0, 2, 0, 0))
    for name, command in COMMANDS.items():
        table.add_row(Text(f"{name} {command.usage}"), Text(command.help))
    symbol = chat.grid.tasks[0].symbol
    return Group(Text(f"Type a prompt, such as 4{symbol}7, or one of these:"), table)


def _quit(chat: Chat, args: list[str]) -> RenderableType:
    raise EOFError


def _parse_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _parse_neuron(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MAX_DIGITS):
        raise UsageError(f"{shorten(text, 20)!r} is no neuron: give its number")
    return int(text)


def _tasks_and_ablations(chat: Chat) -> list[str]:
    return [*chat.grid.task_names, *chat.run.ablation_names()]


ABLATE_HELP = "remove a task, or apply a saved ablation by its name"

COMMANDS = {
    ":ablate": Command("TASK [TOLERANCE]", ABLATE_HELP, _ablate, _tasks_and_ablations),
    ":restore": Command(
        "[COLUMN]", "undo one removal, or all of them", _restore, lambda chat: chat.columns
    ),
    ":why": Command(
        "[N] [COLUMN]", "the neurons behind the last answer", _why, lambda chat: chat.columns
    ),
    ":neuron": Command("N", "one neuron: when it fires, and what it writes", _neuron),
    ":off": Command(
        "N", "switch neurons off, in a column of their own", partial(_switch, off=True)
    ),
    ":on": Command("N", "switch them on again", partial(_switch, off=False)),
    ":random": Command(
        "[TASK]", "ask an unseen prompt", _random, lambda chat: chat.grid.task_names
    ),
    ":score": Command("", "how many answers were right", _score),
    ":help": Command("", "this list", _help),
    ":quit": Command("", "leave; so do Ctrl-D, and Ctrl-C at the prompt", _quit),
}
