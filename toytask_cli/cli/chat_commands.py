"""What a chat understands beside prompts: the table of `:commands`."""

from collections.abc import Callable, Iterable
from typing import NamedTuple

from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from toytask_cli.analysis.generate import generate
from toytask_cli.analysis.neurons import explain, neuron_summary
from toytask_cli.cli.chat_render import answers_view, neuron_view, places_view, score_view
from toytask_cli.cli.chat_session import BY_HAND, TRAINED, Chat
from toytask_cli.cli.console import err
from toytask_cli.errors import ToytaskError, UsageError, shorten, unknown_choice

MOST_DIGITS = 10  # of a typed number; Python reads no more than some thousands
SHOWN = 8  # neurons of each place that `:why` lists


class Command(NamedTuple):
    """One row of the table."""

    usage: str  # its arguments
    help: str
    do: Callable[[Chat, list[str]], RenderableType]
    words: Callable[[Chat], Iterable[str]] = lambda chat: ()  # what its arguments can be


def obey(chat: Chat, line: str) -> RenderableType:
    """Carries out a line that begins with a colon; gives what to show.

    Raises:
        ToytaskError: an unknown command, or arguments that do not suit it.
        EOFError: the chat is over.
    """
    name, *args = line.split()
    name = name.lower()
    if name not in COMMANDS:
        raise unknown_choice("command", name, COMMANDS)
    return COMMANDS[name].do(chat, args)


def candidates(chat: Chat, words: list[str]) -> Iterable[str]:
    """What can follow these words of a line."""
    if not words:
        return COMMANDS
    return COMMANDS[words[0]].words(chat) if words[0] in COMMANDS else ()


def _ablate(chat: Chat, args: list[str]) -> RenderableType:
    """Tasks and perhaps a tolerance, or the name of a saved ablation."""
    if not args:
        raise UsageError(f"name a task, as in :ablate {chat.grid.task_names[-1]} 0.1")
    is_task = args[0] in chat.grid.task_names
    if len(args) == 1 and not is_task and args[0] in chat.run.ablation_names():
        name = args[0]
        chat.add_saved(name)
    else:
        name = _ablate_tasks(chat, args)
    n_off = len(chat.columns[name].removed())
    return Group(Text(f"{name}: {n_off} of {chat.d_sae} neurons off"), _ask_again(chat))


def _ablate_tasks(chat: Chat, args: list[str]) -> str:
    *tasks, last = args
    tolerance = _as_number(last)
    if tolerance is None:
        tasks.append(last)
    if not tasks:
        raise UsageError(
            f"name a task before {last}, as in :ablate {chat.grid.task_names[-1]} {last}"
        )
    for task in tasks:
        if task not in chat.grid.task_names:
            raise unknown_choice("task", task, [*chat.grid.task_names, *chat.run.ablation_names()])
    if "measured" not in vars(chat):
        err().print("measuring every neuron, this once …", style="dim")
    return chat.ablate(tasks, tolerance)


def _ask_again(chat: Chat) -> RenderableType:
    """What the columns now say to the last prompt; it does not count for the score."""
    if chat.last is None:
        return Text("ask something")
    answers = generate(chat.model, chat.grid, [chat.last], chat.columns)[0]
    return Group(Text(chat.last.plain, "dim"), answers_view(chat.last, answers))


def _restore(chat: Chat, args: list[str]) -> RenderableType:
    chat.restore(" ".join(args) or None)
    return Text(f"left: {', '.join(chat.columns)}")


def _off(chat: Chat, args: list[str]) -> RenderableType:
    return _switch(chat, args, off=True)


def _on(chat: Chat, args: list[str]) -> RenderableType:
    return _switch(chat, args, off=False)


def _switch(chat: Chat, args: list[str], off: bool) -> RenderableType:
    if not args:
        raise UsageError(f"name a neuron, as in :{'off' if off else 'on'} 12")
    n_off = chat.switch([_as_index(arg) for arg in args], off)
    said = f"{BY_HAND}: {n_off} of {chat.d_sae} neurons off" if n_off else "all neurons are on"
    return Group(Text(said), _ask_again(chat))


def _why(chat: Chat, args: list[str]) -> RenderableType:
    """A number of neurons to list, and a column, each of them optional."""
    if chat.last is None:
        raise UsageError("ask something first")
    shown = int(args.pop(0)[:MOST_DIGITS]) if args and args[0].isdecimal() else SHOWN
    if not shown:
        raise UsageError(f"list one neuron at least, as in :why {SHOWN}")
    column = " ".join(args) or TRAINED
    if column not in chat.columns:
        raise unknown_choice("column", column, chat.columns)
    marks = column if args else list(chat.columns)[-1]
    off = chat.columns[marks].removed()
    importance, note = _known_importance(chat)
    places = explain(chat.model, chat.grid, chat.last, chat.columns[column])
    head = [f"{chat.last.plain}, {column}"] + [f"off: removed in {marks}"] * bool(off)
    push = Text("push: logits, on the token that is written", "dim")
    return Group(Text("; ".join(head)), places_view(places, importance, off, shown), push, note)


def _neuron(chat: Chat, args: list[str]) -> RenderableType:
    if len(args) != 1:
        raise UsageError("name one neuron, as in :neuron 12")
    importance, note = _known_importance(chat)
    found = neuron_summary(chat.model, chat.grid, chat.seen, _as_index(args[0]))
    return Group(neuron_view(found, importance), note)


def _known_importance(chat: Chat) -> tuple[dict[str, Tensor], Text]:
    """Task → [d_sae] nats; empty, and a note, where it is not known."""
    try:
        known = chat.known_importance()
    except ToytaskError as error:
        return {}, Text(f"importance is not known: {error}", "dim")
    note = Text(
        f"{', '.join(chat.grid.task_names)}: importance in nats; positive: removing hurts", "dim"
    )
    return dict(zip(chat.grid.task_names, known, strict=True)), note


def _score(chat: Chat, args: list[str]) -> RenderableType:
    return score_view(list(chat.columns), chat.grid.task_names, chat.tally)


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


def _as_number(text: str) -> float | None:
    try:
        return float(text)
    except ValueError:
        return None


def _as_index(text: str) -> int:
    if not (text.isascii() and text.isdecimal() and len(text) <= MOST_DIGITS):
        raise UsageError(f"{shorten(text, 20)!r} is no neuron: give its number")
    return int(text)


def _tasks(chat: Chat) -> Iterable[str]:
    return chat.grid.task_names


def _tasks_and_ablations(chat: Chat) -> Iterable[str]:
    return [*chat.grid.task_names, *chat.run.ablation_names()]


def _columns(chat: Chat) -> Iterable[str]:
    return chat.columns


COMMANDS = {
    ":ablate": Command(
        "TASK [TOLERANCE]",
        "remove a task, or put a saved ablation in place by its name",
        _ablate,
        _tasks_and_ablations,
    ),
    ":restore": Command("[COLUMN]", "undo one removal, or all of them", _restore, _columns),
    ":why": Command("[N] [COLUMN]", "the neurons behind the last answer", _why, _columns),
    ":neuron": Command("N", "one neuron: when it fires, and what it pushes", _neuron),
    ":off": Command("N", "switch neurons off, beside the last column", _off),
    ":on": Command("N", "switch them on again", _on),
    ":random": Command("[TASK]", "ask an unseen prompt", _random, _tasks),
    ":score": Command("", "how many answers were right", _score),
    ":help": Command("", "this list", _help),
    ":quit": Command("", "leave; so do Ctrl-D and Ctrl-C", _quit),
}
