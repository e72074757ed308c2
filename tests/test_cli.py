import json
import os
import re
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pexpect
import pytest
from conftest import TINY_OPTIONS, Command

from toytask_cli.runs.run import Run

TOYTASK = [sys.executable, "-m", "toytask_cli"]
NOT_A_TERMINAL = {**os.environ, "OMP_NUM_THREADS": "1"}


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    monkeypatch.chdir(tmp_path)
    return tmp_path


def spawn(*args: str) -> pexpect.spawn:
    """`toytask ARGS` in a pseudo-terminal."""
    env = {**NOT_A_TERMINAL, "TERM": "xterm-256color", "COLUMNS": "100", "LINES": "40"}
    command = [*TOYTASK[1:], *args]
    return pexpect.spawn(
        TOYTASK[0], command, env=env, encoding="utf-8", timeout=60, dimensions=(40, 100)
    )


# Before any work


@pytest.mark.parametrize(
    "args", [["--help"], ["--version"], ["train", "--help"], ["--show-completion"], ["nonsense"]]
)
def test_help_and_completion_import_nothing_heavy(args):
    code = (
        "import sys\n"
        f"sys.argv = ['toytask', *{args!r}]\n"
        "from toytask_cli.cli.app import main\n"
        "try: main()\n"
        "except SystemExit: pass\n"
        "heavy = {'torch', 'numpy', 'matplotlib', 'seaborn', 'pandas'} & set(sys.modules)\n"
        "sys.exit(f'imported {heavy}' if heavy else 0)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr


def test_every_command_has_help_with_an_example(toytask: Command):
    commands = re.findall(r"^│ (\w+) ", toytask("--help").out.split("Commands")[1], re.MULTILINE)
    assert {"data", "train", "eval"} <= set(commands)
    for command in commands:
        assert "Example: toytask" in toytask(command, "--help").out


def test_no_command_at_all_shows_the_help(toytask: Command):
    assert toytask().out == toytask("--help").out


@pytest.mark.parametrize(
    ("args", "code", "said"),
    [
        (["data", "--tasks", "sum,cncat"], 2, "did you mean 'concat'"),
        (["data", "--digits", "0"], 2, "digits is 0: must be 1 to 3"),
        (["data", "--digits", "9"], 2, "digits is 9: must be 1 to 3"),
        (["data", "--train-fraction", "1.2"], 2, "train_fraction is 1.2"),
        (["data", "--train-fraction", "0.9"], 2, "validation_fraction is 0.2"),
        (["data", "--split", "pears"], 2, "did you mean 'pair'"),
        (["data", "12x34"], 1, "'X' in '12x34' is not in the vocabulary"),
        (["data", "120+1"], 1, "120 is out of range: operands go from 0 to 99"),
        (["data", "--seed", "9" * 20], 2, "must be 9223372036854775807 at most"),
        (["data", "12C34", "--out", "new"], 2, "give either a prompt or --out"),
        (["train", "--seed", "9" * 20], 2, "seed is 99999999999999999999: must be 0 to 9223"),
        (["train", "--seed", "-1"], 2, "error: seed is -1: must be 0 to"),
        (["train", "--lr", "nan"], 2, "lr is nan: must be a finite number"),
        (["train", "--out", b"lat\xe9".decode(errors="surrogateescape")], 1, "is no UTF-8"),
        (
            ["train", "--train-fraction", "1e-9"],
            2,
            "no example of sum is left for the train part",
        ),
        (["data", "--digits", "1", "--validation-fraction", "0.004"], 2, "the validation part"),
        (["train", "--n-heads", "64"], 2, "must be a divisor of 256, 32 at most"),
        (["train", "--lambda", "-1"], 2, "lambda is -1.0: must be 0 or more"),
        (["train", "--lr", "fast"], 2, "'--lr'"),
        (["train", "--device", "gpu"], 2, "unknown device 'gpu'"),
        (["train", "--precision", "half"], 2, "unknown precision 'half'"),
        (["train", "--preset", "artcle"], 2, "did you mean 'article'"),
        (["train", "--recipe", "none.json"], 1, "cannot read none.json"),
        (["train", "--data", "none"], 1, "cannot read none/manifest.json"),
        (["train", "--resume", "runs/9"], 1, "no run at runs/9"),
        (["train", "--out", "full"], 1, "full is not empty"),
        (["train", "--epoch", "3"], 2, "--epochs"),
        (["eval"], 1, "toytask train"),
        (["eval", "full"], 1, "full is no run"),
        (["eval", "--limit", "0"], 2, "'--limit'"),
        (["evl"], 2, "Did you mean 'eval'"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(toytask: Command, here, args, code, said):
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text("mine")
    result = toytask(*args)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert said in result.err
    assert [p for p in here.rglob("*") if p.is_file()] == [here / "full" / "mine.txt"]


@pytest.mark.parametrize("args", [["eval"], ["train", "--resume"], ["data", "--out"]])
def test_a_path_that_the_system_refuses_is_one_line(toytask: Command, here, args):
    result = toytask(*args, "long" * 2000)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "File name too long" in result.err


def test_debug_shows_where_an_error_comes_from(toytask: Command, here):
    with pytest.raises(Exception, match="there is no run"):
        toytask("--debug", "eval")


# data


def test_data_shows_counts_vocabulary_and_resplit_answers(toytask: Command):
    said = toytask("data").out
    assert re.search(r"concat +C +3,000 +2,000 +5,000 +1,889 of 10,000", said)
    assert "vocabulary of 204 tokens" in said


def test_data_shows_one_prompt_and_its_part(toytask: Command):
    said = toytask("data", "12C34").out
    assert "B 12 C 34 E" in said
    assert "B 123 4 E" in said
    assert re.search("in the (train|validation|test) part", said)
    assert "re-splits" in said


@pytest.mark.parametrize("args", [[], ["47 c 23"]])
def test_json_is_plain_whatever_the_width(toytask: Command, monkeypatch, args):
    monkeypatch.setenv("COLUMNS", "20")
    result = toytask("data", "--json", *args)
    assert json.loads(result.out)
    assert result.err == ""


def test_training_takes_written_data_back(toytask: Command, here):
    toytask("data", "--out", "d", "--digits", "1", "--seed", "7", "--train-fraction", "0.5")
    small = [*TINY_OPTIONS, "--epochs", "1", "--no-figures"]
    assert toytask("train", "--data", "d", "--json", "--out", "run", *small).code == 0
    recipe = Run.open(Path("run")).config.recipe
    assert (recipe.split_seed, recipe.seed, recipe.digits) == (7, 0, 1)
    refused = toytask("train", "--data", "d", "--digits", "2")
    assert (refused.code, "digits is settled by d" in refused.err) == (2, True)


# train


def test_the_command_line_beats_the_file_and_the_file_beats_the_preset(toytask: Command, here):
    Path("r.json").write_text(json.dumps({"lr": 0.005, "lambda": 0.5, "epochs": 1}))
    toytask(
        "train", "--preset", "article", "--recipe", "r.json", "--lr", "0.004", "--out", "run",
        *TINY_OPTIONS, "--epochs", "1", "--train-fraction", "0.3", "--no-figures",
    )  # fmt: skip
    recipe = Run.open(Path("run")).config.recipe
    assert (recipe.lr, recipe.lambda_, recipe.token_scale) == (0.004, 0.5, 1.0)


def test_training_writes_a_whole_run(toytask: Command, here):
    result = toytask("train", *TINY_OPTIONS, "--json")
    report = json.loads(result.out)
    assert report["status"] == "finished"
    assert report["schema_version"] == 1
    assert json.loads(Path("runs/01/reports/train.json").read_text()) == report
    names = {str(p.relative_to("runs/01")) for p in Path("runs/01").rglob("*") if p.is_file()}
    assert names == {
        "config.json", "model.safetensors", "checkpoint.safetensors", "metrics.jsonl",
        "reports/train.json", "figures/losses.png", "figures/accuracy.png",
    }  # fmt: skip
    assert re.search(r"epoch 12 separate: loss .*, validation .*, sum .* %, concat", result.err)
    assert result.err.endswith("next: toytask eval runs/01\n")


def test_a_terminal_sees_progress_terms_accuracy_and_a_sparkline(here):
    child = spawn("train", *TINY_OPTIONS, "--epochs", "40", "--no-figures")
    child.expect("learn.*epochs")
    for shown in ("overlap", "validation", "sum", "l0", "dead", "validation loss.*[▁▂▃▄▅▆▇█]{3}"):
        child.expect(shown)
    child.expect("best weights from epoch")
    child.expect("next: .*toytask eval runs/01")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 0


def test_ctrl_c_keeps_the_best_weights_and_the_named_command_goes_on(toytask: Command, here):
    child = spawn("train", *TINY_OPTIONS, "--epochs", "4000", "--no-figures")
    child.expect("validation loss")
    child.sendintr()
    child.expect("interrupted after epoch")
    child.expect("next: .*toytask train --resume runs/01")
    child.expect(pexpect.EOF)
    child.close()
    assert child.exitstatus == 130
    assert toytask("eval", "--no-figures").code == 0
    done = Run.open(None).read_metrics()[-1]["epoch"]
    result = toytask("train", "--resume", "runs/01", "--epochs", done + 3, "--no-figures")
    assert result.code in (0, 2)  # 2: the limit is settled if it had begun to separate
    if result.code == 0:
        assert Run.open(None).read_metrics()[-1]["epoch"] == done + 3


def test_ctrl_c_without_a_terminal_exits_with_130_and_leaves_a_whole_run(here):
    command = [*TOYTASK, "train", *TINY_OPTIONS, "--epochs", "4000", "--no-figures"]
    with subprocess.Popen(
        command, env=NOT_A_TERMINAL, stderr=subprocess.PIPE, stdout=subprocess.DEVNULL, text=True
    ) as process:
        assert process.stderr is not None
        while "epoch" not in process.stderr.readline():
            pass
        process.send_signal(signal.SIGINT)
        rest = process.stderr.read()
    assert process.returncode == 130
    assert "next: toytask train --resume runs/01" in rest
    run = Run.open(None)
    assert json.loads((run.path / "reports" / "train.json").read_text())["status"] == "interrupted"


def test_resuming_a_finished_run_says_so_and_writes_nothing(toytask: Command, trained, monkeypatch):
    monkeypatch.chdir(trained)
    files = [p for p in Path("runs").rglob("*") if p.is_file()]
    before = {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files}
    result = toytask("train", "--resume", "runs/01")
    assert (result.code, result.out) == (0, "")
    assert "runs/01 has finished after 80 epochs: nothing to do\nnext: toytask eval" in result.err
    report = json.loads(toytask("train", "--resume", "runs/01", "--json").out)
    assert report["status"] == "finished"
    assert {p: (p.read_bytes(), p.stat().st_mtime_ns) for p in files} == before


def test_resuming_a_finished_run_draws_the_figures_that_it_was_ended_before(toytask: Command, here):
    toytask("train", *TINY_OPTIONS, "--no-figures")
    assert not Run.open(None).has_figure("losses")
    toytask("train", "--resume", "runs/01")
    assert Run.open(None).has_figure("losses")
    assert Run.open(None).has_figure("accuracy")


def test_the_newest_run_is_one_that_has_weights(toytask: Command, here):
    for _ in range(2):
        toytask("train", *TINY_OPTIONS, "--epochs", "1", "--no-figures")
    Path("runs/02/model.safetensors").unlink()
    assert Run.open(None).path == Path("runs/01")
    Path("runs/01/model.safetensors").unlink()
    assert Run.open(None).path == Path("runs/02")


def test_more_epochs_are_said_to_put_off_the_second_phase(toytask: Command, here):
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
def test_resume_takes_its_recipe_from_the_run(toytask: Command, trained, monkeypatch, option):
    monkeypatch.chdir(trained)
    result = toytask("train", "--resume", "runs/01", option)
    name = option.split("=")[0]
    assert (result.code, f"leave out {name}" in result.err) == (2, True)


# eval


def test_eval_reports_each_task_with_its_interval(toytask: Command, trained, monkeypatch):
    monkeypatch.chdir(trained)
    result = toytask("eval", "--json")
    report = json.loads(result.out)
    assert report == json.loads(Path("runs/01/reports/eval.json").read_text())
    assert {"schema_version", "run", "weights_sha256", "split", "accuracy", "n"} <= report.keys()
    assert report["split"] == "test"
    for task in report["tasks"].values():
        assert {"accuracy", "n", "ci95", "ce_loss"} <= task.keys()
        assert task["ci95"][0] <= task["accuracy"] <= task["ci95"][1]
    assert Path("runs/01/figures/eval-correctness.png").read_bytes().startswith(b"\x89PNG")


def test_eval_of_another_part_or_a_sample_has_a_report_of_its_own(
    toytask: Command, trained, monkeypatch
):
    monkeypatch.chdir(trained)
    toytask("eval", "--no-figures")
    whole = Path("runs/01/reports/eval.json").read_bytes()
    options = ["--split", "validation", "--no-figures"]
    report = json.loads(toytask("eval", *options, "--json").out)
    assert (report["split"], report["limit"]) == ("validation", None)
    assert report == json.loads(Path("runs/01/reports/eval-validation.json").read_text())
    result = toytask("eval", *options, "--limit", "7")
    assert "7 random examples of the validation part" in result.out
    assert json.loads(Path("runs/01/reports/eval-validation-sample.json").read_text())["n"] == 7
    assert Path("runs/01/reports/eval.json").read_bytes() == whole


def test_a_runs_configuration_is_a_recipe(toytask: Command, trained, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    recipe = str(trained / "runs" / "01" / "config.json")
    again = ["--recipe", recipe, "--epochs", "2", "--separate-epochs", "0", "--no-figures"]
    assert toytask("train", *again).code == 0
    first, second = (Run.open(place).config.recipe for place in (trained / "runs/01", None))
    assert second == replace(first, epochs=2, separate_epochs=0)


def test_a_training_without_an_epoch_to_learn_in_is_asked_about(toytask: Command, here):
    tiny = ["train", "--no-figures", *TINY_OPTIONS]
    assert "none of learning" in toytask(*tiny, "--epochs", "2", "--separate-epochs", "2").err
    assert "none of learning" not in toytask(*tiny, "--epochs", "2", "--separate-epochs", "1").err


def test_the_next_line_after_data_asks_for_the_same_data(toytask: Command):
    said = toytask("data", "--tasks", "sum,max", "--seed", "3").err
    assert said.endswith("next: toytask train --tasks sum,max --split-seed 3\n")


def test_eval_shows_how_wrong_answers_are_wrong(toytask: Command, trained, monkeypatch):
    monkeypatch.chdir(trained)
    result = toytask("eval", "--no-figures")
    for shown in (
        "95 % interval",
        "adds up to ten",
        "seen in training",
        "off by one",
        "prediction",
    ):
        assert shown in result.out
    assert "greedy decoding agrees with teacher forcing on 40 of 40" in result.out


def test_output_has_no_colour_codes_in_a_pipe(trained):
    done = subprocess.run(
        [*TOYTASK, "eval", "--no-figures"],
        cwd=trained, env=NOT_A_TERMINAL, capture_output=True, check=True,
    )  # fmt: skip
    assert b"\x1b" not in done.stdout + done.stderr
