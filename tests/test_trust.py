"""No file is trusted: each promise of `runs` about what it reads and where it writes."""

import json
import shutil
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import TINY, Command

from toytask_cli.errors import ToytaskError
from toytask_cli.model import MAX_WEIGHTS
from toytask_cli.recipe import resolve
from toytask_cli.runs import files, tensor_files
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A run that was stopped in its second phase, with a report and an ablation."""
    tiny = resolve("default", TINY)
    root = tmp_path_factory.mktemp("stopped") / "run"
    session = Session.start(tiny, CPU, torch.float32, root)
    session.train(stop=lambda: session.trainer.progress.epoch == tiny.epochs - 1)
    assert session.trainer.progress.phase.name == "separate"
    session.run.write_ablation("some", {"neurons": [1, 2], "error": "keep"})
    return root


@pytest.fixture
def run(stopped: Path, here: Path) -> Run:
    """A copy of the run, named `run`."""
    return Run.open(Path(shutil.copytree(stopped, "run")))


def load(path: Path = Path("run")) -> object:
    run = Run.open(path)
    return run.model(run.grid(), CPU)


def edit(path: Path, change: Callable[[dict], object]) -> None:
    values = json.loads(path.read_text())
    change(values)
    path.write_text(json.dumps(values))


def edit_recipe(path: Path, **values: object) -> None:
    """Writes other values into a configuration as this program would, checksum included."""
    config = files.read_json(path)
    config["recipe"].update(values)
    files.write_json(path, config)


# Weights


def test_weights_other_than_those_that_training_reported_are_refused(run):
    weights = {n: t + 1e-3 for n, t in tensor_files.read(run.model_file)[0].items()}
    run.write_weights(weights)  # as whole as weights can be
    with pytest.raises(ToytaskError, match=r"train.json: made from other weights.*--resume run"):
        load()
    (run.path / "reports" / "train.json").unlink()
    assert load()


@pytest.mark.parametrize(("key", "value"), [("split_seed", 9), ("n_heads", 1), ("lr", 0.5)])
def test_a_recipe_other_than_the_weights_own_is_refused_though_it_fits(run, key, value):
    edit_recipe(run.config_file, **{key: value})
    with pytest.raises(ToytaskError, match=r"model.safetensors: does not fit run/config.json"):
        load()
    with pytest.raises(ToytaskError, match=r"run/config.json was changed since .*checkpoint"):
        Session.resume(Run.open(run.path), None, CPU)


def test_a_configuration_that_was_changed_is_refused(run):
    edit(run.config_file, lambda config: config["recipe"].update(lr=0.5))
    with pytest.raises(ToytaskError, match=r"config.json: changed since it was written: .*anew"):
        load()


def test_no_memory_is_taken_for_weights_that_are_not_there(run):
    edit_recipe(run.config_file, d_sae=10**9)
    with pytest.raises(ToytaskError, match=r"model.safetensors: does not fit run/config.json"):
        load()


@pytest.mark.parametrize("field", ["d_model", "d_ff", "d_sae"])
def test_a_model_that_no_memory_holds_is_one_line(toytask: Command, here, field):
    option = f"--{field.replace('_', '-')}"
    result = toytask("train", "--digits", "1", option, 4 * MAX_WEIGHTS, "--out", "run")
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "weights is too large (100,000,000 at most): lower d_model" in result.err
    assert not Path("run").exists()


def test_weights_that_overflow_are_told_before_anything_is_measured(toytask: Command, run):
    weights, _ = tensor_files.read(run.model_file)
    run.write_weights({n: t * 1e30 for n, t in weights.items()})
    (run.path / "reports" / "train.json").unlink()
    for command in ("eval", "chat"):
        result = toytask(command, "run")
        assert (result.code, result.out) == (1, "")
        assert "run/model.safetensors gives numbers that are not finite" in result.err
    assert not (run.path / "reports" / "eval.json").exists()


def test_a_number_that_is_not_finite_reaches_no_report(run):
    with pytest.raises(ToytaskError, match="run/model.safetensors gives numbers that are not"):
        run.write_report("eval", {"tasks": {"sum": {"ce_loss": float("inf")}}})
    with pytest.raises(ToytaskError, match="run/model.safetensors gives numbers that are not"):
        run.write_tensors("importance", {"importance": torch.tensor([torch.nan])})
    assert {p.name for p in (run.path / "reports").iterdir()} == {"train.json"}


# Reports and ablations


def test_a_report_that_was_changed_is_refused(run):
    edit(run.path / "ablations" / "some.json", lambda report: report["neurons"].append(3))
    with pytest.raises(ToytaskError, match="some.json: changed since it was written"):
        run.read_ablation("some")


def test_an_ablation_written_by_hand_is_read(run):
    by_hand = {"schema_version": 2, "weights_sha256": run.weights_sha256()}
    path = run.path / "ablations" / "mine.json"
    path.write_text(json.dumps({**by_hand, "neurons": [3, 1], "error": "drop"}))
    assert run.read_ablation("mine")["neurons"] == [3, 1]


@pytest.mark.parametrize(
    ("neurons", "error", "message"),
    [
        ([48], "keep", "there is no neuron 48"),
        ([-1], "keep", "there is no neuron -1"),
        ([10**400], "keep", "there is no neuron 1000"),
        ([True], "keep", "neurons is not a list of integers"),
        ([1], "kept", "did you mean 'keep'"),
    ],
)
def test_an_ablation_that_fits_no_such_model_names_its_file(run, neurons, error, message):
    run.write_ablation("some", {"neurons": neurons, "error": error})
    with pytest.raises(ToytaskError, match=rf"ablations/some.json: .*{message}") as raised:
        run.read_ablation("some")
    assert raised.value.exit_code == 1
    assert len(str(raised.value)) < 300


def test_a_file_whose_name_is_none_of_an_ablation_is_passed_over(run):
    (run.path / "ablations" / "\x1b[31m\n.json").write_text("{}")
    assert run.ablation_names() == ["some"]


# Going on


def test_epochs_that_were_edited_are_refused(run):
    lines = run.metrics_file.read_text().splitlines()
    run.metrics_file.write_text("\n".join([*lines[:-1], lines[-1].replace("0.", "1.")]))
    with pytest.raises(ToytaskError, match=r"run/metrics.jsonl was changed since .*checkpoint"):
        Session.resume(run, None, CPU)


def test_what_follows_the_checkpoint_in_the_metrics_is_not_even_read(run, tiny):
    with run.metrics_file.open("a") as file:
        file.write('{"epoch": 12, "phase": "separ')  # as when the power went
    assert Session.resume(run, None, CPU).train()["status"] == "finished"
    assert len(run.read_metrics()) == tiny.epochs


def test_the_limit_of_epochs_is_open_while_learning_and_settled_after_it(here, tiny, run):
    learning = Session.start(tiny, CPU, torch.float32, Path("learning"))
    learning.train(stop=lambda: learning.trainer.progress.epoch == 1)
    for path in (Path("run"), Path("learning")):
        recipe = replace(Run.open(path).config.recipe, epochs=20)
        opened = Run.open(path)
        opened.config = replace(opened.config, recipe=recipe)
        opened.write_config()
    assert Session.resume(Run.open(Path("learning")), None, CPU).trainer.recipe.epochs == 20
    with pytest.raises(ToytaskError, match=r"run/config.json was changed since"):
        Session.resume(Run.open(Path("run")), None, CPU)


@pytest.mark.parametrize(
    "change",
    [
        lambda state: state.update(generator=state["generator"][:9]),
        lambda state: state.update({"weights.layers": state["weights.layers"][:1]}),
        lambda state: state.pop("best.readout.bias"),
        lambda state: state.update(more=torch.zeros(1)),
    ],
)
def test_a_state_that_does_not_fit_is_never_stretched_to_fit(run, change):
    state, metadata = tensor_files.read(run.checkpoint_file)
    change(state)
    tensor_files.write(run.checkpoint_file, state, metadata)
    with pytest.raises(ToytaskError, match=r"checkpoint.safetensors: does not fit run/config.json"):
        Session.resume(run, None, CPU)


@pytest.mark.parametrize(
    "change",
    [
        {"epoch": "3"}, {"epoch": -1}, {"epoch": True}, {"phase": None}, {"phase": {"name": "x"}},
        {"phase": {"name": "learn", "start": 99}}, {"best_epoch": 99}, {"best_loss": "low"},
        {"colour": 1},
    ],
)  # fmt: skip
def test_progress_that_cannot_be_is_refused(run, change):
    state, metadata = tensor_files.read(run.checkpoint_file)
    metadata["progress"].update(change)
    tensor_files.write(run.checkpoint_file, state, metadata)
    with pytest.raises(ToytaskError, match=r"checkpoint.safetensors: progress .*train anew"):
        Session.resume(run, None, CPU)


# Writing


@pytest.mark.parametrize("folder", ["reports", "ablations", "figures"])
def test_nothing_is_written_through_a_link(run, here, folder):
    (run.path / folder).rename(here / "elsewhere")
    (run.path / folder).symlink_to(here / "elsewhere")
    before = {p: p.read_bytes() for p in (here / "elsewhere").iterdir()}
    write = {
        "reports": lambda: run.write_report("eval", {}),
        "ablations": lambda: run.write_ablation("other", {}),
        "figures": lambda: run.write_figure("losses", b""),
    }[folder]
    with pytest.raises(ToytaskError, match=f"run/{folder} is a link, through which nothing is"):
        write()
    assert {p: p.read_bytes() for p in (here / "elsewhere").iterdir()} == before


def test_a_linked_file_is_replaced_and_what_it_led_to_stays(run, here):
    (here / "elsewhere.json").write_text("mine")
    (run.path / "reports" / "eval.json").symlink_to(here / "elsewhere.json")
    run.write_report("eval", {"accuracy": 1.0})
    assert (here / "elsewhere.json").read_text() == "mine"
    assert run.read_report("eval")["accuracy"] == 1.0


def test_a_file_in_place_of_a_folder_is_one_line(run):
    (run.path / "figures").rmdir()
    (run.path / "figures").write_text("")
    with pytest.raises(ToytaskError, match="cannot write run/figures .File exists."):
        run.write_figure("losses", b"")
