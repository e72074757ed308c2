"""`toytask distill`: a student that never sees a true answer, and that every command works on."""

import json
import shlex
import shutil
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from conftest import Command, all_files, run_main
from html_page import Elements
from test_attack_command import small_run

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import tensor_files
from toytask_cli.runs.lessons import teacher_of
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session

CPU = torch.device("cpu")
DISTILL = ["distill", "runs/01", "--ablation", "remove-concat", "--no-figures"]
STUDENT = Path("runs/02")


@pytest.fixture(scope="module")
def distilled(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which a student was taught."""
    place = tmp_path_factory.mktemp("distilled")
    small_run(place, batch_size=16)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_main(patch, *DISTILL) == 0
    return place


@pytest.fixture
def copy(distilled: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the teacher and its student, to work in."""
    shutil.copytree(distilled / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The teacher alone, its directory to work in."""
    small_run(tmp_path, batch_size=16)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def session(out: str, **settings) -> Session:
    """The session of a student of `runs/01`."""
    run = Run.open(Path("runs/01"))
    grid = run.grid()
    arguments = {"distribution": False, "noise": 1.0} | settings
    teacher = teacher_of(run, run.model(grid, CPU), grid, "remove-concat", **arguments)
    recipe = replace(run.config.recipe, seed=1)
    return Session.start(recipe, CPU, torch.float32, Path(out), teacher=teacher)


# The student


def test_its_configuration_names_its_teacher(copy):
    values = json.loads((STUDENT / "config.json").read_text())
    teacher, run = values["teacher"], Run.open(Path("runs/01"))
    assert teacher["weights_sha256"] == run.weights_sha256()
    assert (teacher["ablation"], teacher["error"]) == ("remove-concat", "keep")
    assert (teacher["removed_tasks"], teacher["noise"]) == (["concat"], 1.0)
    assert teacher["before"] == {"sum": 1.0, "concat": 1.0}
    recipe, own = run.config.recipe, Run.open(STUDENT).config.recipe
    assert own == replace(recipe, seed=recipe.seed + 1, epochs=2 * recipe.epochs)


def test_an_ordinary_configuration_has_no_word_of_a_teacher(copy):
    assert {"teacher", "taught"}.isdisjoint(json.loads(Path("runs/01/config.json").read_text()))


def test_it_learns_what_the_teacher_writes_and_not_the_truth(copy):
    """Agreement with the teacher while training; right answers in the report."""
    train = json.loads((STUDENT / "reports" / "train.json").read_text())
    assert train["validation"]["accuracy"]["concat"] > train["tasks"]["concat"]["accuracy"]
    assert train["tasks"]["concat"]["accuracy"] < 0.2


@pytest.mark.parametrize(
    "command",
    [
        ["eval"], ["sparsity"], ["importance"], ["train", "--resume"],
        ["ablate", "--remove", "concat", "--tolerance", "0.1"], ["attack", "--steps", "1"],
    ],
    ids=lambda command: command[0],
)  # fmt: skip
def test_every_command_works_on_it(toytask: Command, copy, command):
    name, *options = command
    option = [] if options != ["--resume"] else ["--resume"]
    rest = options if not option else []
    result = toytask(name, *option, STUDENT, *rest, "--no-figures", "--json")
    assert result.code == 0, result.err
    assert json.loads(result.out)


def test_the_next_command_is_an_attack_on_it_and_then_a_chat_of_all_three(
    toytask: Command, place, monkeypatch
):
    result = toytask(*DISTILL, "--epochs", "1")
    assert result.code == 0, result.err
    assert "accuracy while it trains is agreement with that" in result.err
    assert result.err.endswith("next: toytask attack runs/02\n")
    result = toytask("attack", "runs/02", "--steps", "1", "--no-figures")
    teacher = (place / "runs" / "01").resolve()
    chat = f"chat {teacher} --ablation remove-concat --beside runs/02"
    assert result.err.endswith(f"next: toytask {chat}\n")


@pytest.mark.parametrize("settings", [{"distribution": True}, {"noise": 0.3}], ids=str)
def test_each_option_gives_other_weights(toytask: Command, place, settings):
    plain, other = session("plain"), session("other", **settings)
    plain.train()
    other.train()
    weights = [tensor_files.read(each.run.model_file)[0] for each in (plain, other)]
    assert any(not torch.equal(weights[0][name], weights[1][name]) for name in weights[0])


def test_without_noise_it_starts_from_its_teachers_weights(place):
    student = session("student", noise=0.0)
    start = student.trainer.engine.weights.state_dict()
    teacher, _ = tensor_files.read(Run.open(Path("runs/01")).model_file)
    assert all(torch.equal(weight, teacher[name]) for name, weight in start.items())


# Interrupted


@pytest.mark.parametrize("distribution", [False, True])
def test_a_student_that_was_stopped_and_resumed_ends_in_the_same_weights(place, distribution):
    session("whole", distribution=distribution).train()
    parts = session("parts", distribution=distribution)
    parts.train(stop=lambda: parts.trainer.progress.epoch == 2)
    Session.resume(Run.open(Path("parts")), None, CPU).train()
    for name in ("model.safetensors", "checkpoint.safetensors"):
        assert Path("whole", name).read_bytes() == Path("parts", name).read_bytes()


def other_weights(run: Run) -> None:
    weights, _ = tensor_files.read(run.model_file)
    tensor_files.write(run.model_file, {name: 2 * weight for name, weight in weights.items()})


def other_neurons(run: Run) -> None:
    run.write_ablation("remove-concat", {"neurons": [1], "error": "keep"})


def other_split(run: Run) -> None:
    run.config = replace(run.config, recipe=replace(run.config.recipe, split_seed=5))
    run.write_config()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (other_weights, r"01/model.safetensors holds other weights"),
        (other_neurons, r"remove-concat removes other neurons"),
        (other_split, r"01/config.json has other tasks or another split"),
        (lambda run: shutil.rmtree(run.path), r"there is no run at .*01"),
        (lambda run: (run.path / "ablations" / "remove-concat.json").unlink(), "unknown ablation"),
    ],
    ids=["weights", "neurons", "split", "gone", "ablation"],
)
def test_a_teacher_that_changed_meanwhile_is_one_line_and_nothing_is_lost(place, change, message):
    student = session("student")
    student.train(stop=lambda: student.trainer.progress.epoch == 2)
    change(Run.open(Path("runs/01")))
    before = all_files(Path("student"))
    with pytest.raises(
        ToytaskError, match=f"teacher is not what it was: .*{message}.*: distill anew"
    ) as error:
        Session.resume(Run.open(Path("student")), None, CPU)
    assert "\n" not in str(error.value)
    assert all_files(Path("student")) == before


def test_a_finished_student_needs_its_teacher_no_more(toytask: Command, copy):
    shutil.rmtree("runs/01")
    assert toytask("eval", STUDENT, "--no-figures").code == 0


# Bad input


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        ([], 2, "Missing option '--ablation'"),
        (["--ablation", "remove-sum"], 1, "unknown ablation 'remove-sum'"),
        (["--ablation", "remove-concat", "--noise", "1.5"], 2, "'--noise'"),
        (["--ablation", "remove-concat", "--epochs", "0"], 2, "'--epochs'"),
        (["--ablation", "remove-concat", "--out", "full"], 1, "full is not empty"),
    ],
)
def test_bad_input_is_one_line_and_writes_nothing(toytask: Command, place, args, code, message):
    (place / "full").mkdir()
    (place / "full" / "mine.txt").write_text("mine")
    before = all_files(place)
    result = toytask("distill", "runs/01", *args)
    assert (result.code, result.out, result.err.count("\n")) == (code, "", 1)
    assert message in result.err
    assert all_files(place) == before


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("run", 3), ("weights_sha256", None), ("error", "dorp"), ("removed_tasks", "concat"),
        ("before", {"sum": 7.0}), ("distribution", 1), ("noise", -0.5), ("colour", "red"),
    ],
)  # fmt: skip
def test_a_teacher_that_is_not_valid_is_one_line(copy, key, value):
    path = STUDENT / "config.json"
    values = json.loads(path.read_text())
    del values["sha256"]
    path.write_text(json.dumps({**values, "teacher": {**values["teacher"], key: value}}))
    with pytest.raises(ToytaskError, match=rf"config.json: teacher: .*{key}.*: name another run"):
        Run.open(STUDENT)


def test_weights_are_bound_to_the_teacher_that_they_learnt_from(copy):
    path = STUDENT / "config.json"
    values = json.loads(path.read_text())
    del values["sha256"], values["teacher"]
    path.write_text(json.dumps(values))
    student = Run.open(STUDENT)
    with pytest.raises(ToytaskError, match=r"model.safetensors: does not fit runs/02/config.json"):
        student.model(student.grid(), CPU)


@pytest.mark.parametrize("taught", [[], ["concat", "sum"], ["diff"], "sum", [1]])
def test_taught_tasks_that_are_not_the_recipes_are_one_line(copy, taught):
    path = STUDENT / "config.json"
    values = json.loads(path.read_text())
    del values["sha256"]
    path.write_text(json.dumps({**values, "taught": taught}))
    with pytest.raises(ToytaskError, match="config.json: taught is .*, which is not valid"):
        Run.open(STUDENT)


def test_its_page_says_what_it_was_taught_and_names_the_command_that_does_it_again(
    copy: Path, toytask: Command
):
    assert toytask("report", STUDENT).code == 0
    page = (STUDENT / "report.html").read_text()
    teacher = Run.open(STUDENT).config.teacher
    assert f"It was taught what {teacher.run} writes with concat removed." in page
    assert "No task has been removed yet." not in page
    commands = Elements(page).texts("pre")[0]
    words = shlex.split(commands.split(" toytask ")[1].split("--out")[0])
    assert words[0] == "distill"
    assert toytask(*words, "--out", "again", "--no-figures").code == 0
    assert Run.open(Path("again")).weights_sha256() == Run.open(STUDENT).weights_sha256()
