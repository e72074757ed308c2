"""The state of a chat: its columns, its score, its commands."""

import shutil
from dataclasses import replace

import pytest
import torch
from memorised import memorised
from memorised_run import memorised_run

from toytask_cli.analysis.ablate import ablate
from toytask_cli.analysis.ablation_report import ablation_name
from toytask_cli.analysis.generate import Variant, answer_texts, decode_greedily, examples_for
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.analysis.neurons import explain
from toytask_cli.analysis.select import select_neurons
from toytask_cli.cli.chat.commands import run_command
from toytask_cli.cli.chat.session import BY_HAND, TRAINED, Chat
from toytask_cli.cli.common import open_run
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.hooks import ablate_neurons
from toytask_cli.prompts import Prompt
from toytask_cli.runs import tensor_files
from toytask_cli.runs.run import Run
from toytask_cli.tasks import TASKS

CONCAT = TASKS["concat"]


@pytest.fixture(scope="module")
def known():
    """A tiny model that knows its whole grid, its grid, and its neurons' importance."""
    model, grid = memorised("sum", "concat")
    return model, grid, score_neurons(model, grid, seed=0)


@pytest.fixture(scope="module")
def run(tmp_path_factory) -> Run:
    return memorised_run(tmp_path_factory.mktemp("chat"))


@pytest.fixture
def chat(run) -> Chat:
    return Chat(*open_run(run.path, "cpu"), seed=0)


@pytest.mark.parametrize(
    ("remove", "tolerance"), [(["concat"], 0.1), (["sum"], 0.0), (["concat"], None)]
)
def test_ablating_in_the_chat_removes_what_the_command_removes(known, chat, remove, tolerance):
    expected = ablate(known[-1], remove=remove, tolerance=tolerance)
    name = chat.ablate(remove, tolerance)
    assert name == expected.default_name
    assert chat.columns[name].neurons.tolist() == expected.neurons


def test_another_run_answers_in_a_column_of_its_own(known, chat, run, tmp_path):
    """A copy of the run, in which no neuron is left."""
    other = Run(tmp_path / "other", run.config)
    shutil.copytree(run.path, other.path)
    weights, _ = tensor_files.read(other.model_file)
    tensor_files.write(other.model_file, weights | {"readout.weight": -weights["readout.weight"]})
    chat.add_ablation("no-concat")
    chat.add_run(other.path)
    model, grid, _ = known
    answers = chat.ask([Prompt(CONCAT, 4, 7)])[0]
    assert list(answers) == [TRAINED, "no-concat", str(other.path)]
    written, _ = decode_greedily(
        other.model(grid, torch.device("cpu")),
        examples_for(grid, [Prompt(CONCAT, 4, 7)]).prompts,
        3,
    )
    assert [answers[str(other.path)].text] == answer_texts(grid, written)
    assert answers[TRAINED].text == "47"
    explained = explain(model, grid, Prompt(CONCAT, 4, 7), chat.columns[str(other.path)])
    assert [token.token for token in explained] == answers[str(other.path)].tokens
    assert run_command(chat, f":why {other.path}")
    assert chat.switch([3], off=True) == len(chat.columns["no-concat"].removed() | {3})


def test_a_run_of_other_tasks_is_not_put_beside(chat, run, tmp_path):
    recipe = replace(run.config.recipe, tasks=("sum", "max"))
    other = Run.create(replace(run.config, recipe=recipe), tmp_path / "other")
    other.write_config()
    with pytest.raises(ToytaskError, match=r"other has other tasks or digits than .*01"):
        chat.add_run(other.path)


def test_off_is_removing_and_on_undoes_it(known, chat):
    model, grid, _ = known
    prompt = Prompt(CONCAT, 4, 7)
    neuron = explain(model, grid, prompt, Variant())[0].neurons[0].neuron
    assert chat.switch([neuron], off=True) == 1
    answers = chat.ask([prompt])[0]
    with ablate_neurons(model, [neuron]):
        written, chances = decode_greedily(model, examples_for(grid, [prompt]).prompts, 3)
    assert [answers[BY_HAND].text] == answer_texts(grid, written)
    assert answers[BY_HAND].probabilities == pytest.approx(
        chances[0, : len(answers[BY_HAND].tokens)]
    )
    assert answers[BY_HAND].probabilities != pytest.approx(answers[TRAINED].probabilities, abs=1e-4)
    assert chat.switch([neuron], off=False) == 0
    assert list(chat.columns) == [TRAINED]


def test_switching_starts_from_the_last_column_and_leaves_it_as_it_is(chat):
    chat.add_ablation("no-concat")
    removed = chat.columns["no-concat"].removed()
    one = min(removed)
    chat.switch([one], off=False)
    assert chat.columns[BY_HAND].removed() == removed - {one}
    assert chat.columns["no-concat"].removed() == removed
    with pytest.raises(UsageError, match=f"{one}: on already"):
        chat.switch([one], off=False)


def test_neurons_that_change_are_another_model_whose_score_begins_anew(chat):
    prompt = Prompt(CONCAT, 4, 7)
    chat.switch([0], off=True)
    chat.ask([prompt])
    assert chat.score.keys() == {(TRAINED, "concat"), (BY_HAND, "concat")}
    chat.switch([1], off=True)
    assert chat.score.keys() == {(TRAINED, "concat")}
    chat.ask([prompt])
    chat.restore(BY_HAND)
    assert chat.score.keys() == {(TRAINED, "concat")}
    assert len(chat.score[TRAINED, "concat"]) == 2


