import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import TINY_OPTIONS, Command, all_files
from safetensors.torch import load_file, save_file

from toytask_cli.analysis.atlas import describe_neurons
from toytask_cli.analysis.importance import report_importance, score_neurons
from toytask_cli.analysis.operand_maps import at_all_operands
from toytask_cli.figures.importance import draw_importance_curve, draw_importance_pairs
from toytask_cli.figures.style import png
from toytask_cli.runs.run import Run

QUICK = ["--no-figures"]


def ask(toytask: Command, *options: object) -> dict:
    return json.loads(toytask("importance", *QUICK, "--json", *options).out)


def plain(report: object) -> object:
    return json.loads(json.dumps(report, default=vars))


def test_the_report_and_the_matrices_are_what_was_measured(toytask: Command, run: Run):
    report = ask(toytask, "--seed", 3)
    assert report == json.loads(Path("runs/01/reports/importance.json").read_text())
    grid = run.grid()
    model = run.model(grid, torch.device("cpu"))
    scores = score_neurons(model, grid, seed=3)
    atlas, maps = describe_neurons(
        at_all_operands(model, grid), scores.tensors.importance, scores.tensors.live
    )
    measured, described = vars(report_importance(scores)), vars(atlas)
    definitions = measured["definitions"] | described["definitions"]
    for key, value in (measured | described | {"definitions": definitions}).items():
        assert report[key] == plain(value), key
    tensors = scores.tensors._asdict() | maps._asdict()
    written = load_file("runs/01/reports/importance.safetensors")
    assert written.keys() == tensors.keys()
    for name, tensor in tensors.items():
        assert torch.equal(written[name], tensor), name
    assert written["importance"].shape == (2, 48)


def test_the_tables_set_the_tasks_side_by_side_with_intervals(toytask: Command, run: Run):
    result = toytask("importance", *QUICK)
    report = json.loads(Path("runs/01/reports/importance.json").read_text())
    for task, rows in report["top"].items():
        assert f"most important to {task}" in result.out
        first = rows[0]["tasks"][task]
        low, high = first["ci95"]
        assert f"{first['importance']:z.4f} {low:z.4f}…{high:z.4f}" in result.out
    assert result.err.endswith("next: toytask ablate runs/01 --remove concat\n")


def test_left_out_pairs_agreement_and_joint_effect_are_printed(toytask: Command, run: Run):
    printed = " ".join(toytask("importance", *QUICK).out.split())
    counts = ask(toytask)["pairs"]
    assert (
        f"of {counts['candidates']} validation pairs, {counts['wrong']['sum']} wrong for" in printed
    )
    assert f"{counts['right']} are right for every task, and all were used" in printed
    for shown in ("two halves of the pairs", "removal and mean ablation", "together raises its"):
        assert shown in printed


def test_every_live_neuron_is_described_and_each_task_summed_up(toytask: Command, run: Run):
    printed = " ".join(toytask("importance", *QUICK).out.split())
    report = run.read_report("importance")
    assert len(report["neurons"]) == report["n_live"]
    for task, patterns in report["patterns"].items():
        assert sum(patterns.values()) == sum(row["task"] == task for row in report["neurons"])
        assert report["summary"][task] in printed


def test_pairs_takes_a_sample_and_leaves_the_report_on_all_pairs(toytask: Command, run: Run):
    ask(toytask)
    before = all_files(run.path)
    assert ask(toytask, "--pairs", 1)["pairs"]["used"] == 1
    result = toytask("importance", "--pairs", 1, *QUICK)
    assert "a sample of 1 was used" in " ".join(result.out.split())
    assert "wrote runs/01/reports/importance-sample.json" in result.err
    changed = {path.name for path, _ in before.items() ^ all_files(run.path).items()}
    assert changed == {"importance-sample.json", "importance-sample.safetensors"}


def test_the_seed_decides_the_intervals_alone(toytask: Command, run: Run):
    one, other, again = (ask(toytask, "--seed", seed) for seed in (1, 2, 1))
    assert one == again
    assert one["seed"] == 1
    assert one["pairs"] == other["pairs"]
    assert one["top"] != other["top"]


