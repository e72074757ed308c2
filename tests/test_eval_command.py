"""`toytask eval`: what it prints and writes."""

import json
from pathlib import Path

from conftest import Command


def test_eval_reports_each_task_with_its_interval(toytask: Command, run):
    result = toytask("eval", "--json")
    report = json.loads(result.out)
    assert report == json.loads(Path("runs/01/reports/eval.json").read_text())
    assert {"schema_version", "run", "weights_sha256", "split", "accuracy", "n"} <= report.keys()
    assert report["split"] == "test"
    for task in report["tasks"].values():
        assert {"accuracy", "n", "ci95", "ce_loss"} <= task.keys()
        assert task["ci95"][0] <= task["accuracy"] <= task["ci95"][1]
    assert Path("runs/01/figures/eval-correctness.png").read_bytes().startswith(b"\x89PNG")


def test_eval_of_another_split_or_a_sample_has_a_report_of_its_own(toytask: Command, run):
    toytask("eval", "--no-figures")
    whole = Path("runs/01/reports/eval.json").read_bytes()
    options = ["--split", "validation", "--no-figures"]
    report = json.loads(toytask("eval", *options, "--json").out)
    assert (report["split"], report["limit"]) == ("validation", None)
    assert report == json.loads(Path("runs/01/reports/eval-validation.json").read_text())
    result = toytask("eval", *options, "--limit", "7")
    assert "7 random examples of the validation split" in result.out
    assert json.loads(Path("runs/01/reports/eval-validation-sample.json").read_text())["n"] == 7
    assert Path("runs/01/reports/eval.json").read_bytes() == whole


def test_eval_shows_how_wrong_answers_are_wrong(toytask: Command, run):
    result = toytask("eval", "--no-figures")
    tasks = run.read_report("eval")["tasks"].values()
    kinds = {kind for task in tasks for kind, count in task["error_types"].items() if count}
    assert kinds
    shown = [kind.replace("_", " ") for kind in kinds]
    for text in ("95 % interval", "adds up to ten", "seen in training", "prediction", *shown):
        assert text in result.out
    assert "greedy decoding agrees with teacher forcing on 40 of 40" in result.out
