"""A training run on disk: stopped, resumed, broken."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import cut

from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.runs import tensor_files
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session

CPU = torch.device("cpu")


def test_a_session_that_was_stopped_and_resumed_ends_in_the_same_weights(here, tiny):
    whole = Session.start(tiny, CPU, torch.float32, Path("whole"))
    whole.train()
    parts = Session.start(tiny, CPU, torch.float32, Path("parts"))
    report = parts.train(stop=lambda: parts.trainer.progress.epoch == 7)
    assert (report["status"], report["epochs"]) == ("interrupted", 7)
    report = Session.resume(Run.open(Path("parts")), None, CPU).train()
    assert (report["status"], report["epochs"]) == ("finished", tiny.epochs)
    for name in ("model.safetensors", "checkpoint.safetensors"):
        assert (here / "whole" / name).read_bytes() == (here / "parts" / name).read_bytes()
    epochs = [m["epoch"] for m in Run.open(Path("parts")).read_metrics()]
    assert epochs == list(range(1, tiny.epochs + 1))


def test_a_session_that_was_killed_before_its_first_step_can_be_resumed(here, tiny):
    started = Session.start(tiny, CPU, torch.float32, Path("run"))
    assert not started.run.metrics_file.exists()
    resumed = Session.resume(Run.open(Path("run")), None, CPU)
    assert resumed.train()["epochs"] == tiny.epochs


def test_a_session_that_stops_before_any_validation_says_how_far_it_came(here, tiny):
    recipe = replace(tiny, validate_every=5)
    session = Session.start(recipe, CPU, torch.float32, Path("run"))
    report = session.train(stop=lambda: session.trainer.progress.epoch == 2)
    assert report == {"status": "interrupted", "epochs": 2}
    assert not session.run.model_file.exists()
    assert Session.resume(Run.open(Path("run")), None, CPU).trainer.progress.epoch == 2


def test_a_session_whose_loss_breaks_keeps_the_best_weights(here, tiny):
    session = Session.start(tiny, CPU, torch.float32, Path("run"))

    def poison(record):
        if record.epoch == 3:
            session.trainer.engine.weights.vectors["layers"].data[0] = torch.nan

    message = (
        r"no longer a number in epoch 4 \(loss, ce, .*\): the best weights, of epoch [123], are"
    )
    with pytest.raises(ToytaskError, match=message):
        session.train(on_epoch=poison)
    report = session.run.read_report("train")
    assert (report["status"], report["epochs"]) == ("diverged", 3)
    weights, _ = tensor_files.read(session.run.model_file)
    assert all(weight.isfinite().all() for weight in weights.values())
    assert Session.resume(session.run, None, CPU).trainer.progress.epoch == 3


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_twenty_epochs_are_ten_and_ten_more(here, tiny, precision):
    recipe = replace(tiny, epochs=20, separate_epochs=0, batch_size=50)
    Session.start(recipe, CPU, precision, Path("whole")).train()
    Session.start(replace(recipe, epochs=10), CPU, precision, Path("parts")).train()
    Session.resume(Run.open(Path("parts")), 20, CPU).train()
    for name in ("model.safetensors", "checkpoint.safetensors", "config.json"):
        assert (here / "whole" / name).read_bytes() == (here / "parts" / name).read_bytes()


def test_an_epoch_limit_cannot_change_once_the_tasks_are_being_separated(here, tiny):
    Session.start(tiny, CPU, torch.float32, Path("run")).train()
    with pytest.raises(ToytaskError, match="run has begun to separate: its epochs are settled"):
        Session.resume(Run.open(Path("run")), 99, CPU)


def test_an_epoch_limit_cannot_fall_below_what_is_done_and_separating_takes(here, tiny):
    session = Session.start(replace(tiny, learnt_accuracy=1.0), CPU, torch.float32, Path("run"))
    session.train(stop=lambda: session.trainer.progress.epoch == 5)
    with pytest.raises(UsageError, match="epochs is 8: must be 9 or more, for run has done 5 and"):
        Session.resume(Run.open(Path("run")), 8, CPU)
    assert Session.resume(Run.open(Path("run")), 9, CPU).train()["epochs"] == 9


@pytest.mark.parametrize("spoil", [Path.unlink, cut])
def test_a_spoilt_checkpoint_is_one_line(here, tiny, spoil):
    session = Session.start(tiny, CPU, torch.float32, Path("run"))
    spoil(session.run.checkpoint_file)
    with pytest.raises(ToytaskError, match=r"checkpoint.safetensors.*train anew"):
        Session.resume(Run.open(Path("run")), None, CPU)