def test_both_methods_agree(toytask: Command, run: Run):
    closed, hooks = (ask(toytask, "--method", method) for method in ("closed", "hooks"))
    assert (closed["method"], hooks["method"]) == ("closed", "hooks")
    for task in ("sum", "concat"):
        tops = (report["top"][task][0]["tasks"][task] for report in (closed, hooks))
        one, other = (top["importance"] for top in tops)
        assert one == pytest.approx(other, abs=1e-5)


def test_one_pair_is_shown_without_intervals(toytask: Command, run: Run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "200")
    assert "…" in toytask("importance", *QUICK).out
    printed = toytask("importance", "--pairs", 1, *QUICK).out
    assert "…" not in printed
    assert "interval;" not in printed
    assert "one pair says nothing about others: no intervals" in printed
    report = ask(toytask, "--pairs", 1)
    assert report["top"]["sum"][0]["tasks"]["sum"]["ci95"] is None
    written = load_file("runs/01/reports/importance-sample.safetensors")
    assert {"importance", "halves"} <= written.keys()
    assert not {"low", "high"} & written.keys()


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--method", "hook"], 2, "did you mean 'hooks'"),
        (["--pairs", "0"], 2, "'--pairs'"),
        (["--device", "gpu"], 2, "unknown device 'gpu'"),
        (["runs/9"], 1, "no run at runs/9"),
    ],
)
def test_bad_input_is_one_line(toytask: Command, run: Run, args, code, message):
    result = toytask("importance", *args)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err


def test_a_model_that_knows_nothing_is_told_to_train_longer(toytask: Command, tmp_path: Path):
    toytask("train", *TINY_OPTIONS, "--epochs", 1, "--out", tmp_path / "run", "--no-figures")
    file = Run.open(tmp_path / "run").model_file
    (tmp_path / "run" / "reports" / "train.json").unlink()  # it knows these weights
    save_file({name: 0 * tensor for name, tensor in load_file(file).items()}, file)
    result = toytask("importance", tmp_path / "run")
    assert (result.code, result.out) == (1, "")
    assert "train it longer" in result.err


def test_json_is_plain_whatever_the_width(toytask: Command, run: Run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    result = toytask("importance", "--json", *QUICK)
    assert json.loads(result.out)["top"]
    assert result.err == ""


def test_figures_are_drawn_unless_they_are_not_wanted(toytask: Command, run: Run):
    folder = run.path / "figures"
    ask(toytask)
    assert not list(folder.glob("importance-*"))
    others = {path.stem for path in folder.glob("*")}
    assert toytask("importance").code == 0
    figures = ("importance{}-by-task", "importance{}-curve", "neurons{}-sum", "neurons{}-concat")
    names = {path.stem for path in folder.iterdir()}
    assert names - others == {name.format("") for name in figures}
    # Pairs that training saw are left blank if that is asked for.
    picture = (folder / "neurons-sum.png").read_bytes()
    assert toytask("importance", "--unseen").code == 0
    assert (folder / "neurons-sum.png").read_bytes() != picture
    assert toytask("importance", "--pairs", 1).code == 0
    names = {path.stem for path in folder.iterdir()} - names
    assert names == {name.format("-sample") for name in figures}
    assert all(path.read_bytes().startswith(b"\x89PNG") for path in folder.iterdir())


def test_figures_take_more_than_two_tasks_and_neurons_that_do_not_matter():
    importance = np.array([[0.1, 0, -0.2], [0, 0, 0.2], [1e-7, 0, 0]], np.float32)
    names = ["sum", "concat", "diff"]
    figure = draw_importance_pairs(names, importance)
    assert len(figure.axes) == 3
    assert [text.get_text() for text in figure.axes[0].texts] == ["0", "2"]
    assert png(figure).startswith(b"\x89PNG")
    assert png(draw_importance_pairs(names, 0 * importance)).startswith(b"\x89PNG")
    low, high = importance - 0.1, importance + 0.1
    assert png(draw_importance_curve(names, importance, (low, high))).startswith(b"\x89PNG")
    one_pair = draw_importance_curve(names, importance, None)
    assert one_pair.axes[0].get_title() == "neurons in order of importance"
    nothing = 0 * importance
    assert png(draw_importance_curve(names, nothing, (nothing, nothing))).startswith(b"\x89PNG")
