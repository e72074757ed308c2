"""`toytask attack`: its report, its control, and what it refuses."""

import json
import shutil
import signal
from dataclasses import replace
from pathlib import Path

import pytest
from conftest import Command, all_files, run_main
from memorised_run import memorised_run

from toytask_cli.analysis.relearning import Attacker
from toytask_cli.cli.attack_view import print_attack
from toytask_cli.cli.signals import StopRequest
from toytask_cli.runs.run import Run

STEPS = ["--steps", "4"]
ATTACK = ["attack", "runs/01", "--ablation", "remove-concat", *STEPS]
CONTROL = Path("runs/01/attacks/control-sum")
REPORT = Path("runs/01/reports/attack-remove-concat.json")


def small_run(place: Path, batch_size: int = 30) -> Run:
    """A run that knows both tasks, and whose recipe is over in a moment; an ablation of concat."""
    run = memorised_run(place)
    recipe = replace(run.config.recipe, epochs=5, separate_epochs=1, batch_size=batch_size)
    run.config = replace(run.config, recipe=recipe)
    run.write_config()
    neurons = run.read_ablation("no-concat")["neurons"]
    report = {"neurons": neurons, "error": "keep", "removed_tasks": ["concat"]}
    run.write_ablation("remove-concat", report)
    return run


