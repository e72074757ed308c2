from dataclasses import fields, replace
from itertools import chain, repeat, zip_longest

import pytest
import torch
from conftest import SAE_WITH

from toytask_cli.dataset import build_grid
from toytask_cli.errors import ToytaskError
from toytask_cli.model import new_model
from toytask_cli.objective import LOSS_TERMS, Coefficients
from toytask_cli.recipe import SAE_KINDS, Recipe, resolve
from toytask_cli.training.loop import Trainer, read_back
from toytask_cli.training.schedule import LEARN, SEPARATE, Phase, is_over, next_phase
from toytask_cli.training.validation import EPOCH_METRICS


def make_trainer(recipe: Recipe, precision=torch.float32) -> Trainer:
    grid = build_grid(recipe)
    return Trainer(recipe, grid, new_model(recipe, len(grid.tokenizer)), precision)


def weights(trainer: Trainer) -> torch.Tensor:
    return torch.cat([weight.flatten() for weight in trainer.engine.weights.state_dict().values()])


# The schedule


def test_the_second_phase_begins_when_every_task_is_learnt():
    recipe = resolve("default", {"epochs": 100, "separate_epochs": 30, "learnt_accuracy": 0.9})
    learn = Phase(LEARN, 0)
    assert next_phase(learn, 7, recipe, [0.95, 0.89]) == learn
    assert next_phase(learn, 7, recipe, [0.95, 0.90]) == Phase(SEPARATE, 7)


def test_the_second_phase_begins_at_the_latest_when_its_epochs_are_all_that_is_left():
    recipe = resolve("default", {"epochs": 100, "separate_epochs": 30})
    assert next_phase(Phase(LEARN, 0), 69, recipe, [0.1]).name == LEARN
    assert next_phase(Phase(LEARN, 0), 70, recipe, [0.1]) == Phase(SEPARATE, 70)


@pytest.mark.parametrize("separate", [0, 2, 3, 40])
def test_three_epochs_are_three_at_most(tiny, separate):
    recipe = replace(tiny, epochs=3, separate_epochs=separate, learnt_accuracy=1.0)
    assert len(list(make_trainer(recipe).run())) == 3


def test_the_rate_warms_up_stays_and_then_falls_to_zero():
    recipe = resolve("default", {"lr": 1.0, "warmup_steps": 4, "separate_epochs": 5, "epochs": 50})
    learn, separate = Phase(LEARN, 0), Phase(SEPARATE, 20)
    assert [learn.rate(recipe, step, 10) for step in range(6)] == [0.25, 0.5, 0.75, 1, 1, 1]
    rates = [separate.rate(recipe, step, 10) for step in range(50)]
    assert rates[0] == 1
    assert rates == sorted(rates, reverse=True)
    assert rates[-1] == pytest.approx(1 / 50)
    assert is_over(separate, 25, recipe)
    assert not is_over(separate, 24, recipe)


def test_no_run_is_over_before_its_last_phase():
    recipe = resolve("default", {"epochs": 5, "separate_epochs": 10})
    assert not is_over(Phase(LEARN, 0), 0, recipe)
    once = resolve("default", {"epochs": 5, "separate_epochs": 0})
    assert [is_over(Phase(LEARN, 0), epoch, once) for epoch in (4, 5)] == [False, True]


def test_stopped_in_its_first_epoch_a_run_is_not_over(tiny):
    trainer = make_trainer(replace(tiny, epochs=3, separate_epochs=40))
    assert list(trainer.run(stop=lambda: True)) == []
    assert (trainer.progress.epoch, trainer.is_over) == (0, False)


def test_separating_turns_beta_on_and_alpha_up():
    recipe = resolve("default", {"alpha": 2, "beta": 0.3, "separate_alpha": 7})
    assert Phase(LEARN, 0).coefficients(recipe) == (2, 0)
    assert Phase(SEPARATE, 9).coefficients(recipe) == (7, 0.3)


# The run


def test_training_lowers_the_loss_and_pulls_the_tasks_apart(tiny):
    records = list(make_trainer(replace(tiny, epochs=40, separate_epochs=20)).run())
    assert records[-1].train["ce"] < 0.5 * records[0].train["ce"]
    turn = next(r for r in records if r.phase == SEPARATE)
    assert records[-1].train["overlap"] < 0.5 * turn.train["overlap"]


def test_the_same_seed_gives_the_same_bytes(tiny):
    one, same = make_trainer(tiny), make_trainer(tiny)
    assert [replace(r, seconds=0) for r in one.run()] == [replace(r, seconds=0) for r in same.run()]
    assert torch.equal(weights(one), weights(same))


CHANGES = {
    "tasks": ("concat", "sum"), "digits": 2, "split_by": "example", "train_fraction": 0.4,
    "validation_fraction": 0.1, "split_seed": 9, "seed": 9, "d_model": 16, "n_heads": 4,
    "d_ff": 32, "sae": "absolute", "d_sae": 24, "k": 3, "target_l0": 3.0,
    "token_scale": 0.2, "position_scale": 0.2, "alpha": 0.5, "separate_alpha": 0.5,
    "lambda_": 0.1, "beta": 0.3, "optimizer": "adamw", "lr": 1e-3, "weight_decay": 0.5,
    "muon_lr": 1e-2, "muon_weight_decay": 0.5, "clip": 0.1, "batch_size": 8,
    "warmup_steps": 3, "epochs": 5, "separate_epochs": 1, "learnt_accuracy": 0.0,
    "validate_every": 3,
}  # fmt: skip


