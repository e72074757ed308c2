"""`toytask study`: what it writes and prints, that it goes on, and what its runs are."""

import json
import re
import shutil
from pathlib import Path

import pexpect
import pytest
from conftest import SMALL, STUDY, Command, all_files, options
from processes import spawn

from toytask_cli.errors import ToytaskError
from toytask_cli.runs.metrics import MetricsLog
from toytask_cli.runs.study_directory import StudyDirectory
from toytask_cli.studies.plan import Plan

SAME = ["study", *options(SMALL), *STUDY]
IDS = [f"split-{split}-seed-{seed}" for split in (0, 1) for seed in (0, 1)]


@pytest.fixture
def copy(studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study, copied into the directory where we are."""
    shutil.copytree(studied / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "study-01"


def report_of(study: Path) -> dict:
    return json.loads((study / "reports" / "study.json").read_text())


def test_a_study_reports_every_run_and_the_recipe_over_them(studied):
    report = report_of(studied / "runs" / "study-01")
    assert (report["n_runs"], report["n_finished"], report["n_failed"]) == (4, 4, 0)
    assert [run["id"] for run in report["runs"]] == IDS
    assert {run["path"] for run in report["runs"]} == {f"runs/study-01/{name}" for name in IDS}
    rows = {row["quantity"]: row for row in report["summary"]}
    kept = "removed.concat.tol0.1.keep.kept.sum"
    assert {"accuracy.sum", "removed.sum.tol0.1.drop.left", kept, "l0", "seconds"} <= rows.keys()
    for row in rows.values():
        quantity = row["quantity"]  # nothing is kept of a task that a run never got right
        values = [run["values"][quantity] for run in report["runs"] if quantity in run["values"]]
        assert row["mean"] == pytest.approx(sum(values) / len(values))
        assert row["n"] == len(values)
        assert len(values) == 4 or ".kept." in quantity
        assert row["worst"] in (min(values), max(values))
    assert rows["l0"]["sd_seeds"] is not None
    assert rows["l0"]["sd_splits"] is not None
    documented = {re.sub(r"\.?(TASK|tolT|ERROR|OTHER)", "", name) for name in report["definitions"]}
    without_names = {re.sub(r"\.(sum|concat|tol0\.1|keep(?=\.)|drop)", "", name) for name in rows}
    assert without_names <= documented


def test_a_studys_directory_holds_plan_runs_report_and_figures(studied):
    study = studied / "runs" / "study-01"
    names = {path.name for path in study.iterdir()}
    assert names == {"study.json", ".lock", "reports", "figures", *IDS}
    figures = {path.name for path in (study / "figures").iterdir()}
    assert figures == {"runs.png", "left-and-kept.png", "seeds-and-splits.png"}


def test_a_run_of_a_study_is_to_the_byte_the_one_that_the_commands_make(
    studied, toytask: Command, here
):
    """Trained, measured and ablated one command after the other, on one thread as well."""
    train = [*options(SMALL), "--precision", "float32", "--seed", "1", "--split-seed", "0"]
    toytask("train", *train, "--out", "run", "--no-figures")
    for command in (["eval"], ["importance"], ["ablate", "--remove", "sum", "--tolerance", "0.1"]):
        assert toytask(*command[:1], "run", *command[1:], "--no-figures").code == 0
    of_study = studied / "runs" / "study-01" / "split-0-seed-1"
    for name in ("model.safetensors", "config.json", "reports/importance.safetensors"):
        assert (of_study / name).read_bytes() == (here / "run" / name).read_bytes()
    for name in (
        "reports/eval.json",
        "reports/importance.json",
        "ablations/remove-sum-tol0.1.json",
    ):
        one, other = (json.loads((run / name).read_text()) for run in (of_study, here / "run"))
        for report in (one, other):
            del report["run"], report["sha256"]
        assert one == other


def test_every_command_works_on_a_run_of_a_study(copy, toytask: Command):
    run = copy / IDS[0]
    for command in ("eval", "sparsity", "importance"):
        assert toytask(command, run, "--no-figures").code == 0
    result = toytask("eval", run, "--ablation", "remove-concat-tol0.1", "--no-figures", "--json")
    values = report_of(copy)["runs"][0]["values"]
    left = json.loads(result.out)["tasks"]["concat"]["accuracy"]
    assert left == pytest.approx(values["removed.concat.tol0.1.keep.left"])


@pytest.mark.parametrize("command", [SAME, ["study", "runs/study-01"]])
def test_the_same_command_trains_nothing_again(copy, toytask: Command, command):
    before = all_files(copy / IDS[0]) | all_files(copy / IDS[3])
    times = {path: path.stat().st_mtime_ns for path in before}
    result = toytask(*command, "--no-figures")
    assert (result.code, "4 finished, 0 to train" in result.err) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in before} == times
    assert not (copy.parent / "study-02").exists()


def test_the_table_names_the_worst_run_and_the_next_command(copy, toytask: Command):
    result = toytask("study", "runs/study-01", "--no-figures")
    assert "runs/study-01: 4 of 4 runs finished, 0 failed, 0 left" in result.out
    assert re.search(r"accuracy of concat .* split-[01]-seed-[01]", result.out)
    assert "at most 78 % of such runs are worse than the worst" in result.out
    assert re.search(r"next: toytask eval runs/study-01/split-\d-seed-\d\n$", result.err)


def test_json_is_the_report_alone(copy, toytask: Command):
    result = toytask("study", "runs/study-01", "--no-figures", "--json")
    assert json.loads(result.out) == report_of(copy)


@pytest.mark.usefixtures("studies_here")
def test_a_study_is_extended_only_when_told_to_and_trains_only_what_is_new(copy, toytask: Command):
    """The first split's runs are a study; of the second split's, one is there already."""
    wide = ["study", *options(SMALL), *STUDY, "--out", "runs/study-02", "--no-figures"]
    plan = json.loads((copy / "study.json").read_text())
    plan["runs"] = plan["runs"][:2]
    study = StudyDirectory.create(Path("runs/study-02"), Plan.from_json(plan).to_json())
    for name in IDS[:3]:
        shutil.copytree(copy / name, study.path / name)
    refused = toytask(*wide)
    assert (refused.code, refused.err.count("\n")) == (1, 1)
    assert "2 runs less than this: add them with --extend" in refused.err
    before = {path: path.stat().st_mtime_ns for path in all_files(study.path / IDS[0])}
    result = toytask(*wide, "--extend")
    assert (result.code, "4 runs, 3 finished, 1 to train" in result.err) == (0, True)
    assert {path: path.stat().st_mtime_ns for path in before} == before
    assert report_of(study.path)["n_finished"] == 4
    assert re.search(
        f"4 of 4: {IDS[3]}, lowest accuracy .* %, most left .* %, least kept .* %\n", result.err
    )


@pytest.mark.parametrize(
    ("args", "message"),
    [
        ([*SAME, "--seeds", "1-2"], "has another plan"),
        ([*SAME, "--tolerance", "0.2"], "has another plan (tolerances"),
        ([*SAME, "--lr", "0.001"], "has another plan (with another recipe for split-0-seed-0)"),
        ([*SAME, "--seeds", "1", "--extend"], "has another plan"),
    ],
)
def test_a_changed_plan_is_refused(copy, toytask: Command, args, message):
    before = all_files(copy)
    result = toytask(*args, "--out", "runs/study-01")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert message in result.err
    assert all_files(copy) == before


def test_a_second_driver_is_refused(copy, toytask: Command):
    log = MetricsLog(copy / ".lock")
    result = toytask("study", "runs/study-01")
    log.close()
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "runs/study-01 is being trained by another process" in result.err


def test_something_else_in_the_place_of_a_run_is_one_line(copy, toytask: Command):
    shutil.rmtree(copy / IDS[0])
    shutil.copytree(copy / IDS[1], copy / IDS[0])
    result = toytask("study", "runs/study-01")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "a run of another recipe" in result.err
    assert "move it away" in result.err


def test_a_value_that_is_no_number_is_one_line(copy, toytask: Command):
    path = copy / IDS[0] / "reports" / "study.json"
    report = json.loads(path.read_text())
    del report["sha256"]
    report["values"]["l0"] = "many"
    path.write_text(json.dumps(report))
    result = toytask("study", "runs/study-01")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "a value is no number: move it away" in result.err


@pytest.mark.parametrize("name", ["../seed-9/x", "/tmp/x", "a/b/c", ".hidden", "reports/../../x"])
def test_a_worker_cannot_write_outside_its_run(copy, name):
    with pytest.raises(ToytaskError, match="files that are none of a run"):
        StudyDirectory(copy).write_run("seed-9", {"config.json": b"", name: b""})
    assert not (copy / "seed-9").exists()


@pytest.mark.parametrize(
    ("old", "new", "message"),
    [
        ('"version": "0.1.0"', '"version": "9.0"', "a study of toytask '9.0'"),
        ('"schema_version": 2', '"schema_version": 3', "written by a newer toytask"),
        ('"precision": "float32"', '"precision": "bfloat16"', "changed since it was written"),
    ],
)
def test_a_study_of_another_version_is_one_line(copy, toytask: Command, old, new, message):
    plan = copy / "study.json"
    text = plan.read_text()
    assert old in text
    plan.write_text(re.sub(r',\s*"sha256": "\w+"', "", text.replace(old, new))
                    if "changed" not in message else text.replace(old, new))  # fmt: skip
    result = toytask("study", "runs/study-01")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert message in result.err


def test_a_dry_run_writes_nothing(toytask: Command, here):
    result = toytask(*SAME, "--dry-run")
    assert result.code == 0
    assert re.search(r"4 runs, 0 finished, 4 to train: about \d+ s of training at most", result.out)
    assert re.search(r"\d+ MB of disk", result.out)
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    ("args", "message"),
    [
        (["--vary", "lamda=0"], "did you mean 'lambda'"),
        (["--vary", "seed=0,1"], "use --seeds"),
        (["--seeds", "9-0"], "runs backwards"),
        (["--seeds", ""], "must be numbers"),
        (["--seeds", "0-2", "--seed", "1"], "--seed is given twice"),
        (["--vary", "lr=1,2", "--lr", "1"], "--lr is given twice"),
        (["--folds", "2", "--split-by", "pair"], "--split-by is given twice"),
        (["--folds", "2", "--vary", "split_by=pair"], "leave out --vary split_by"),
        (["--folds", "1"], "--folds"),
        (["--jobs", "0"], "--jobs"),
        (["--vary", "train_fraction=0.95"], "validation_fraction is 0.2"),
        (["--precision", "half"], "unknown precision 'half'"),
        (["--tolerance", "-0.1"], "tolerance is -0.1: must be 0 or more"),
        (["--extend"], "--extend needs --out"),
        (["here", "--seeds", "0"], "here has its own plan: leave out --seeds"),
        (["here", "--seed", "0"], "here has its own plan: leave out --seed"),
        (["here", "--preset", "article"], "here has its own plan: leave out --preset"),
        (["here", "--extend"], "here has its own plan: leave out --extend"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(toytask: Command, here, args, message):
    result = toytask("study", *args)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1), result.err
    assert result.err.startswith("error: ")
    assert message in result.err
    assert list(here.iterdir()) == []


def test_a_terminal_sees_what_runs_and_the_worst_so_far(here):
    args = ["study", *options(SMALL), "--seeds", "0", "--no-figures"]
    child = spawn(*args)
    child.expect("0 of 1 runs finished, 1 left")
    child.expect(r"seed-0 +\d+ +(learn|separate) +sum \d")
    child.expect("1 of 1 runs finished, 0 left")
    child.expect("so far: lowest accuracy .*seed-0.*most left .*least kept")
    child.expect("1 of 1 runs finished, 0 failed, 0 left")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0
