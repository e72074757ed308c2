"""How answers, neurons and the score look: in columns, under each other, or in one line."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from toytask_cli.analysis.generate import Answer
from toytask_cli.analysis.neurons import AnswerToken, NeuronSummary, TopTokens
from toytask_cli.cli.console import out, percent, plain_table
from toytask_cli.prompts import Prompt

GAP = 3  # blanks between columns


def marked(answer: Answer) -> Text:
    """`70 ✓` in green, or `70 ✗` in red; in words where the terminal has no such letters."""
    text = answer.text or "(nothing)"
    marks = ("✓", "✗") if out().encoding.startswith("utf") else ("right", "wrong")
    return Text(f"{text} {marks[not answer.correct]}", "green" if answer.correct else "red")


def token_chances(answer: Answer) -> list[str]:
    """`["70 99.9 %", "E 100.0 %"]`."""
    pairs = zip(answer.tokens, answer.probabilities, strict=True)
    return [f"{token} {100 * chance:.1f} %" for token, chance in pairs]


def one_line(prompt: Prompt, answers: Mapping[str, Answer]) -> Text:
    """`47C23 = 4723 ✓ (472 99.9 %, 3 99.8 %, E 100.0 %)`, with names where there are several."""
    text = Text(f"{prompt.plain} = ")
    for number, (name, answer) in enumerate(answers.items()):
        text.append(" | " if number else "")
        text.append(f"{name} " if len(answers) > 1 else "")
        text.append_text(marked(answer)).append(f" ({', '.join(token_chances(answer))})")
        text.append("" if answer.correct else f" {_closest(prompt, answer)}")
    return text


def answers_view(prompt: Prompt, answers: Mapping[str, Answer]) -> RenderableType:
    """One answer as a line; several as columns, or under each other where they do not fit."""
    if len(answers) == 1:
        return _flat(prompt, *answers.values())
    columns = [_column(name, prompt, answer) for name, answer in answers.items()]
    width = sum(max(cell_len(line.plain) for line in column) for column in columns)
    if width + GAP * (len(columns) - 1) > out().width:
        parts = [[Text(name, "bold"), _flat(prompt, a)] for name, a in answers.items()]
        return Group(*(line for part in parts for line in part))
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_row(*(Text("\n").join(column) for column in columns))
    return table


def _flat(prompt: Prompt, answer: Answer) -> Text:
    text = marked(answer).append("   ").append("  ".join(token_chances(answer)), "default")
    return text if answer.correct else text.append(f"   {_closest(prompt, answer)}", "yellow")


def _column(name: str, prompt: Prompt, answer: Answer) -> list[Text]:
    lines = [Text(name, "bold"), marked(answer), *map(Text, token_chances(answer))]
    return lines if answer.correct else [*lines, Text(_closest(prompt, answer), "yellow")]


def _closest(prompt: Prompt, answer: Answer) -> str:
    return f"{answer.closest}; the truth is {prompt.plain_target}"


def places_view(
    places: Sequence[AnswerToken], importance: Mapping[str, Tensor], off: set[int], shown: int
) -> RenderableType:
    """For each token of an answer a table of the neurons that fired.

    Args:
        places: the answer.
        importance: task → [d_sae] nats; empty where it is not known.
        off: neurons to mark.
        shown: neurons of each place to list.
    """
    return Group(*(_place_view(place, importance, off, shown) for place in places))


def _place_view(
    place: AnswerToken, importance: Mapping[str, Tensor], off: set[int], shown: int
) -> RenderableType:
    n = len(place.neurons)
    count = f"{n or 'no'} neuron{'' if n <= 1 else 's'} fired"
    title = Text(f"{place.token} {100 * place.probability:.1f} %: {count}", "bold")
    if not place.neurons:
        return title
    hidden = n - shown
    table = plain_table("neuron", "act.", "push", *importance, "up", "down")
    table.padding = (0, 1, 0, 0)
    for column in table.columns[-2:]:
        column.justify = "left"
    for one in place.neurons[:shown]:
        table.add_row(
            f"{one.neuron}{' off' if one.neuron in off else ''}",
            f"{one.activation:.2f}",
            f"{one.logit_attribution:+.2f}",
            *(f"{float(values[one.neuron]):+.3f}" for values in importance.values()),
            " ".join(one.tokens.promoted),
            " ".join(one.tokens.suppressed),
            style="dim" if one.neuron in off else None,
        )
    more = [Text(f" and {hidden} with a smaller push\n")] if hidden > 0 else []
    return Group(title, table, *more)


def neuron_view(found: NeuronSummary, importance: Mapping[str, Tensor]) -> RenderableType:
    """One neuron: when it fires, what excites it, what it pushes."""
    title = Text(
        f"neuron {found.neuron} on {found.n:,} examples of the {found.split} split", "bold"
    )
    table = plain_table("task", "fires at", *(["importance"] if importance else []))
    for task, density in found.density.items():
        known = [f"{float(importance[task][found.neuron]):+z.4f}"] if importance else []
        table.add_row(task, percent(density), *known)
    return Group(title, table, _ends_line(found.tokens), _excited_view(found))


def _ends_line(ends: TopTokens) -> Text:
    return Text(f" pushes up {' '.join(ends.promoted)}, down {' '.join(ends.suppressed)}")


def _excited_view(found: NeuronSummary) -> RenderableType:
    if not found.top_prompts:
        return Text(" nothing makes it fire")
    table = plain_table("fires most for", "at", "act.")
    for one in found.top_prompts:
        table.add_row(one.prompt, one.step, f"{one.activation:.2f}")
    return table


def score_view(
    columns: Sequence[str], tasks: Sequence[str], tally: Mapping[tuple[str, str], list[bool]]
) -> RenderableType:
    """Right answers of those asked, a row for each column of the chat."""
    table = plain_table("right of asked", *tasks)
    for name in columns:
        cells = [tally.get((name, task), []) for task in tasks]
        table.add_row(name, *(f"{sum(cell)} of {len(cell)}" if cell else "-" for cell in cells))
    return table
