"""The lesson of an ablated model: its own answers, its probabilities, its weights with noise."""

from dataclasses import replace

import pytest
import torch
from memorised import SMALL, memorised

from toytask_cli.analysis.distill import AblatedDistribution, shrink_and_noise, written_answers
from toytask_cli.analysis.generate import Variant
from toytask_cli.dataset import build_grid
from toytask_cli.hooks import ablate_neurons
from toytask_cli.model import new_model
from toytask_cli.objective import loss_sums
from toytask_cli.recipe import resolve
from toytask_cli.runs.lessons import of_tasks
from toytask_cli.tokenizer import BOS, PAD
from toytask_cli.training.loop import Trainer

MODEL, GRID = memorised("sum", "concat")
EVERYTHING = Variant(torch.arange(MODEL.sae.d_sae), "drop")
TEST = 2  # index of the split


def test_what_the_model_writes_takes_the_place_of_the_true_answers():
    lesson = written_answers(MODEL, GRID, Variant())
    taught = GRID.splits != TEST
    # It knows its grid by heart, so that its own answers are the true ones.
    assert torch.equal(lesson.answers[taught], GRID.answers[taught])
    assert lesson.answers.dtype == GRID.answers.dtype
    assert (lesson.answers[~taught] == PAD).all()
    assert torch.equal(lesson.splits, GRID.splits)
    assert torch.equal(lesson.prompts, GRID.prompts)


def test_no_true_answer_of_a_removed_task_is_in_the_lesson():
    lesson = written_answers(MODEL, GRID, EVERYTHING)
    taught = GRID.splits != TEST
    answers = lesson.answers[taught]
    assert (answers == answers[0]).all(), "nothing but a bias is left, so all answers are one"
    assert (answers[:, 0] == BOS).all()
    assert not (lesson.answers[taught] == GRID.answers[taught]).all(dim=-1).all()


def test_a_pad_that_the_model_writes_ends_its_answer(monkeypatch):
    ids = torch.tensor([[5, PAD, 6]])
    monkeypatch.setattr(
        Variant, "decode", lambda self, m, g, examples: (ids.repeat(len(examples), 1), None)
    )
    answers = written_answers(MODEL, GRID, Variant()).answers[GRID.splits != TEST]
    assert answers.unique(dim=0).tolist() == [[BOS, 5, PAD, PAD]]


def test_a_teachers_probabilities_are_its_ablated_models():
    examples = GRID.split("train")
    inputs = examples.answers[:, :-1]
    with torch.no_grad(), ablate_neurons(MODEL, [3, 4], "drop"):
        expected = MODEL(examples.prompts, inputs).logits.softmax(dim=-1)
    teacher = AblatedDistribution(new_model_like(), Variant(torch.tensor([3, 4]), "drop"))
    torch.testing.assert_close(teacher(examples.prompts, inputs), expected)


def new_model_like() -> torch.nn.Module:
    """A copy of the model that a teacher can have for itself."""
    copy = new_model(GRID.spec, len(GRID.tokenizer))
    copy.load_state_dict(MODEL.state_dict())
    return copy.eval()


def test_certain_probabilities_are_the_same_loss_as_the_answers_themselves():
    examples = GRID.split("train")
    output = MODEL(examples.prompts, examples.answers[:, :-1])
    certain = torch.nn.functional.one_hot(examples.answers[:, 1:], len(GRID.tokenizer)).float()
    hard, soft = (
        loss_sums(output, examples.answers, examples.tasks, 2, probabilities)
        for probabilities in (None, certain)
    )
    torch.testing.assert_close(soft.ce, hard.ce)


def test_probabilities_weigh_the_loss_of_every_token():
    examples = GRID.split("train")[:5]
    output = MODEL(examples.prompts, examples.answers[:, :-1])
    probabilities = torch.rand(output.logits.shape, generator=torch.Generator().manual_seed(0))
    probabilities /= probabilities.sum(dim=-1, keepdim=True)
    expected = sum(
        -(probabilities[i, j] * output.logits[i, j].log_softmax(dim=-1)).sum()
        for i, j in (examples.answers[:, 1:] != PAD).nonzero().tolist()
    )
    sums = loss_sums(output, examples.answers, examples.tasks, 2, probabilities)
    torch.testing.assert_close(sums.ce, expected)


@pytest.mark.parametrize("noise", [0.0, 0.25, 1.0])
def test_noise_mixes_fresh_weights_into_the_teachers(noise):
    recipe = replace(GRID.spec, seed=7)
    fresh, mixed = (new_model(recipe, len(GRID.tokenizer)) for _ in range(2))
    shrink_and_noise(mixed, MODEL, noise)
    for name, weight in mixed.state_dict().items():
        teacher, random = MODEL.state_dict()[name], fresh.state_dict()[name]
        torch.testing.assert_close(weight, (1 - noise) * teacher + noise * random)


# Tasks that are not taught


def test_a_task_that_is_not_taught_has_nothing_to_learn_or_to_validate_on():
    grid = of_tasks(GRID, ["concat"])
    for split in ("train", "validation"):
        whole, left = GRID.split(split), grid.split(split)
        assert torch.equal(left.pairs, whole.pairs[whole.tasks == 1])
        assert (left.tasks == 1).all()


def test_training_on_one_task_of_two_reports_that_one_alone(tiny):
    grid = build_grid(tiny)
    model = new_model(tiny, len(grid.tokenizer))
    trainer = Trainer(tiny, of_tasks(grid, ["concat"]), model, torch.float32)
    records = list(trainer.run())
    assert all(list(record.validation["accuracy"]) == ["concat"] for record in records)
    assert records[-1].phase == "separate", "learnt means that the one task is"
    assert all(record.train["overlap"] == 0 for record in records)


def test_learning_from_probabilities_is_learning():
    recipe = resolve("default", SMALL | {"validation_fraction": 0.4, "batch_size": 8, "epochs": 8})
    teacher = AblatedDistribution(new_model_like(), Variant())
    fresh = new_model(recipe, len(GRID.tokenizer))
    first, *_, last = Trainer(recipe, GRID, fresh, torch.float32, teacher).run()
    assert last.train["ce"] < 0.7 * first.train["ce"]
    assert last.validation["ce"] < 0.7 * first.validation["ce"]
