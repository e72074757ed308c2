import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from toytask_cli.analysis.prediction import score
from toytask_cli.dataset import build_grid
from toytask_cli.device import find_device, find_precision
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.model import new_model
from toytask_cli.runs import json_files, tensor_files
from toytask_cli.runs.config import Config
from toytask_cli.runs.datafile import read_spec, write_data
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session

CPU = torch.device("cpu")


@pytest.fixture
def config(tiny) -> Config:
    return Config.here(tiny, CPU, torch.float32)


def new_run(config: Config, out: Path | None = None) -> Run:
    run = Run.create(config, out)
    run.write_config()
    return run


@pytest.fixture
def run(here, config) -> Run:
    """A run with fresh weights."""
    run = new_run(config)
    grid = run.grid()
    weights = new_model(config.recipe, len(grid.tokenizer)).state_dict()
    tensor_files.write(run.model_file, weights)
    return run


def all_files(place: Path) -> dict[Path, bytes]:
    return {p: p.read_bytes() for p in place.rglob("*") if p.is_file()}


# Directories


def test_runs_take_the_next_free_number_and_nobodys(here, config):
    (here / "runs" / "07").mkdir(parents=True)
    (here / "runs" / "notes").mkdir()
    assert [new_run(config).path.name for _ in range(2)] == ["08", "09"]
    assert Run.open(None).path == Path("runs/09")


def test_the_hundredth_run_is_newer_than_the_ninety_ninth(here, config):
    (here / "runs" / "99").mkdir(parents=True)
    assert new_run(config).path.name == "100"
    assert Run.open(None).path.name == "100"


def test_without_a_run_of_ones_own_the_reference_is_the_default(here, config):
    new_run(config, Path("runs/reference"))
    assert Run.open(None).path == Path("runs/reference")


def test_a_directory_that_is_not_empty_is_refused_and_left_as_it_was(here, config):
    (here / "mine").mkdir()
    (here / "mine" / "thesis.txt").write_text("years of work")
    with pytest.raises(ToytaskError, match="mine is not empty"):
        Run.create(config, Path("mine"))
    assert [p.name for p in (here / "mine").iterdir()] == ["thesis.txt"]


# Files


@given(content=st.binary(max_size=300))
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_no_bytes_make_a_reader_crash(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    for read in (json_files.read, tensor_files.read, tensor_files.read_metadata):
        with pytest.raises(ToytaskError, match=r"file .*: make it again|file .*make it again"):
            read(path, "make it again")


@given(
    tensors=st.dictionaries(
        st.text(st.characters(codec="ascii", categories=["L", "N"]), min_size=1),
        st.lists(st.floats(width=32, allow_nan=False, allow_infinity=False), max_size=5).map(
            torch.tensor
        ),
    ),
)
@settings(suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_tensors_survive_a_round_trip_bit_for_bit(tmp_path, tensors):
    tensor_files.write(tmp_path / "t", tensors)
    back = tensor_files.read(tmp_path / "t", "")
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensors[name]) for name in tensors)


def test_a_write_that_fails_leaves_the_old_file_and_nothing_beside_it(tmp_path, monkeypatch):
    path = tmp_path / "report.json"
    json_files.write(path, {"a": 1})
    before = all_files(tmp_path)
    monkeypatch.setattr(Path, "replace", lambda *_: (_ for _ in ()).throw(KeyboardInterrupt))
    with pytest.raises(KeyboardInterrupt):
        json_files.write(path, {"a": 2})
    assert all_files(tmp_path) == before


def test_numbers_that_are_not_finite_are_never_written(tmp_path):
    with pytest.raises(ValueError, match="not JSON compliant"):
        json_files.write(tmp_path / "x.json", {"loss": float("nan")})
    assert all_files(tmp_path) == {}


# Reading a run


def test_a_saved_model_gives_equal_logits_bit_for_bit(run):
    grid = run.grid()
    fresh = new_model(run.config.recipe, len(grid.tokenizer))
    examples = grid.part("test")
    assert torch.equal(
        score(run.model(grid, CPU), examples).loss, score(fresh.eval(), examples).loss
    )


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-10])