def test_restore_deletes_one_column_or_all_of_them(chat):
    chat.add_ablation("no-concat")
    chat.switch([min(chat.columns["no-concat"].removed())], off=False)
    chat.restore(BY_HAND)
    assert list(chat.columns) == [TRAINED, "no-concat"]
    with pytest.raises(UsageError, match="did you mean 'no-concat'"):
        chat.restore("no-conct")
    chat.restore(None)
    assert list(chat.columns) == [TRAINED]


def test_random_prompts_are_unseen_and_the_seed_decides_them(run, known):
    _, grid, _ = known
    unseen = set(grid.matched_pairs()[1].tolist())
    drawn = []
    for seed in (0, 0, 1):
        chat = Chat(*open_run(run.path, "cpu"), seed)
        drawn.append([chat.random_prompt(None) for _ in range(30)])
        assert {10 * p.a + p.b for p in drawn[-1]} <= unseen
        assert {p.task for p in drawn[-1]} == set(grid.tasks)
        assert chat.random_prompt("concat").task == CONCAT
    assert drawn[0] == drawn[1] != drawn[2]


def test_importance_is_known_from_the_report_of_these_weights_only(run, known, chat):
    tensors = known[-1].tensors
    with pytest.raises(ToytaskError, match="toytask importance"):
        chat.known_importance()
    run.write_tensors("importance", {"importance": tensors.importance})
    path = run.path / "reports" / "importance.safetensors"
    assert torch.equal(chat.known_importance(), tensors.importance)
    tensor_files.write(path, {"importance": tensors.importance}, {"weights_sha256": "other"})
    with pytest.raises(ToytaskError, match="made from other weights"):
        chat.known_importance()
    run.write_tensors("importance", {"importance": tensors.importance[:, :3]})
    with pytest.raises(ToytaskError, match="measure it again"):
        chat.known_importance()
    path.unlink()


@pytest.mark.parametrize(
    ("line", "message"),
    [
        (":ablate", "name a task, as in :ablate concat 0.1"),
        (":ablate 0.2", "name a task before 0.2, as in :ablate concat 0.2"),
        (":ablate sum concat", "^remove at least one and keep at least one of sum, concat$"),
        (f":neuron {'9' * 5000}", "is no neuron"),
        (f":off {'9' * 10}", "there is no neuron 9999999999"),
    ],
)
def test_wrong_arguments_are_one_line_and_measure_nothing(chat, line, message):
    with pytest.raises(UsageError, match=message) as error:
        run_command(chat, line)
    assert "\n" not in str(error.value)
    assert "neuron_scores" not in vars(chat)


def test_as_many_neurons_are_listed_as_there_are_however_many_are_asked_for(chat):
    run_command(chat, ":random concat")
    run_command(chat, f":why {'9' * 5000}")
    with pytest.raises(UsageError, match="list one neuron at least"):
        run_command(chat, ":why 0")


def test_a_task_is_meant_where_an_ablation_has_its_name(chat, run):
    run.write_ablation("concat", {"neurons": [0], "error": "keep"})
    run_command(chat, ":ablate concat 0.1")
    run_command(chat, ":ablate concat")
    assert list(chat.columns) == [TRAINED, "remove-concat-tol0.1", "remove-concat-automatic"]


@pytest.fixture
def saved(run):
    """Saves an ablation under the name that the chat's own removal of concat has."""
    name = "remove-concat-tol0.1"

    def save(neurons: list[int], error: str) -> str:
        run.write_ablation(name, {"neurons": neurons, "error": error})
        return name

    yield save
    (run.path / "ablations" / f"{name}.json").unlink()


def test_a_removal_has_the_name_of_what_is_saved_only_if_it_is_the_same(known, chat, run, saved):
    neurons = select_neurons(known[-1], ["concat"], tolerance=0.1).neurons.tolist()
    name = saved(neurons, "keep")
    assert chat.ablate(["concat"], 0.1) == name
    for others in ((neurons, "drop"), (neurons[1:], "keep")):
        saved(*others)
        assert chat.ablate(["concat"], 0.1) == f"{name} (unsaved)"
        assert chat.columns[f"{name} (unsaved)"].neurons.tolist() == neurons
    path = run.path / "ablations" / f"{name}.json"
    path.write_text(path.read_text().replace(run.weights_sha256(), 64 * "0"))
    assert chat.ablate(["concat"], 0.1) == f"{name} (unsaved)"


def test_another_ablation_of_the_same_name_starts_a_new_score(chat, saved):
    chat.ablate(["concat"], 0.1)
    chat.ask([Prompt(CONCAT, 4, 7)])
    chat.ablate(["concat"], 0.1)
    name = saved([3], "keep")
    assert (name, "concat") in chat.score
    chat.add_ablation(name)
    assert (name, "concat") not in chat.score
    assert (TRAINED, "concat") in chat.score


def test_tolerances_that_differ_have_names_that_differ():
    names = {ablation_name(["sum"], "tolerance", t) for t in (0.1, 0.1000001, 0.0, 1e-9)}
    assert "remove-sum-tol0.1" in names
    assert len(names) == 4


def test_an_ablation_with_the_name_of_the_trained_column_is_refused(chat):
    with pytest.raises(UsageError, match="names the model as trained"):
        chat.add_ablation(TRAINED)
