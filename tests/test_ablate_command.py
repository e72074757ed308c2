import json
import re
from pathlib import Path

import pytest
from conftest import Command
from memorised_run import memorised_run

from toytask_cli.analysis.ablation_report import _kept_in_words, _loss_in_words
from toytask_cli.cli.console import prediction_text

pytestmark = pytest.mark.usefixtures("run")


def ablate(toytask: Command, *args: object) -> dict:
    result = toytask("ablate", "--no-figures", "--json", *args)
    assert result.code == 0, result.err
    return json.loads(result.out)


def test_the_report_has_what_is_promised(toytask: Command):
    report = ablate(toytask, "runs/01", "--remove", "concat", "--tolerance", "0.1")
    written = json.loads(Path("runs/01/ablations/remove-concat-tol0.1.json").read_text())
    assert report == written
    assert (report["removed_task"], report["kept_tasks"]) == ("concat", ["sum"])
    assert (report["tolerance"], report["error"], report["run"]) == (0.1, "keep", "runs/01")
    assert len(report["weights_sha256"]) == 64
    for part in ("test", "validation"):
        for when in ("before", "after"):
            for task in ("sum", "concat"):
                assert {"accuracy", "n", "ci95"} <= report[part][when][task].keys()
    for control in report["test"]["random_control"].values():
        assert control["min"] <= control["mean"] <= control["max"]
    for point in report["curve"]:
        assert {"tolerance", "n_neurons", "validation", "test"} == point.keys()


def test_before_is_what_eval_says_on_the_same_pairs(toytask: Command):
    report = ablate(toytask, "--remove", "sum")
    evaluated = json.loads(toytask("eval", "--json", "--no-figures").out)
    for task, before in report["test"]["before"].items():
        assert before["accuracy"] == pytest.approx(evaluated["tasks"][task]["accuracy"])


@pytest.mark.parametrize("error", ["keep", "drop"])
def test_after_is_what_eval_says_with_the_ablation_applied(toytask: Command, error):
    report = ablate(toytask, "--remove", "sum", "--tolerance", "0.3", "--error", error)
    name = "remove-sum-tol0.3" + ("-drop" if error == "drop" else "")
    evaluated = json.loads(toytask("eval", "--ablation", name, "--json", "--no-figures").out)
    assert evaluated["ablation"] == name
    assert Path(f"runs/01/reports/eval-{name}.json").exists()
    for task, after in report["test"]["after"].items():
        assert after["accuracy"] == pytest.approx(evaluated["tasks"][task]["accuracy"])


def test_eval_says_where_the_neurons_were_chosen_on_what_it_measures(toytask: Command):
    ablate(toytask, "--remove", "sum", "--tolerance", "0.3")
    measured = ["eval", "--ablation", "remove-sum-tol0.3", "--no-figures"]
    warning = "the ablation's neurons were chosen on pairs of this split"
    assert warning not in toytask(*measured).out
    assert warning in toytask(*measured, "--split", "validation").out
    assert warning not in toytask("eval", "--split", "validation", "--no-figures").out


def test_a_given_set_of_neurons_is_removed_as_it_is(toytask: Command):
    report = ablate(toytask, "--remove", "sum", "--neurons", "12,3,12", "--name", "mine")
    assert (report["neurons"], report["curve"], report["tolerance"]) == ([3, 12], [], None)
    assert Path("runs/01/ablations/mine.json").exists()
    printed = toytask("ablate", "--no-figures", "--remove", "sum", "--neurons", "12,3").out
    assert printed.startswith("2 neurons removed (a given set, error keep), measured on test\n")


def test_it_says_where_no_tolerance_keeps_enough(toytask: Command, monkeypatch):
    monkeypatch.setattr("toytask_cli.analysis.select.KEPT_SHARE", 2.0)
    printed = toytask("ablate", "--no-figures", "--remove", "sum", "--name", "weak").out
    warning = "no tolerance keeps enough of every kept task on validation: this is the smallest"
    assert warning in printed
    assert toytask("ablate", "--remove", "sum", "--tolerance", "0.1", "--no-figures").code == 0


def test_the_summary_says_every_number_in_plain_words(toytask: Command):
    result = toytask("ablate", "--remove", "concat", "--tolerance", "0.1")
    for shown in (
        "live neurons removed",
        "(removed)",
        "random neurons",
        "of its accuracy",
        "right",
    ):
        assert shown in result.out
    assert result.err.endswith("next: toytask chat runs/01 --ablation remove-concat-tol0.1\n")
    for figure in ("curve", "bars", "neurons-sum", "neurons-concat"):
        picture = Path(f"runs/01/figures/remove-concat-tol0.1-{figure}.png").read_bytes()
        assert picture.startswith(b"\x89PNG")


