import json
from pathlib import Path

import pytest
import torch
from conftest import TINY, Command, options
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.answers import largest_number
from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import UsageError
from toytask_cli.prompts import PromptError, parse_prompt
from toytask_cli.recipe import DataSpec
from toytask_cli.tasks import TASKS, Task, find_tasks

operand = st.integers(0, 99)
DEFAULT = find_tasks(["sum", "concat"])


@given(operand, operand)
def test_every_rule_does_what_its_name_says(a, b):
    targets = {
        "sum": str(a + b),
        "concat": f"{a}{b}",
        "diff": str(abs(a - b)),
        "max": str(max(a, b)),
        "min": str(min(a, b)),
        "swap": f"{b}{a}",
    }
    assert {name: task.answer(a, b) for name, task in TASKS.items()} == {
        name: f"B{target}E" for name, target in targets.items()
    }


def test_the_largest_number_is_that_of_a_single_answer_number():
    assert largest_number(DEFAULT, 2) == 198
    assert largest_number(find_tasks(["concat", "max"]), 2) == 99
    assert largest_number(DEFAULT, 3) == 1998


def add_task(monkeypatch: pytest.MonkeyPatch, symbol: str, rule) -> Task:
    """Return a new row of the table, named `new`."""
    task = Task("new", symbol, rule)
    monkeypatch.setitem(TASKS, "new", task)
    return task


def answer_tokens(grid: Grid, a: int, b: int) -> list[str]:
    """Return the tokens of the new task's answer, without B, E and pads."""
    row = grid.answers[1, a * 10**grid.spec.digits + b].tolist()
    return [grid.tokenizer.tokens[i] for i in row if i > 2]


def test_the_largest_number_may_be_anywhere_in_the_grid(monkeypatch):
    task = add_task(monkeypatch, "*", lambda a, b: (a * b % 113,))
    assert largest_number([task], 2) == 112
    assert answer_tokens(build_grid(DataSpec(tasks=("concat", "new"))), 8, 14) == ["112"]


def test_a_longer_number_of_a_longer_answer_is_read_by_longest_match(monkeypatch):
    add_task(monkeypatch, "*", lambda a, b: (a, a * b))
    grid = build_grid(DataSpec(tasks=("sum", "new")))
    assert grid.tokenizer.largest == 198
    assert answer_tokens(grid, 12, 34) == ["124", "0", "8"]
    assert answer_tokens(grid, 7, 9) == ["76", "3"]
    assert answer_tokens(grid, 20, 5) == ["20", "100"]
    merged = grid.merged_tokens()[1]
    assert [bool(merged[pair]) for pair in (1234, 709, 2005)] == [True, True, False]


def test_token_ids_fit_a_vocabulary_of_any_size(monkeypatch):
    add_task(monkeypatch, "*", lambda a, b: (a * b * 7,))
    grid = build_grid(DataSpec(tasks=("sum", "new")))
    assert grid.tokenizer.largest == 99 * 99 * 7
    assert answer_tokens(grid, 99, 99) == ["68607"]
    assert not grid.unseen_token().any()


@pytest.mark.parametrize(
    ("rule", "message"),
    [
        (lambda a, b: (a - b,), r"gives \(-1,\) for 0 and 1: must be a tuple of non-negative int"),
        (lambda a, b: (a / 2,), r"gives \(0.0,\) for 0 and 0"),
        (lambda a, b: a + b, "gives 0 for 0 and 0"),
        (lambda a, b: (), r"gives \(\) for 0 and 0"),
        (lambda a, b: (a // b,), "fails for 0 and 0: integer division or modulo by zero"),
        (lambda a, b: (a**2, 10 ** (2 * b)), r"gives \(0, 1000000000000000000\) for 0 and 9"),
        (lambda a, b: (a,) * (1 + (a > b)), "gives more numbers for some operands than for others"),
        (lambda a, b: (a**7,), "gives 4,782,969 for 9 and 0: an answer of one number must be"),
        (lambda a, b: (a,) * 9, "its answer for 0 and 0 is too long: 6 tokens at most"),
    ],
)
def test_a_rule_without_valid_answers_is_one_error_that_names_the_operands(
    monkeypatch, rule, message
):
    add_task(monkeypatch, "*", rule)
    with pytest.raises(UsageError, match=f"^task new: its (rule )?{message.removeprefix('its ')}"):
        build_grid(DataSpec(tasks=("sum", "new"), digits=1))


@pytest.mark.parametrize("symbol", ["", "**", "7", "B", "E", " ", "x", "+", "\n", "\x00", "ß"])
def test_a_symbol_that_cannot_be_read_back_is_refused(monkeypatch, symbol):
    add_task(monkeypatch, symbol, lambda a, b: (a,))
    with pytest.raises(UsageError, match="has the symbol .*: must be one printable character"):
        find_tasks(["sum", "concat"])


@pytest.mark.parametrize("symbol", ["*", "^", "]", "\\", "×", "÷", "😀"])
def test_any_other_character_is_a_symbol(monkeypatch, symbol):
    task = add_task(monkeypatch, symbol, lambda a, b: (a * b,))
    grid = build_grid(DataSpec(tasks=("new", "sum"), digits=1))
    row = grid.examples(torch.tensor([0]), torch.tensor([67]))
    assert grid.tokenizer.decode(row.prompts[0].tolist()) == f"B6{symbol}7E"
    assert parse_prompt(f"6 {symbol} 7", grid.tasks, 1) == (task, 6, 7)


def test_a_task_is_one_row_of_the_table(monkeypatch, toytask: Command, here: Path):
    add_task(monkeypatch, "*", lambda a, b: (a * b % 113,))
    recipe = TINY | {
        "digits": 2, "tasks": "sum,new", "epochs": 3, "separate_epochs": 1,
        "train_fraction": 0.06, "validation_fraction": 0.02, "batch_size": 64,
    }  # fmt: skip
    result = toytask("train", "--no-figures", *options(recipe))
    assert result.code == 0, result.err
    report = json.loads(toytask("eval", "--no-figures", "--json").out)
    assert {name: task["n"] for name, task in report["tasks"].items()} == {"sum": 9200, "new": 9200}
    assert "8*14" in toytask("data", "8*14", "--tasks", "sum,new").out


def test_a_misspelt_task_gets_a_suggestion():
    with pytest.raises(UsageError, match="unknown task 'cncat': did you mean 'concat'"):
        find_tasks(["sum", "cncat"])


@given(operand, operand, st.sampled_from(DEFAULT), st.booleans(), st.sampled_from(["", " ", "  "]))
def test_a_prompt_is_understood_however_it_is_typed(a, b, task, bare, blank):
    typed = blank.join([str(a), task.symbol.lower(), str(b)])
    typed = typed if bare else f"B{typed}E"
    prompt = parse_prompt(typed, DEFAULT, 2)
    assert (prompt.task, prompt.a, prompt.b) == (task, a, b)
    assert prompt.text == f"B{a}{task.symbol}{b}E"


@pytest.mark.parametrize(
    ("typed", "message"),
    [
        ("47x23", "'X' in '47x23' is not in the vocabulary: use digits and one of"),
        ("47+", "is no prompt: write a number"),
        ("", "is no prompt"),
        ("4+7+2", "is no prompt"),
        ("147+2", "147 is out of range: operands go from 0 to 99"),
        ("1+" + "9" * 6000, "is out of range"),
        ("٤+2", "is not in the vocabulary"),
    ],
)
def test_an_invalid_prompt_is_refused_by_name(typed, message):
    with pytest.raises(PromptError) as error:
        parse_prompt(typed, DEFAULT, 2)
    assert message in str(error.value)