def change(key: str, value: object) -> object:
    def edit(path: Path) -> None:
        values = json.loads(path.read_text())
        path.write_text(json.dumps({**values, key: value}))

    return edit


@pytest.mark.parametrize(
    ("name", "spoil", "said"),
    [
        ("config.json", Path.unlink, "cannot read .*config.json"),
        ("config.json", cut, "config.json is cut or no JSON"),
        ("config.json", change("schema_version", 99), "schema_version 99.*install a newer"),
        ("config.json", change("colour", 1), "config.json: unknown key 'colour'"),
        ("config.json", change("recipe", {}), "config.json: missing key"),
        ("config.json", change("threads", "four"), "config.json: threads is no int"),
        (
            "model.safetensors",
            Path.unlink,
            "no model.safetensors yet: wait for its end, go on with",
        ),
        ("model.safetensors", cut, "model.safetensors is cut or no safetensors"),
        ("model.safetensors", lambda p: p.write_text("{}"), "is cut or no safetensors"),
        (
            "model.safetensors",
            lambda p: tensor_files.write(p, {"foreign": torch.zeros(3)}),
            "model.safetensors does not fit .*config.json",
        ),
    ],
)
def test_a_spoilt_run_is_one_line_and_nothing_is_written(run, name, spoil, said):
    spoil(run.path / name)
    before = all_files(run.path)
    with pytest.raises(ToytaskError, match=said) as error:
        opened = Run.open(run.path)
        opened.model(opened.grid(), CPU)
    assert "\n" not in str(error.value)
    assert all_files(run.path) == before


def test_a_missing_run_is_answered_with_those_that_are_there(run):
    with pytest.raises(ToytaskError, match="no run at runs/44: there are runs/01"):
        Run.open(Path("runs/44"))


def test_without_any_run_the_next_step_is_training(here):
    with pytest.raises(ToytaskError, match="toytask train"):
        Run.open(None)


def test_a_report_made_from_other_weights_is_refused(run):
    run.write_report("eval", {"accuracy": 1.0})
    assert run.read_report("eval")["accuracy"] == 1.0
    weights = tensor_files.read(run.model_file, "")
    tensor_files.write(run.model_file, {n: t + 1 for n, t in weights.items()})
    with pytest.raises(ToytaskError, match=r"eval.json was made from other weights.*toytask eval"):
        run.read_report("eval")


# Sessions


def test_a_session_that_was_stopped_and_resumed_ends_in_the_same_weights(here, tiny):
    whole = Session.start(tiny, CPU, torch.float32, Path("whole"))
    whole.follow()
    parts = Session.start(tiny, CPU, torch.float32, Path("parts"))
    report = parts.follow(stop=lambda: parts.trainer.progress.epoch == 7)
    assert (report["status"], report["epochs"]) == ("interrupted", 7)
    report = Session.resume(Run.open(Path("parts")), None, CPU).follow()
    assert (report["status"], report["epochs"]) == ("finished", tiny.epochs)
    for name in ("model.safetensors", "checkpoint.safetensors"):
        assert (here / "whole" / name).read_bytes() == (here / "parts" / name).read_bytes()
    epochs = [m["epoch"] for m in Run.open(Path("parts")).read_metrics()]
    assert epochs == list(range(1, tiny.epochs + 1))


def test_a_session_that_stops_before_any_validation_says_how_far_it_came(here, tiny):
    recipe = replace(tiny, validate_every=5)
    session = Session.start(recipe, CPU, torch.float32, Path("run"))
    report = session.follow(stop=lambda: session.trainer.progress.epoch == 2)
    assert report == {"status": "interrupted", "epochs": 2}
    assert not session.run.model_file.exists()
    assert Session.resume(Run.open(Path("run")), None, CPU).trainer.progress.epoch == 2


