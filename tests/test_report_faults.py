"""The page of a run whose files hold what no command writes."""

import shutil
from pathlib import Path

import pytest
import torch
from conftest import Command
from html_page import Elements, rewrite

from toytask_cli.runs import tensor_files
from toytask_cli.runs.run import Run


@pytest.fixture
def run(measured_run: Run) -> Run:
    return measured_run


EVIL = "</td><script>alert(1)</script><img src=x onerror=alert(2)> \" ' & {{ 7 * 7 }}"


def test_text_from_any_report_is_escaped(toytask: Command, run: Run):
    rewrite(run.path / "reports" / "eval.json", lambda r: r["definitions"].update({EVIL: EVIL}))
    wrong = {"task": "sum", "prompt": EVIL, "target": EVIL, "prediction": EVIL}
    rewrite(run.path / "reports" / "eval.json", lambda r: r["wrong"].insert(0, wrong))
    rewrite(run.path / "reports" / "importance.json", lambda r: r["summary"].update(sum=EVIL))
    rewrite(run.path / "config.json", lambda r: r["machine"].update({EVIL: EVIL}))
    for row in ("pattern", "raises", "prompts"):
        rewrite(
            run.path / "reports" / "importance.json",
            lambda r, row=row: r["neurons"][0].update({row: EVIL}),
        )
    shutil.move(run.path, "runs/<script>")
    assert toytask("report", "runs/<script>").code == 0
    elements = Elements(Path("runs/<script>/report.html").read_text())
    assert sum(tag == "script" for tag, _, _ in elements.found) == 1
    assert not [a for tag, a, _ in elements.found if tag == "img" or "onerror" in a]
    assert sum(" ".join(EVIL.split()) in text for text in elements.texts("td")) >= 5


@pytest.mark.parametrize(
    ("name", "change"),
    [
        ("reports/eval.json", lambda r: r.update(tasks=3)),
        ("reports/eval.json", lambda r: r["tasks"]["sum"].update(ci95=[1])),
        ("reports/train.json", lambda r: r.update(epochs="many")),
        ("reports/sparsity.json", lambda r: r["all"].update(l0=[])),
        ("reports/importance.json", lambda r: r.pop("neurons")),
        ("reports/importance.json", lambda r: r["neurons"][0].update(position="first")),
        ("reports/importance.json", lambda r: r["neurons"][0].update(neuron=10**6)),
        ("ablations/remove-concat-tol0.1.json", lambda r: r.update(removed_tasks=[{}])),
        ("ablations/remove-concat-tol0.1.json", lambda r: r["curve"][0].update(tolerance=None)),
        ("ablations/remove-concat-tol0.1.json", lambda r: r["prompts"][0].update(before=7)),
        ("ablations/remove-concat-tol0.1.json", lambda r: r["test"]["before"].clear()),
    ],
)
def test_values_that_no_command_writes_are_one_line(toytask: Command, run: Run, name, change):
    rewrite(run.path / name, change)
    result = toytask("report")
    if name == "reports/importance.json" and result.code == 0:
        return  # a neuron without a map is left out
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result
    assert f"{run.path}/{name}: not as toytask writes it: make it again with `" in result.err


def test_half_a_character_in_the_configuration_becomes_a_question_mark(toytask: Command, run: Run):
    rewrite(run.path / "config.json", lambda r: r["machine"].update(processor="a\ud800z"))
    assert toytask("report").code == 0
    assert "a?z" in (run.path / "report.html").read_text()


def test_tensors_of_a_kind_that_no_command_writes_are_one_line(toytask: Command, run: Run):
    path = run.path / "reports" / "importance.safetensors"
    tensors, metadata = tensor_files.read(path)
    changed = {name: tensor.to(torch.float8_e4m3fn) for name, tensor in tensors.items()}
    tensor_files.write(path, changed, metadata)
    result = toytask("report")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result
    assert "importance.safetensors: not as toytask writes it: make it again with `" in result.err


def test_a_report_of_other_weights_is_one_line(toytask: Command, run: Run):
    rewrite(run.path / "reports" / "eval.json", lambda r: r.update(weights_sha256="0"))
    result = toytask("report")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "eval.json: made from other weights" in result.err


def test_a_set_of_neurons_that_a_person_wrote_is_no_removal_to_show(toytask: Command, run: Run):
    run.write_ablation("mine", {"neurons": [1, 2], "error": "keep"})
    assert toytask("report").code == 0
    assert "mine" not in Elements((run.path / "report.html").read_text()).texts("h3")


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [(["runs/9"], 1, "no run at runs/9"), (["--opn"], 2, "--opn")],
)
def test_bad_input_is_one_line(toytask: Command, run: Run, args, code, message):
    result = toytask("report", *args)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert message in result.err
