import pytest
from hypothesis import given
from hypothesis import strategies as st

from toytask_cli.errors import UsageError
from toytask_cli.prompts import PromptError, parse_prompt
from toytask_cli.tasks import TASKS, find_tasks, largest_number

operand = st.integers(0, 99)
DEFAULT = find_tasks(["sum", "concat"])


@given(operand, operand)
def test_every_rule_says_what_its_name_says(a, b):
    truths = {
        "sum": str(a + b),
        "concat": f"{a}{b}",
        "diff": str(abs(a - b)),
        "max": str(max(a, b)),
        "min": str(min(a, b)),
        "swap": f"{b}{a}",
    }
    assert {name: task.answer(a, b) for name, task in TASKS.items()} == {
        name: f"B{truth}E" for name, truth in truths.items()
    }


def test_the_largest_number_is_that_of_a_single_answer_number():
    assert largest_number(DEFAULT, 2) == 198
    assert largest_number(find_tasks(["concat", "max"]), 2) == 99
    assert largest_number(DEFAULT, 3) == 1998


def test_a_misspelt_task_is_answered_with_a_suggestion():
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
    ("typed", "said"),
    [
        ("47x23", "'X' in '47x23' is not in the vocabulary: use digits and one of"),
        ("47+", "is no prompt: it takes a number"),
        ("", "is no prompt"),
        ("4+7+2", "is no prompt"),
        ("147+2", "147 is out of range: operands go from 0 to 99"),
        ("1+" + "9" * 6000, "is out of range"),
        ("٤+2", "is not in the vocabulary"),
    ],
)
def test_what_is_no_prompt_is_named(typed, said):
    with pytest.raises(PromptError) as error:
        parse_prompt(typed, DEFAULT, 2)
    assert said in str(error.value)
