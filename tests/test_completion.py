"""Completion in the shell, through the protocol that a shell's script speaks."""

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest
from conftest import environment
from memorised_run import memorised_run

from toytask_cli.analysis.effects import METHODS
from toytask_cli.device import DEVICES, PRECISIONS
from toytask_cli.hooks import ERRORS, HOOK_POINTS
from toytask_cli.recipe import OPTIMIZERS, PRESETS, SAE_KINDS, SPLIT_BY
from toytask_cli.tasks import TASKS

pytestmark = pytest.mark.usefixtures("here")

# Answers each command line as bash would have it answered, in one process that imports nothing
# heavy.
ANSWER = """
import io, json, os, sys
from contextlib import redirect_stdout, suppress
from toytask_cli.cli.app import main

lines, sys.argv = sys.argv[1:], ["toytask"]
answers = []
for line in lines:
    index = len(line.split()) - (not line.endswith(" "))
    os.environ |= {
        "_TOYTASK_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(index),
    }
    with redirect_stdout(io.StringIO()) as out, suppress(SystemExit):
        main()
    answers.append(out.getvalue().split())
heavy = {"torch", "numpy", "matplotlib", "seaborn", "pandas"} & set(sys.modules)
sys.exit(f"imported {heavy}") if heavy else print(json.dumps(answers))
"""


def complete(*lines: str) -> list[list[str]]:
    """Return what is offered at the end of each command line."""
    command = [sys.executable, "-c", ANSWER, *(f"toytask {line}" for line in lines)]
    done = subprocess.run(command, env=environment(), capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    return json.loads(done.stdout)


@pytest.fixture
def run(here: Path) -> Path:
    """`runs/01`, with the ablation `no-concat`."""
    return memorised_run(here).path


def test_values_are_offered_in_full():
    expected = {
        "train --tasks ": TASKS,
        "data --tasks ": TASKS,
        **{f"{command} --preset ": PRESETS for command in ("train", "study")},
        "train --optimizer ": OPTIMIZERS,
        "train --sae ": SAE_KINDS,
        "data --split-by ": SPLIT_BY,
        **{f"{command} --precision ": PRECISIONS for command in ("train", "distill", "study")},
        **{f"{command} --device ": DEVICES for command in ("train", "eval", "ablate", "chat")},
        "ablate --error ": ERRORS,
        "importance --method ": METHODS,
        "eval --split ": ("validation", "test"),
    }
    assert complete(*expected) == [list(values) for values in expected.values()]
    [blocks] = complete("sparsity --block ")
    assert sorted(blocks) == sorted(HOOK_POINTS)


def test_studies_are_offered(here: Path):
    for name in ("study-01", "study-02", "01", "studies"):
        (here / "runs" / name).mkdir(parents=True)
    studies = ["runs/study-01", "runs/study-02"]
    assert complete("study ", "report runs/s") == [studies, studies]


def test_what_is_typed_narrows_the_choice():
    assert complete("train --optimizer m", "eval --device x") == [["muon"], []]


def test_lists_go_on_after_a_comma_with_what_they_lack():
    assert complete("train --tasks sum,m", "train --tasks swap,s") == [
        ["sum,max", "sum,min"],
        ["swap,sum"],
    ]


def test_runs_their_tasks_and_their_ablations_are_offered(run):
    shutil.copytree(run, "elsewhere")
    expected = {
        "eval ": ["runs/01"],
        "train --resume r": ["runs/01"],
        "ablate --remove ": ["sum", "concat"],
        "ablate runs/01 --remove concat,": ["concat,sum"],
        "eval --ablation ": ["no-concat"],
        "attack --ablation ": ["no-concat"],
        "attack --task s": ["sum"],
        "distill --ablation ": ["no-concat"],
    }
    assert complete(*expected) == list(expected.values())
    shutil.rmtree(run)
    named = complete("eval elsewhere --ablation no", "ablate elsewhere --seed 1 --remove s")
    assert named == [["no-concat"], ["sum"]]
    assert complete("ablate --remove ") == [[]]


def test_of_a_spoilt_run_or_of_none_nothing_is_offered(run):
    (run / "config.json").write_text("{")
    assert complete("ablate --remove ", "ablate runs/9 --remove ") == [[], []]


def test_the_name_of_a_run_is_offered_only_if_it_is_one_plain_word(run):
    for name in ("a b", "a;b", "a\nb", "-a"):
        shutil.copytree(run, run.with_name(name))
    [runs] = complete("eval r")
    assert sorted(runs) == ["runs/-a", "runs/01"]
