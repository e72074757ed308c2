"""The command line: claims about every subcommand, and about `toytask data`."""

import json
import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import TINY_OPTIONS, Command
from processes import start

from toytask_cli.runs.run import Run

# Every subcommand


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
    ("args", "code", "message"),
    [
        (["data", "--tasks", "sum,cncat"], 2, "did you mean 'concat'"),
        (["data", "--digits", "0"], 2, "digits is 0: must be 1 to 3"),
        (["data", "--digits", "9"], 2, "digits is 9: must be 1 to 3"),
        (["data", "--train-fraction", "1.2"], 2, "train_fraction is 1.2"),
        (["data", "--train-fraction", "0.9"], 2, "validation_fraction is 0.2"),
        (["data", "--split-by", "pears"], 2, "did you mean 'pair'"),
        (["data", "12x34"], 1, "'X' in '12x34' is not in the vocabulary"),
        (["data", "120+1"], 1, "120 is out of range: operands go from 0 to 99"),
        (["data", "--seed", "9" * 20], 2, "must be 9223372036854775807 at most"),
        (["data", "12C34", "--out", "new"], 2, "give either a prompt or --out"),
        (["train", "--seed", "9" * 20], 2, "seed is 99999999999999999999: must be 0 to 9223"),
        (["train", "--seed", "-1"], 2, "error: seed is -1: must be 0 to"),
        (["train", "--lr", "nan"], 2, "lr is nan: must be a finite number"),
        (["train", "--alpha", "1e39"], 2, "alpha is 1e+39: must be a finite number, 0 or 1.2e-38"),
        (["train", "--d-sae", "10000000000"], 2, "weights is too large"),
        (["train", "--d-model", "4" * 18], 2, "weights is too large"),
        (["train", "--out", b"lat\xe9".decode(errors="surrogateescape")], 1, "is no UTF-8"),
        (
            ["train", "--train-fraction", "1e-9"],
            2,
            "no example of sum is left for the train split",
        ),
        (["data", "--digits", "1", "--validation-fraction", "0.004"], 2, "the validation split"),
        (["train", "--n-heads", "3"], 2, "n_heads is 3: must be a divisor of 256"),
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
def test_bad_input_is_one_line_and_writes_nothing(toytask: Command, here, args, code, message):
    (here / "full").mkdir()
    (here / "full" / "mine.txt").write_text("mine")
    result = toytask(*args)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err
    assert [p for p in here.rglob("*") if p.is_file()] == [here / "full" / "mine.txt"]


@pytest.mark.parametrize("args", [["eval"], ["train", "--resume"], ["data", "--out"]])
def test_a_path_that_the_system_refuses_is_one_line(toytask: Command, here, args):
    result = toytask(*args, "long" * 2000)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "File name too long" in result.err


def test_debug_shows_where_an_error_comes_from(toytask: Command, here):
    with pytest.raises(Exception, match="there is no run"):
        toytask("--debug", "eval")


@pytest.mark.parametrize("option", ["--debug", "--version", "--show-completion"])
def test_an_option_of_the_program_after_a_command_is_answered_with_its_place(
    toytask: Command, here, option
):
    result = toytask("eval", option)
    expected = f"error: {option} comes before the command: toytask {option} eval\n"
    assert (result.code, result.out, result.err) == (2, "", expected)


@pytest.mark.parametrize("name", ["-x", "--out", "a b", "it's"])
def test_the_command_that_comes_next_can_be_pasted_into_a_shell(toytask: Command, here, name):
    printed = [
        toytask("train", *TINY_OPTIONS, "--epochs", "1", "--no-figures", f"--out={name}").err,
        toytask("eval", f"./{name}", "--no-figures").err,
        toytask("data", "--digits", "1", f"--out={name}-data").err,
    ]
    (here / name / "model.safetensors").unlink()
    printed.append(toytask("eval", f"./{name}").err)
    commands = [re.search(r"(?:next: |with `)toytask ([^`\n]+)", text)[1] for text in printed]
    for command, directory in zip(commands, (name, name, f"{name}-data", name), strict=True):
        typed = shlex.split(command)
        assert Path(typed[-1]) == Path(directory)
        assert not typed[-1].startswith("-")


def test_output_has_no_colour_codes_in_a_pipe(run):
    process = start("eval", "--no-figures")
    out, err = process.communicate(timeout=120)
    assert (process.returncode, "accuracy" in out) == (0, True)
    assert "\x1b" not in out + err


def test_the_newest_run_is_one_that_has_weights(toytask: Command, here):
    for _ in range(2):
        toytask("train", *TINY_OPTIONS, "--epochs", "1", "--no-figures")
    Path("runs/02/model.safetensors").unlink()
    assert Run.open(None).path == Path("runs/01")
    Path("runs/01/model.safetensors").unlink()
    assert Run.open(None).path == Path("runs/02")


@pytest.mark.parametrize("importing", [True, False])
def test_ctrl_c_exits_at_once_until_pytorch_is_imported(importing):
    code = (
        "import signal, sys\n"
        "from types import ModuleType, SimpleNamespace\n"
        "from toytask_cli.cli.signals import exit_on_early_interrupt\n"
        "torch = sys.modules['torch'] = ModuleType('torch')\n"
        f"torch.__spec__ = SimpleNamespace(_initializing={importing})\n"
        "exit_on_early_interrupt()\n"
        "try: signal.raise_signal(signal.SIGINT)\n"
        "except KeyboardInterrupt: print('interrupted')"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    result = (done.returncode, done.stdout, done.stderr)
    assert result == ((130, "", "") if importing else (0, "interrupted\n", ""))


def test_it_can_be_interrupted_before_anything_large_is_imported():
    code = "import sys, toytask_cli.__main__; sys.exit('typer' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0


# data


def test_data_shows_counts_vocabulary_and_merged_answers(toytask: Command):
    printed = toytask("data").out
    assert re.search(r"concat +C +3,000 +2,000 +5,000 +1,889 of 10,000", printed)
    assert "vocabulary of 204 tokens" in printed


def test_data_shows_one_prompt_and_its_split(toytask: Command):
    printed = toytask("data", "12C34").out
    assert "B 12 C 34 E" in printed
    assert "B 123 4 E" in printed
    assert re.search("(train|validation|test) split", printed)
    assert "merge" in printed


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


def test_the_next_line_after_data_asks_for_the_same_data(toytask: Command):
    printed = toytask("data", "--tasks", "sum,max", "--seed", "3").err
    assert printed.endswith("next: toytask train --tasks sum,max --split-seed 3\n")
