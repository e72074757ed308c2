import json
from pathlib import Path

import pytest
import torch
from conftest import all_files, cut

from toytask_cli.analysis.evaluate import score
from toytask_cli.errors import ToytaskError
from toytask_cli.model import new_model
from toytask_cli.runs import tensor_files
from toytask_cli.runs.config import Config
from toytask_cli.runs.run import Run

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


# Reading a run


def test_a_saved_model_gives_equal_logits_bit_for_bit(run):
    grid = run.grid()
    fresh = new_model(run.config.recipe, len(grid.tokenizer))
    examples = grid.split("test")
    assert torch.equal(
        score(run.model(grid, CPU), examples).loss, score(fresh.eval(), examples).loss
    )


def change(key: str, value: object) -> object:
    """Edit a JSON file by hand, where nobody writes a checksum."""

    def edit(path: Path) -> None:
        values = json.loads(path.read_text())
        del values["sha256"]
        path.write_text(json.dumps({**values, key: value}))

    return edit


@pytest.mark.parametrize(
    ("name", "spoil", "message"),
    [
        ("config.json", Path.unlink, "runs/01 is no run .no config.json."),
        ("config.json", cut, "config.json: cut or not JSON .line 4"),
        (
            "config.json",
            change("schema_version", 99),
            "config.json: written by a newer .*version 99",
        ),
        ("config.json", change("colour", 1), "config.json: unknown key 'colour'"),
        ("config.json", change("recipe", {}), "config.json: recipe: missing key"),
        ("config.json", change("recipe", 3), "config.json: recipe is missing or not an object"),
        ("config.json", change("precision", "save"), "config.json: precision is 'save', which is"),
        ("model.safetensors", Path.unlink, "cannot read .*model.safetensors .*: go on with"),
        ("model.safetensors", cut, "model.safetensors: cut or not a safetensors"),
        ("model.safetensors", lambda p: p.write_text("{}"), "cut or not a safetensors"),
        (
            "model.safetensors",
            lambda p: tensor_files.write(p, {"foreign": torch.zeros(3)}),
            "model.safetensors: does not fit .*config.json",
        ),
    ],
)
def test_a_spoilt_run_is_one_line_and_nothing_is_written(run, name, spoil, message):
    spoil(run.path / name)
    before = all_files(run.path)
    with pytest.raises(ToytaskError, match=message) as error:
        opened = Run.open(run.path)
        opened.model(opened.grid(), CPU)
    assert "\n" not in str(error.value)
    assert all_files(run.path) == before


def test_a_run_of_an_older_toytask_is_refused_with_the_next_step(run):
    recipe = {"seed": 0, "resplit": "pair", "d_model": 32}
    old = {"schema_version": 1, "recipe": recipe, "device": "cpu", "precision": "float32"}
    run.config_file.write_text(json.dumps(old))
    message = r"config.json: written by an older toytask \(schema_version 1, .*train anew with"
    with pytest.raises(ToytaskError, match=message) as error:
        Run.open(run.path)
    assert "\n" not in str(error.value)


def test_a_missing_run_is_answered_with_those_that_are_there(run):
    with pytest.raises(ToytaskError, match="no run at runs/44: there are runs/01"):
        Run.open(Path("runs/44"))


def test_without_any_run_the_next_step_is_training(here):
    with pytest.raises(ToytaskError, match="toytask train"):
        Run.open(None)


def test_a_report_made_from_other_weights_is_refused(run):
    run.write_report("eval", {"accuracy": 1.0})
    assert run.read_report("eval")["accuracy"] == 1.0
    weights, _ = tensor_files.read(run.model_file)
    tensor_files.write(run.model_file, {n: t + 1 for n, t in weights.items()})
    with pytest.raises(ToytaskError, match=r"eval.json: made from other weights.*toytask eval"):
        run.read_report("eval")
