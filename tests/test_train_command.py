"""`toytask train`: what it writes and shows, and what an interrupt leaves."""

import io
import json
import re
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
from conftest import COMPETENT, TINY, TINY_OPTIONS, Command
from processes import spawn, start
from rich.console import Console

from toytask_cli.cli.train_display import log_line, metrics_table
from toytask_cli.figures.training import draw_losses, draw_metrics
from toytask_cli.runs.run import Run
from toytask_cli.training.loop import EpochRecord


def test_the_command_line_beats_the_file_and_the_file_beats_the_preset(toytask: Command, here):
    Path("r.json").write_text(json.dumps({"lr": 0.005, "lambda": 0.5, "epochs": 1}))
    toytask(
        "train", "--preset", "article", "--recipe", "r.json", "--lr", "0.004", "--out", "run",
        *TINY_OPTIONS, "--epochs", "1", "--train-fraction", "0.3", "--no-figures",
    )  # fmt: skip
    recipe = Run.open(Path("run")).config.recipe
    assert (recipe.lr, recipe.lambda_, recipe.token_scale) == (0.004, 0.5, 1.0)


@pytest.fixture
def feed(toytask: Command, here, monkeypatch):
    """Runs `toytask train --recipe - ARGS` with this text on its standard input."""

    def train(text: str, *args: object):
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(text.encode())))
        return toytask("train", "--recipe", "-", "--no-figures", *args)

    return train


def test_a_recipe_can_come_from_standard_input(feed):
    assert feed(json.dumps({**TINY, "epochs": 1, "lambda": 0.5}), "--lr", "0.005").code == 0
    recipe = Run.open(None).config.recipe
    assert (recipe.lambda_, recipe.lr, recipe.d_sae) == (0.5, 0.005, TINY["d_sae"])


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ('{"epochs": 1 "lr": 2}', "standard input: cut or not JSON (line 1, column 14: "),
        ('{"epochs": 1, "epochs": 2}', "standard input: key 'epochs' is given twice: correct it"),
        ('{"epoch": 1}', "standard input: unknown key 'epoch': did you mean 'epochs'"),
        ("", "standard input: cut or not JSON"),
    ],
)
def test_a_recipe_that_cannot_be_read_is_one_line(feed, text, message):
    result = feed(text)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert message in result.err
    assert not Path("runs").exists()


def test_training_writes_a_whole_run(toytask: Command, here):
    result = toytask("train", *TINY_OPTIONS, "--json")
    report = json.loads(result.out)
    assert report["status"] == "finished"
    assert report["schema_version"] == 2
    assert json.loads(Path("runs/01/reports/train.json").read_text()) == report
    names = {str(p.relative_to("runs/01")) for p in Path("runs/01").rglob("*") if p.is_file()}
    assert names == {
        "config.json", "model.safetensors", "checkpoint.safetensors", "metrics.jsonl",
        "reports/train.json", "figures/losses.png", "figures/accuracy.png",
    }  # fmt: skip
    validation = r"validation loss .*, accuracy sum .* %, .*, dead_neurons "
    line = rf"epoch 12 separate: loss .*, l0 .*, overlap .*; {validation}"
    assert re.search(line, result.err)
    assert result.err.endswith("next: toytask eval runs/01\n")


def test_a_terminal_sees_progress_terms_accuracy_and_a_sparkline(here):
    child = spawn("train", *TINY_OPTIONS, "--epochs", "40", "--no-figures")
    child.expect("learn.*epochs")
    for shown in ("validation", "l0", "overlap", "sum", "dead", "validation loss.*[▁▂▃▄▅▆▇█]{3}"):
        child.expect(shown)
    child.expect("best weights from epoch")
    child.expect("next: .*toytask eval runs/01")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_a_new_term_or_metric_shows_everywhere_without_another_line_of_code():
    terms = {"loss": 0.5, "ce": 0.25, "new": 0.125}
    validation = {**terms, "accuracy": {"sum": 0.043, "diff": 1.0}, "l0": 117.94, "newer": 7}
    record = EpochRecord(
        epoch=3, phase="learn", rate=0.1, seconds=1.0, train=terms, validation=validation, best=True
    )
    assert log_line(record) == (
        "epoch 3 learn: loss 0.5, ce 0.25, new 0.125; validation loss 0.5, accuracy sum 4.3 %, "
        "accuracy diff 100.0 %, l0 117.9, newer 7"
    )
    labels = {"new": "a new term", "newer": "a new metric"}
    console = Console(width=80, file=io.StringIO())
    console.print(metrics_table(record, labels))
    printed = console.file.getvalue()
    for shown in (r"a new term +0.125 +0.125", r"accuracy diff +100.0 %", r"a new metric +7"):
        assert re.search(shown, printed)
    metrics = [vars(record), {**vars(record), "epoch": 4, "validation": None}]
    titles = [axis.get_title() for axis in draw_losses(metrics, labels).axes]
    assert titles == ["loss", "ce", "a new term"]
    titles = [axis.get_title() for axis in draw_metrics(metrics, labels).axes]
    assert titles == ["accuracy", "l0", "a new metric"]


