"""Show answers, their neurons and the score: in columns, under each other, or on one line."""

from collections.abc import Mapping, Sequence

from rich.cells import cell_len
from rich.console import Group, RenderableType
from rich.table import Table
from rich.text import Text
from torch import Tensor

from toytask_cli.analysis.generate import Answer
from toytask_cli.analysis.neurons import AnswerToken
from toytask_cli.cli.console import out, plain_table
from toytask_cli.prompts import Prompt

GAP = 3  # blanks between columns


def one_line(prompt: Prompt, answers: Mapping[str, Answer]) -> Text:
    """Return `47C23 = 4723 ✓ (472 99.9 %, 3 99.8 %, E 100.0 %)`, with names if there are more."""
    text = Text(f"{prompt.plain} = ")
    for number, (name, answer) in enumerate(answers.items()):
        text.append(" | " if number else "")
        text.append(f"{name} " if len(answers) > 1 else "")
        text.append_text(_marked(answer)).append(f" ({', '.join(_token_chances(answer))})")
        text.append("" if answer.correct else f" {_error(prompt, answer)}")
    return text


def answers_view(prompt: Prompt, answers: Mapping[str, Answer]) -> RenderableType:
    """Return one answer on a line; several in columns, or under each other if that is too wide."""
    if len(answers) == 1:
        return _answer_line(prompt, *answers.values())
    columns = [_answer_column(name, prompt, answer) for name, answer in answers.items()]
    width = sum(max(cell_len(line.plain) for line in column) for column in columns)
    if width + GAP * (len(columns) - 1) > out().width:
        pairs = ((Text(name, "bold"), _answer_line(prompt, a)) for name, a in answers.items())
        return Group(*(line for pair in pairs for line in pair))
    table = Table.grid(padding=(0, GAP, 0, 0))
    table.add_row(*(Text("\n").join(column) for column in columns))
    return table


def _answer_line(prompt: Prompt, answer: Answer) -> Text:
    text = _marked(answer).append("   ").append("  ".join(_token_chances(answer)), "default")
    return text if answer.correct else text.append(f"   {_error(prompt, answer)}", "yellow")


def _answer_column(name: str, prompt: Prompt, answer: Answer) -> list[Text]:
    lines = [Text(name, "bold"), _marked(answer), *map(Text, _token_chances(answer))]
    return lines if answer.correct else [*lines, Text(_error(prompt, answer), "yellow")]


def _marked(answer: Answer) -> Text:
    """Return `70 ✓` in green or `70 ✗` in red; in words where the terminal lacks these marks."""
    text = answer.text or "(nothing)"
    marks = ("✓", "✗") if out().encoding.startswith("utf") else ("right", "wrong")
    return Text(f"{text} {marks[not answer.correct]}", "green" if answer.correct else "red")


def _token_chances(answer: Answer) -> list[str]:
    """Return `["70 99.9 %", "E 100.0 %"]`."""
    pairs = zip(answer.tokens, answer.probabilities, strict=True)
    return [f"{token} {100 * chance:.1f} %" for token, chance in pairs]


def _error(prompt: Prompt, answer: Answer) -> str:
    return f"{answer.closest}; the target is {prompt.plain_target}"


def tokens_view(
    tokens: Sequence[AnswerToken], importance: Mapping[str, Tensor], off: set[int], n_shown: int
) -> RenderableType:
    """Return a table of the neurons that fired, for each token of an answer.

    Args:
        tokens: of the answer.
        importance: task → [d_sae] nats; empty if it is not known.
        off: neurons to mark.
        n_shown: how many neurons to list for each token.
    """
    return Group(*(_token_view(token, importance, off, n_shown) for token in tokens))


def _token_view(
    token: AnswerToken, importance: Mapping[str, Tensor], off: set[int], n_shown: int
) -> RenderableType:
    n = len(token.neurons)
    count = f"{n or 'no'} neuron{'' if n <= 1 else 's'} fired"
    title = Text(f"{token.token} {100 * token.probability:.1f} %: {count}", "bold")
    if not token.neurons:
        return title
    table = plain_table(["neuron", "act.", "logit", *importance, "up", "down"], [])
    table.padding = (0, 1, 0, 0)
    for column in table.columns[-2:]:
        column.justify = "left"
    for one in token.neurons[:n_shown]:
        table.add_row(
            f"{one.neuron}{' off' if one.neuron in off else ''}",
            f"{one.activation:.2f}",
            f"{one.logit_attribution:+.2f}",
            *(f"{float(values[one.neuron]):+.3f}" for values in importance.values()),
            " ".join(one.tokens.promoted),
            " ".join(one.tokens.suppressed),
            style="dim" if one.neuron in off else None,
        )
    more = [Text(f" and {n - n_shown} that add less\n")] if n > n_shown else []
    return Group(title, table, *more)


def score_view(
    columns: Sequence[str], tasks: Sequence[str], score: Mapping[tuple[str, str], list[bool]]
) -> RenderableType:
    """Return how many answers were right, a row for each column of the chat."""
    rows = []
    for name in columns:
        cells = [score.get((name, task), []) for task in tasks]
        rows.append([name, *(f"{sum(cell)} of {len(cell)}" if cell else "-" for cell in cells)])
    return plain_table(["right answers", *tasks], rows)
