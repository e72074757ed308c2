"""Accuracy, slices and error types of an evaluation add up, and equal slower ways to the same."""

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from memorised import memorised

from toytask_cli.analysis import evaluate as module
from toytask_cli.analysis.error_types import ERROR_TYPES, error_type
from toytask_cli.analysis.evaluate import answer_loss, evaluate, has_carry, score
from toytask_cli.analysis.generate import answer_texts, decode_greedily, teacher_forced
from toytask_cli.dataset import pad_to
from toytask_cli.runs.run import Run


@pytest.fixture
def run(trained):
    return Run.open(trained / "runs" / "01")


@pytest.fixture
def grid(run):
    return run.grid()


@pytest.fixture
def model(run, grid):
    return run.model(grid, torch.device("cpu"))


@pytest.mark.parametrize(
    ("prediction", "kind"),
    [
        ("", "nothing"), ("4723", "other_task"), ("71", "off_by_one"), ("69", "off_by_one"),
        ("75", "one_digit"), ("20", "one_digit"), ("7", "wrong_length"), ("170", "wrong_length"),
        ("23", "other"), ("7C", "other"), ("B7", "other"), ("70", "other_tokens"),
        ("071", "wrong_length"),
    ],
)  # fmt: skip
def test_a_wrong_answer_is_classified_by_the_first_type_that_fits(prediction, kind):
    assert error_type(prediction, "70", ["4723"]) == kind
    assert kind in ERROR_TYPES


@pytest.mark.parametrize(
    ("prediction", "target", "kind"),
    [("0", "01", "wrong_length"), ("100", "99", "off_by_one"), ("11", "01", "one_digit")],
)
def test_a_zero_in_front_is_a_digit_and_no_number_is_off_by_one_for_it(prediction, target, kind):
    assert error_type(prediction, target, []) == kind


@given(st.integers(0, 999), st.integers(0, 999))
def test_carry_is_what_adding_digit_by_digit_says(a, b):
    carry, rest, slow = 0, (a, b), False
    while any(rest):
        carry = int(rest[0] % 10 + rest[1] % 10 + carry >= 10)
        slow |= bool(carry)
        rest = (rest[0] // 10, rest[1] // 10)
    assert has_carry(torch.tensor([a]), torch.tensor([b])).item() == slow


def test_greedy_decoding_is_right_exactly_where_teacher_forcing_is(model, grid):
    for part in ("train", "test"):
        examples = grid.split(part)
        ids, _ = decode_greedily(model, examples.prompts, grid.answers.shape[-1] - 1)
        written, targets = answer_texts(grid, ids), answer_texts(grid, examples.answers)
        right = [text == target for text, target in zip(written, targets, strict=True)]
        assert right == score(model, examples).right.tolist()
    assert any(right)
    assert not all(right)


def test_greedy_probabilities_are_those_of_the_tokens_written(model, grid):
    example = grid.split("test")[torch.tensor([3])]
    ids, probabilities = decode_greedily(model, example.prompts, 3)
    answer = torch.tensor([[1]])
    for token, probability in zip(ids[0], probabilities[0], strict=True):
        chances = model(example.prompts, answer).logits[0, -1].softmax(dim=-1)
        if token != 0:
            assert probability.item() == pytest.approx(chances[token].item(), rel=1e-5)
        answer = torch.cat([answer, chances.argmax().view(1, 1)], dim=1)


@pytest.mark.parametrize(("task", "steps"), [(0, 2), (1, 3)], ids=["sum", "concat"])
def test_writing_ends_with_the_last_answer(task, steps, monkeypatch):
    model, grid = memorised("sum", "concat")
    examples = grid.matched(torch.arange(grid.n_pairs))[task]
    decode, calls = model.decode, []
    monkeypatch.setattr(model, "decode", lambda *args: calls.append(args) or decode(*args))
    ids, _ = decode_greedily(model, examples.prompts, 5)
    assert len(calls) == steps
    assert torch.equal(ids, pad_to(examples.answers[:, 1:], 5))


def test_the_report_adds_up(model, grid):
    report, correctness = evaluate(model, grid, "test", None, seed=0)
    assert report.n == sum(task.n for task in report.tasks.values()) == len(grid.split("test"))
    for name, task in report.tasks.items():
        wrong = [w for w in report.wrong if w.task == name]
        assert sum(task.error_types.values()) == len(wrong) == round(task.n * (1 - task.accuracy))
        for one, other in (
            ("carry", "no_carry"),
            ("merged_tokens", "no_merged_tokens"),
            ("unseen_token", "no_unseen_token"),
        ):
            slices = [task.slices[one], task.slices[other]]
            assert sum(s.n for s in slices if s) == task.n
            hits = sum(s.n * s.accuracy for s in slices if s)
            assert hits == pytest.approx(task.n * task.accuracy)
    assert report.greedy.agree == report.greedy.n
    assert all(w.prediction != w.target for w in report.wrong)
    assert (correctness == 1).sum() == round(report.n * report.accuracy)
    assert (correctness >= 0).sum() == report.n


def test_of_many_wrong_answers_some_are_listed_and_all_are_counted(model, grid, monkeypatch):
    everything, _ = evaluate(model, grid, "test", None, seed=0)
    monkeypatch.setattr(module, "WRONG_LISTED", 3)
    some, _ = evaluate(model, grid, "test", None, seed=0)
    assert some.tasks == everything.tasks
    for name, task in some.tasks.items():
        n = sum(task.error_types.values())
        listed = [w for w in some.wrong if w.task == name]
        assert min(n, 2) <= len(listed) <= 3
        assert set(listed) <= {w for w in everything.wrong if w.task == name}


def test_a_limit_draws_a_sample_that_the_seed_decides(model, grid):
    drawn = [(evaluate(model, grid, "test", 20, seed)[1] >= 0) for seed in (0, 0, 1)]
    assert drawn[0].sum() == 20
    assert torch.equal(drawn[0], drawn[1])
    assert not torch.equal(drawn[0], drawn[2])


def test_scores_do_not_depend_on_the_batches(model, grid):
    examples = grid.split("test")
    batches = teacher_forced(model, examples, batch_size=7)
    losses = torch.cat([answer_loss(out.logits, batch.answers) for batch, out in batches])
    torch.testing.assert_close(losses, score(model, examples).loss)