def test_the_same_seed_gives_the_same_report_and_another_another_control(toytask: Command):
    runs = [ablate(toytask, "--remove", "sum", "--seed", seed) for seed in (0, 0, 1)]
    assert runs[0] == runs[1]
    assert runs[0]["test"]["random_control"] != runs[2]["test"]["random_control"]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--remove", "cncat"], 2, "did you mean 'concat'"),
        ([], 2, "name a task to --remove"),
        (["--remove", "sum,concat"], 2, "keep at least one"),
        (["--remove", "sum,"], 2, "unknown task ''"),
        (["--remove", "sum", "--remove", "concat"], 2, "keep at least one"),
        (["--remove", "sum", "--tolerance", "-1"], 2, "tolerance is -1.0: must be 0 or more"),
        (["--remove", "sum", "--error", "dorp"], 2, "did you mean 'drop'"),
        (["--remove", "sum", "--neurons", "1,x"], 2, "must be numbers"),
        (["--remove", "sum", "--neurons", "4800"], 2, "there is no neuron 4800"),
        (["--remove", "sum", "--neurons", "1", "--tolerance", "1"], 2, "not both"),
        (["--remove", "sum", "--name", "../x"], 1, "'../x' cannot name an ablation"),
        (["--remove", "sum", "--name", "importance"], 1, "cannot name an ablation"),
        (["--remove", "sum", "--name", "validation-2"], 1, "cannot name an ablation"),
        (["--remove", "sum", "--name", "trained"], 1, "cannot name an ablation"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(toytask: Command, trained, args, code, message):
    before = {p: p.stat().st_mtime_ns for p in trained.rglob("*")}
    result = toytask("ablate", "--no-figures", *args)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert message in result.err
    assert {p: p.stat().st_mtime_ns for p in trained.rglob("*")} == before


@pytest.mark.parametrize("spoil", ["neurons", "error", "weights_sha256"])
def test_an_ablation_that_is_not_of_these_weights_or_not_whole_is_refused(toytask: Command, spoil):
    ablate(toytask, "--remove", "sum", "--tolerance", "0.2", "--name", f"spoilt-{spoil}")
    path = Path(f"runs/01/ablations/spoilt-{spoil}.json")
    path.write_text(json.dumps({**json.loads(path.read_text()), spoil: 7}))
    result = toytask("eval", "--ablation", f"spoilt-{spoil}", "--no-figures")
    assert (result.code, result.err.count("\n")) == (1, 1)
    assert f"spoilt-{spoil}.json" in result.err
    path.unlink()


def test_an_unknown_ablation_is_answered_with_a_suggestion(toytask: Command):
    ablate(toytask, "--remove", "sum", "--name", "without-sum")
    result = toytask("eval", "--ablation", "without-som", "--no-figures")
    assert (result.code, "did you mean 'without-sum'" in result.err) == (1, True)


def test_more_than_two_tasks_can_be_kept_and_more_than_one_removed(
    toytask: Command, tmp_path, monkeypatch
):
    monkeypatch.chdir(tmp_path)
    memorised_run(tmp_path, "sum", "concat", "diff", "max")
    report = ablate(toytask, "--remove", "diff")
    assert report["kept_tasks"] == ["sum", "concat", "max"]
    both = ablate(toytask, "--remove", "max", "--remove", "diff", "--tolerance", "0.1")
    assert (both["removed_task"], both["kept_tasks"]) == ("diff+max", ["sum", "concat"])
    assert ablate(toytask, "--remove", "max, diff", "--tolerance", "0.1") == both
    assert Path("runs/01/ablations/remove-diff+max-tol0.1.json").exists()
    removal = ["--remove", "max", "--remove", "diff", "--tolerance", "0.1", "--no-figures"]
    shown = toytask("ablate", *removal).out
    assert re.search(r"tolerance +neurons +most left +least kept", shown)


def test_a_task_that_was_never_right_is_not_called_gone_or_lost() -> None:
    test = {when: {"sum": {"accuracy": 0.0}} for when in ("before", "after")}
    assert _loss_in_words(test, "sum") == "had no accuracy to lose"
    assert _kept_in_words(test, "sum") == "sum had no accuracy to keep"


def test_right_digits_in_wrong_tokens_are_told_from_the_target() -> None:
    assert prediction_text({"prediction": "10", "target": "10"}) == "10 (in other tokens)"
    assert prediction_text({"prediction": "", "target": "10"}) == "(nothing)"
    assert prediction_text({"prediction": "1", "target": "10"}) == "1"