def test_ctrl_c_keeps_the_best_weights_and_the_named_command_goes_on(toytask: Command, here):
    # It learns to the last epoch: when it separates is settled by what it has reached.
    options = [*TINY_OPTIONS, "--epochs", "4000", "--learnt-accuracy", "1", "--no-figures"]
    child = spawn("train", *options)
    child.expect("validation loss")
    child.sendintr()
    child.expect("interrupted after epoch")
    child.expect("next: .*toytask train --resume runs/01")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert toytask("eval", "--no-figures").code == 0
    done = Run.open(None).read_metrics()[-1]["epoch"]
    more = ["--epochs", done + 6, "--no-figures"]
    assert toytask("train", "--resume", "runs/01", *more).code == 0
    assert Run.open(None).read_metrics()[-1]["epoch"] == done + 6


def test_ctrl_c_without_a_terminal_exits_with_130_and_leaves_a_whole_run(here):
    command = ["train", *TINY_OPTIONS, "--epochs", "4000", "--no-figures"]
    with start(*command, stdout=subprocess.DEVNULL) as process:
        assert process.stderr is not None
        while "epoch" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "next: toytask train --resume runs/01" in rest
    run = Run.open(None)
    assert json.loads((run.path / "reports" / "train.json").read_text())["status"] == "interrupted"


def test_resuming_a_finished_run_says_so_and_writes_nothing(toytask: Command, run):
    files = [p for p in Path("runs").rglob("*") if p.is_file()]
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
    result = toytask("train", "--resume", "runs/01")
    assert (result.code, result.out) == (0, "")
    said = f"runs/01 has finished after {COMPETENT['epochs']} epochs: nothing to do"
    assert f"{said}\nnext: toytask eval" in result.err
    report = json.loads(toytask("train", "--resume", "runs/01", "--json").out)
    assert report == json.loads(Path("runs/01/reports/train.json").read_text())
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files} == before


def test_a_finished_run_without_its_checkpoint_is_as_finished(toytask: Command, trained, here):
    shutil.copytree(trained / "runs", "runs")
    Path("runs/01/checkpoint.safetensors").unlink()
    result = toytask("train", "--resume", "runs/01", "--no-figures")
    assert (result.code, result.out) == (0, "")
    said = f"runs/01 has finished after {COMPETENT['epochs']} epochs: nothing to do"
    assert f"{said}\nnext: toytask eval" in result.err
    more = toytask("train", "--resume", "runs/01", "--epochs", "90")
    assert (more.code, more.err.count("\n")) == (2, 1)
    assert "runs/01 has finished, and has no checkpoint to go on from: train anew" in more.err


def test_an_interrupted_run_without_its_checkpoint_is_not_called_finished(toytask: Command, run):
    report = Run.open(None).read_report("train")
    Run.open(None).write_report("train", {**report, "status": "interrupted"})
    checkpoint = run.checkpoint_file.rename("elsewhere")
    result = toytask("train", "--resume", "runs/01")
    checkpoint.rename(run.checkpoint_file)
    Run.open(None).write_report("train", report)
    assert (result.code, "cannot read runs/01/checkpoint" in result.err) == (1, True)


def test_resuming_a_finished_run_draws_the_figures_that_it_was_ended_before(toytask: Command, here):
    toytask("train", *TINY_OPTIONS, "--no-figures")
    assert not Run.open(None).has_figure("losses")
    toytask("train", "--resume", "runs/01")
    assert Run.open(None).has_figure("losses")
    assert Run.open(None).has_figure("accuracy")


def test_it_says_that_more_epochs_put_off_the_second_phase(toytask: Command, here):
    once = [*TINY_OPTIONS, "--separate-epochs", "0", "--no-figures"]
    toytask("train", *once)
    result = toytask("train", "--resume", "runs/01", "--epochs", "15", "--no-figures")
    assert "epochs 12 → 15: learning goes on at the same rate until epoch 15 at" in result.err
    assert len(Run.open(None).read_metrics()) == 15


def test_a_second_ctrl_c_leaves_at_once(here):
    # One step of 5,000 examples gives time for the second to arrive before the first is served.
    child = spawn("train", "--batch-size", "6000", "--no-figures", "--precision", "float32")
    child.expect("learn.*epochs")
    time.sleep(0.5)
    child.sendintr()
    child.expect("Ctrl-C again leaves at once")
    child.sendintr()
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130


@pytest.mark.parametrize(
    "option", ["--lr=1", "--seed=1", "--out=x", "--preset=article", "--precision=bfloat16"]
)
def test_resume_takes_its_recipe_from_the_run(toytask: Command, run, option):
    result = toytask("train", "--resume", "runs/01", option)
    name = option.split("=")[0]
    assert (result.code, f"leave out {name}" in result.err) == (2, True)


def test_a_runs_configuration_is_a_recipe(toytask: Command, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = str(trained / "runs" / "01" / "config.json")
    again = ["--recipe", recipe, "--epochs", "2", "--separate-epochs", "0", "--no-figures"]
    assert toytask("train", *again).code == 0
    first, second = (Run.open(path).config.recipe for path in (trained / "runs/01", None))
    assert second == replace(first, epochs=2, separate_epochs=0)


def test_a_training_without_an_epoch_to_learn_in_is_questioned(toytask: Command, here):
    tiny = ["train", "--no-figures", *TINY_OPTIONS]
    assert "none of learning" in toytask(*tiny, "--epochs", "2", "--separate-epochs", "2").err
    assert "none of learning" not in toytask(*tiny, "--epochs", "2", "--separate-epochs", "1").err