@pytest.fixture(scope="module")
def attacked(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which an attack was made."""
    place = tmp_path_factory.mktemp("attacked")
    small_run(place)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_main(patch, *ATTACK) == 0
    return place


@pytest.fixture
def report(attacked: Path) -> dict:
    return json.loads((attacked / REPORT).read_text())


@pytest.fixture
def copy(attacked: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the attacked run, to work in."""
    shutil.copytree(attacked / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def untouched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The run before any attack, its directory to work in."""
    run = small_run(tmp_path)
    monkeypatch.chdir(tmp_path)
    return run


# The report


def test_the_report_has_what_is_promised(report):
    assert report["removed_tasks"] == ["concat"]
    assert report["ablation"] == "remove-concat"
    assert report["mask_lifted"].keys() == {"sum", "concat"}
    for block in ("encoder", "decoder", "sae", "recon", "logits"):
        assert report["probes"][block].keys() == {"run", "control", "fresh"}
    for name in ("run", "control", "fresh"):
        assert {"steps50", "steps95", "rate"} <= report["relearning"][name].keys()
    assert [row["n"] for row in report["from_examples"]] == [10, 30]
    assert all(row.keys() == {"n", "run", "control"} for row in report["from_examples"])
    assert report["robustness"].keys() == {"50", "95"}
    assert {"probes", "relearning", "from_examples", "robustness"} <= report["definitions"].keys()


def test_lifting_the_mask_is_eval_and_holding_it_is_eval_with_the_ablation(
    report, toytask: Command, copy
):
    for key, options in {"mask_lifted": [], "mask_held": ["--ablation", "remove-concat"]}.items():
        evaluated = json.loads(toytask("eval", "runs/01", *options, "--json", "--no-figures").out)
        accuracy = {name: task["accuracy"] for name, task in evaluated["tasks"].items()}
        assert report[key] == accuracy
    control = json.loads(toytask("eval", CONTROL, "--json", "--no-figures").out)
    assert report["control_accuracy"]["sum"] == control["tasks"]["sum"]["accuracy"]


def test_a_mask_hides_what_is_still_there(report):
    assert report["mask_lifted"]["concat"] == 1
    assert report["mask_held"]["concat"] < 0.2
    assert report["relearning"]["run"]["steps95"] <= 4
    assert report["relearning"]["control"]["steps95"] is None
    assert report["from_examples"][0]["run"] > report["from_examples"][0]["control"]


def test_another_attack_is_the_same_to_the_byte_and_trains_no_other_control(
    toytask: Command, copy, report
):
    before = all_files(CONTROL)
    result = toytask(*ATTACK, "--no-figures")
    assert json.loads(REPORT.read_text()) == report
    assert "a control is taught" not in result.err
    assert all_files(CONTROL) == before
    lines = [line.split() for line in result.out.splitlines() if line.strip()]
    assert lines[0] == ["accuracy", "in", "%", "sum", "concat", "(removed)"]
    assert lines[2] == ["mask", "lifted", "100.00", "100.00"]
    assert "a model that was never taught it after more than 4 steps" in result.out
    assert result.err.endswith("next: toytask distill runs/01 --ablation remove-concat\n")


def test_it_draws_the_curves(attacked):
    picture = attacked / "runs/01/figures/attack-remove-concat-relearning.png"
    assert picture.read_bytes().startswith(b"\x89PNG")


# The control


def test_the_control_is_a_run_that_was_taught_the_kept_task_alone(copy):
    control = Run.open(CONTROL)
    assert control.config.taught == ["sum"]
    assert control.config.recipe.epochs == 4 * 5
    own = replace(control.config.recipe, epochs=5)
    assert own == Run.open(Path("runs/01")).config.recipe
    assert all(
        record["validation"]["accuracy"].keys() == {"sum"} for record in control.read_metrics()
    )


def test_a_control_can_be_lent(toytask: Command, copy, report):
    shutil.move(CONTROL, "lent")
    result = toytask(*ATTACK, "--control", "lent", "--json", "--no-figures")
    assert not CONTROL.exists()
    lent = json.loads(result.out)
    assert lent["control"] == "lent"
    assert lent["relearning"] == report["relearning"]


def test_an_interrupted_control_goes_on_where_it_was(
    toytask: Command, untouched, attacked, monkeypatch
):
    with monkeypatch.context() as patch:
        patch.setattr(StopRequest, "__init__", lambda self: setattr(self, "signal", signal.SIGTERM))
        result = toytask(*ATTACK)
    assert (result.code, result.out) == (143, "")
    assert "interrupted: the control keeps its 0 epochs" in result.err
    assert result.err.endswith("next: toytask attack runs/01 --ablation remove-concat\n")
    assert toytask(*ATTACK, "--no-figures").code == 0
    for name in ("model.safetensors", "checkpoint.safetensors"):
        assert (CONTROL / name).read_bytes() == (attacked / CONTROL / name).read_bytes()


def test_an_interrupted_attack_says_what_was_lost_and_writes_nothing(
    toytask: Command, copy, monkeypatch
):
    REPORT.unlink()
    before = all_files(copy)

    relearn = Attacker.relearn

    def terminate(*args: object) -> object:
        signal.raise_signal(signal.SIGTERM)
        return relearn(*args)

    monkeypatch.setattr(Attacker, "relearn", terminate)
    result = toytask(*ATTACK)
    assert (result.code, result.out) == (143, "")
    assert result.err.endswith(
        "interrupted: nothing is written of an attack that is not finished\n"
    )
    assert all_files(copy) == before


def test_a_control_that_knows_less_is_pointed_out(capsys, report):
    for control, is_shown in ((0.99, True), (0.996, False)):
        report["mask_held"]["sum"], report["control_accuracy"]["sum"] = 1.0, control
        print_attack(report)
        assert (
            "the control knows sum less well than the run" in capsys.readouterr().out
        ) == is_shown


# Any run


def test_a_run_without_an_ablation_is_attacked_on_the_task_that_is_named(toytask: Command, copy):
    result = toytask("attack", "runs/01", "--task", "sum", *STEPS, "--no-figures")
    assert "it has no mask to lift" in result.out
    report = json.loads(Path("runs/01/reports/attack.json").read_text())
    assert (report["ablation"], report["removed_tasks"]) == (None, ["sum"])
    assert report["relearning"]["run"]["steps95"] == 0, "nothing was removed"
    assert report["mask_held"] == report["mask_lifted"]
    assert Path("runs/01/attacks/control-concat").is_dir()


# Bad input


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--ablation", "remove-sum"], 1, "unknown ablation 'remove-sum': did you mean"),
        ([], 2, "name a task to bring back with --task"),
        (["--ablation", "no-concat"], 2, "name a task to bring back with --task"),
        (["--task", "diff"], 2, "unknown task 'diff'"),
        (["--task", "sum", "--task", "concat"], 2, "a control needs one that is kept"),
        (["--ablation", "remove-concat", "--steps", "0"], 2, "'--steps'"),
        (["--task", "sum", "--control", "runs/9"], 1, "there is no run at runs/9"),
        (
            ["--task", "concat", "--control", "runs/01"],
            1,
            "runs/01 was taught sum, concat, and this control is taught sum alone",
        ),
        (
            ["--task", "sum", "--control", str(CONTROL)],
            1,
            f"{CONTROL} was taught sum, and this control is taught concat alone",
        ),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(toytask: Command, copy, args, code, message):
    before = all_files(copy)
    result = toytask("attack", "runs/01", *args)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert message in result.err
    assert all_files(copy) == before


@pytest.mark.parametrize(("field", "value"), [("split_seed", 3), ("lr", 0.5), ("d_ff", 32)])
def test_a_control_of_another_split_or_recipe_is_refused(toytask: Command, copy, field, value):
    shutil.copytree(CONTROL, "lent")
    control = Run.open(Path("lent"))
    recipe = replace(control.config.recipe, **{field: value})
    control.config = replace(control.config, recipe=recipe)
    control.write_config()
    result = toytask(*ATTACK, "--control", "lent")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert (
        f"lent is no control of runs/01: its {field} is {value}, where the run's is" in result.err
    )


def test_an_ablation_of_other_weights_is_refused(toytask: Command, copy):
    path = Path("runs/01/ablations/remove-concat.json")
    values = json.loads(path.read_text())
    del values["sha256"]
    path.write_text(json.dumps({**values, "weights_sha256": "0" * 64}))
    result = toytask(*ATTACK)
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert "remove-concat.json: made from other weights" in result.err


def test_a_task_that_the_run_never_knew_is_refused(toytask: Command, copy):
    result = toytask("attack", CONTROL, "--task", "concat")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert f"{CONTROL} never knew concat (0.0 % right)" in result.err


def test_something_else_in_the_controls_place_is_left_as_it_is(toytask: Command, untouched):
    CONTROL.mkdir(parents=True)
    (CONTROL / "mine.txt").write_text("mine")
    result = toytask(*ATTACK)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert f"{CONTROL} holds no run (no config.json): remove it, and try again" in result.err
    assert (CONTROL / "mine.txt").read_text() == "mine"


@pytest.mark.parametrize("link", [CONTROL, CONTROL.parent], ids=["control", "attacks"])
def test_no_control_is_trained_through_a_link(toytask: Command, untouched, tmp_path, link):
    (tmp_path / "elsewhere").mkdir()
    link.parent.mkdir(exist_ok=True)
    link.symlink_to(tmp_path / "elsewhere")
    result = toytask(*ATTACK)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert f"{link} is a link, through which nothing is written: remove it" in result.err
    assert not any((tmp_path / "elsewhere").iterdir())