def test_a_session_whose_loss_breaks_keeps_the_best_weights(here, tiny):
    session = Session.start(tiny, CPU, torch.float32, Path("run"))

    def poison(record):
        if record.epoch == 3:
            session.trainer.engine.vectors["layers"].data[0] = torch.nan

    message = (
        r"no longer a number in epoch 4 \(loss, ce, .*\): the best weights, of epoch [123], are"
    )
    with pytest.raises(ToytaskError, match=message):
        session.follow(on_epoch=poison)
    report = session.run.read_report("train")
    assert (report["status"], report["epochs"]) == ("diverged", 3)
    weights = tensor_files.read(session.run.model_file, "")
    assert all(weight.isfinite().all() for weight in weights.values())
    assert Session.resume(session.run, None, CPU).trainer.progress.epoch == 3


@pytest.mark.parametrize("precision", [torch.float32, torch.bfloat16], ids=str)
def test_twenty_epochs_are_ten_and_ten_more(here, tiny, precision):
    recipe = replace(tiny, epochs=20, separate_epochs=0)
    Session.start(recipe, CPU, precision, Path("whole")).follow()
    Session.start(replace(recipe, epochs=10), CPU, precision, Path("parts")).follow()
    Session.resume(Run.open(Path("parts")), 20, CPU).follow()
    for name in ("model.safetensors", "checkpoint.safetensors", "config.json"):
        assert (here / "whole" / name).read_bytes() == (here / "parts" / name).read_bytes()


def test_an_epoch_limit_cannot_change_once_the_tasks_are_being_separated(here, tiny):
    Session.start(tiny, CPU, torch.float32, Path("run")).follow()
    with pytest.raises(ToytaskError, match="run has begun to separate: its epochs are settled"):
        Session.resume(Run.open(Path("run")), 99, CPU)


def test_an_epoch_limit_cannot_fall_below_what_is_done_and_separating_takes(here, tiny):
    session = Session.start(replace(tiny, learnt_accuracy=1.0), CPU, torch.float32, Path("run"))
    session.follow(stop=lambda: session.trainer.progress.epoch == 5)
    with pytest.raises(UsageError, match="epochs is 8: must be 9 or more, for run has done 5 and"):
        Session.resume(Run.open(Path("run")), 8, CPU)
    assert Session.resume(Run.open(Path("run")), 9, CPU).follow()["epochs"] == 9


@pytest.mark.parametrize("spoil", [Path.unlink, cut])
def test_a_spoilt_checkpoint_is_one_line(here, tiny, spoil):
    session = Session.start(tiny, CPU, torch.float32, Path("run"))
    spoil(session.run.checkpoint_file)
    with pytest.raises(ToytaskError, match=r"checkpoint.safetensors .*train anew"):
        Session.resume(Run.open(Path("run")), None, CPU)


# Data on disk


def test_written_data_are_taken_back(here, tiny):
    manifest = write_data(build_grid(tiny.data_spec()), Path("data"))
    assert manifest["counts"]["sum"] == {"train": 50, "validation": 20, "test": 30}
    assert read_spec(Path("data")) == tiny.data_spec()


@pytest.mark.parametrize("name", ["tokens.safetensors", "manifest.json"])
@pytest.mark.parametrize("spoil", [Path.unlink, cut, lambda p: p.write_text("{}")])
def test_spoilt_data_are_one_line(here, tiny, name, spoil):
    write_data(build_grid(tiny.data_spec()), Path("data"))
    spoil(Path("data") / name)
    with pytest.raises(ToytaskError, match=r"data.*write the data again"):
        read_spec(Path("data"))


def test_data_that_were_edited_are_refused(here, tiny):
    write_data(build_grid(tiny.data_spec()), Path("data"))
    tokens = Path("data/tokens.safetensors")
    tensors = tensor_files.read(tokens, "")
    tensors["answers"][0, 0, 1] += 1
    tensor_files.write(tokens, tensors)
    with pytest.raises(ToytaskError, match="is not the file of its manifest"):
        read_spec(Path("data"))


# Devices


def test_a_device_or_precision_that_is_not_there_is_one_line():
    with pytest.raises(ToytaskError, match="unknown device 'gpu'"):
        find_device("gpu")
    with pytest.raises(ToytaskError, match="unknown precision 'float16'"):
        find_precision("float16", CPU)
    if not torch.cuda.is_available():
        with pytest.raises(ToytaskError, match="no cuda device: use --device cpu"):
            find_device("cuda")