@pytest.mark.parametrize("name", [f.name for f in fields(Recipe)])
@pytest.mark.usefixtures("absolute_sae")
def test_every_field_of_the_recipe_changes_the_outcome(tiny, name):
    kind = SAE_WITH.get(name, "relu")
    short = {"epochs": 4, "separate_epochs": 2, "learnt_accuracy": 1.0, "batch_size": 50}
    recipe = replace(tiny, sae=kind, **short)
    changed = replace(recipe, **{name: CHANGES[name]})
    runs = (make_trainer(each).run() for each in (recipe, changed))
    assert any(
        one is None or other is None or replace(one, seconds=0) != replace(other, seconds=0)
        for one, other in zip_longest(*runs)
    )


def test_an_epoch_is_read_back_once(tiny, monkeypatch):
    trainer = make_trainer(tiny)
    reads = []
    for name in ("tolist", "item", "__float__", "__int__", "__bool__"):
        read = getattr(torch.Tensor, name)
        monkeypatch.setattr(
            torch.Tensor, name, lambda *args, read=read: reads.append(read) or read(*args)
        )
    records = list(trainer.run())
    assert all(record.validation for record in records)
    assert len(reads) == len(records)


def test_the_best_weights_are_those_of_the_lowest_validation_loss_of_the_last_phase(tiny):
    trainer = make_trainer(tiny)
    kept = {}
    records = []
    for record in trainer.run():
        records.append(record)
        kept[record.epoch] = trainer.engine.weights.state_dict()
    last = [r for r in records if r.phase == SEPARATE]
    lowest = min(last, key=lambda r: r.validation["loss"])
    assert trainer.progress.best_epoch == lowest.epoch
    assert all(torch.equal(trainer.best[n], t) for n, t in kept[lowest.epoch].items())


def test_a_run_that_was_stopped_and_resumed_ends_in_the_same_bytes(tiny):
    whole = make_trainer(tiny)
    records = list(whole.run())
    assert {r.phase for r in records} == {LEARN, SEPARATE}
    for stop_after in (1, 7, 10):
        first = make_trainer(tiny)
        limit = stop_after * first.steps_per_epoch + 1  # in the middle of the next epoch
        done = list(first.run(stop=chain(repeat(False, limit), repeat(True)).__next__))
        assert len(done) == stop_after

        second = make_trainer(replace(tiny))
        second.load_state(*first.finished)
        rest = list(second.run())
        assert [r.epoch for r in done + rest] == [r.epoch for r in records]
        assert torch.equal(weights(second), weights(whole))
        assert all(torch.equal(second.best[n], t) for n, t in whole.best.items())


def test_a_stop_goes_back_to_the_last_finished_epoch(tiny):
    trainer = make_trainer(tiny)
    records = trainer.run(stop=lambda: trainer.progress.epoch == 2)
    next(records)
    next(records)
    before = weights(trainer)
    assert list(records) == []
    assert torch.equal(weights(trainer), before)
    assert trainer.progress.epoch == 2


def test_a_loss_that_is_no_number_ends_the_run_with_advice(tiny):
    trainer = make_trainer(replace(tiny, lr=1e30, clip=0.0, warmup_steps=0))
    with pytest.raises(
        ToytaskError, match="no longer a number (on validation )?in epoch .*try a lower --lr"
    ):
        list(trainer.run())


def test_parameters_that_want_no_gradient_stay_as_they_are(tiny):
    grid = build_grid(tiny)
    model = new_model(tiny, len(grid.tokenizer))
    model.requires_grad_(False).sae.requires_grad_(True)
    before = model.state_dict()
    trainer = Trainer(tiny, grid, model, torch.bfloat16)
    list(trainer.run())
    after = trainer.engine.weights.state_dict()
    changed = {name for name in before if not torch.equal(after[name], before[name])}
    assert changed == {name for name in before if name.startswith("sae.")}
    assert trainer.best.keys() == before.keys()


def test_bfloat16_stays_close_to_float32(tiny):
    losses = []
    for precision in (torch.float32, torch.bfloat16):
        *_, last = make_trainer(replace(tiny, epochs=6), precision).run()
        losses.append(last.train["loss"])
    assert losses[0] == pytest.approx(losses[1], rel=0.05)
    assert losses[0] != losses[1]


@pytest.mark.parametrize("sae", SAE_KINDS)
def test_validation_means_do_not_depend_on_the_batches(tiny, sae):
    trainer = make_trainer(replace(tiny, sae=sae))
    examples = build_grid(tiny).split("validation")
    cuts = [examples], [batch.cut() for batch in examples.batches(7)]
    coefficients = Coefficients(1.0, 0.1)
    whole, batched = (read_back(trainer.engine.validate(cut, coefficients))[0] for cut in cuts)
    assert list(whole) == [*LOSS_TERMS, *EPOCH_METRICS]
    assert batched == {name: pytest.approx(value, rel=1e-5) for name, value in whole.items()}
