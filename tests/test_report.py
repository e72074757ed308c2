"""The page of a run: what it shows, what it leaves out, and that it needs nothing else."""

import json
import re
import shlex
from base64 import b64decode, b64encode
from hashlib import sha256
from pathlib import Path

import pytest
from conftest import Command
from html_page import Elements, check_alone, check_readable

from toytask_cli.cli.app import COMMANDS, MORE_COMMANDS
from toytask_cli.recipe import resolve
from toytask_cli.report.lead import train_options
from toytask_cli.runs.run import Run


@pytest.fixture
def run(measured_run: Run) -> Run:
    return measured_run


@pytest.fixture
def page(run: Run, toytask: Command) -> str:
    """The page of the run."""
    assert toytask("report").code == 0
    return (run.path / "report.html").read_text()


def test_the_page_is_one_file_below_a_megabyte_that_refers_to_nothing_else(page: str, run: Run):
    check_alone(page, beside=run.path)
    links = [a["href"] for tag, a, _ in Elements(page).found if tag == "a"]
    assert all(link.startswith("#") for link in links)


def test_the_policy_allows_the_pages_own_script_and_no_request(page: str):
    elements = Elements(page).found
    policy = next(a["content"] for _, a, _ in elements if "http-equiv" in a)
    script = page.split("<script>")[1].split("</script>", maxsplit=1)[0]
    own = b64encode(sha256(script.encode()).digest()).decode()
    rules = dict(rule.split(maxsplit=1) for rule in policy.split("; "))
    assert rules == {
        "default-src": "'none'", "img-src": "data:", "style-src": "'unsafe-inline'",
        "script-src": f"'sha256-{own}'", "base-uri": "'none'", "form-action": "'none'",
    }  # fmt: skip
    assert sum(tag == "script" for tag, _, _ in elements) == 1
    assert len(script) < 10_000
    assert not [name for _, a, _ in elements for name in a if name.startswith("on")]


def test_the_head_says_what_was_lost_and_kept_and_what_made_it(page: str, run: Run):
    head = " ".join(Elements(page).texts("header"))
    assert run.weights_sha256() in head
    for name, task in run.read_report("eval")["tasks"].items():
        assert f"{100 * task['accuracy']:.2f} % of {name}" in head
    for removed in ("concat", "sum"):
        assert re.search(rf"neurons removed, {removed} is ", head)
    for key, value in run.config.machine.items():
        assert f" {key} {value}" in head


def test_the_commands_that_make_it_again_make_the_same(page: str, run: Run, toytask: Command):
    commands = [shlex.split(line) for line in Elements(page).texts("pre")[0].split(" toytask ")]
    assert [words[0] for words in commands[1:]] == [
        "train", "eval", "sparsity", "importance", "ablate", "ablate", "report",
    ]  # fmt: skip
    before = {name: run.read_ablation(name) for name in run.ablation_names()}
    for words in commands[5:7]:
        assert toytask(*words, "--no-figures").code == 0
    assert {name: run.read_ablation(name) for name in run.ablation_names()} == before
    train = [*commands[1][: commands[1].index("--out")], "--out", "again", "--no-figures"]
    assert toytask(*train).code == 0
    assert Run.open(Path("again")).weights_sha256() == run.weights_sha256()


@pytest.mark.parametrize(
    ("preset", "fields"),
    [
        ("default", {}),
        ("default", {"seed": 3}),
        ("default", {"seed": 3, "split_seed": 0}),
        ("default", {"epochs": 5, "tasks": ("max", "sum")}),
        ("default", {"epochs": 5, "separate_epochs": 18}),
        ("article", {"seed": 2, "lambda_": 0.1}),
    ],
)
def test_the_options_of_train_give_the_same_recipe(preset: str, fields: dict):
    recipe = resolve(preset, fields)
    assert resolve("default", train_options(recipe)) == recipe


def test_every_neuron_is_a_row_with_what_was_measured(page: str, run: Run):
    report, tensors = run.read_report("importance"), run.read_tensors("importance")
    elements = Elements(page).found
    rows = {a["id"]: "".join(text) for tag, a, text in elements if tag == "tr" and "id" in a}
    assert rows.keys() == {f"n{row['neuron']}" for row in report["neurons"]}
    for row in report["neurons"]:
        text = rows[f"n{row['neuron']}"]
        assert row["raises"] in text
        assert row["prompts"] in text
        assert (row["pattern"] or "–") in text
        for value in tensors["importance"][:, row["neuron"]].tolist():
            assert (f"{value:z.4f}" if value else "0") in text
    for sentence in report["summary"].values():
        assert sentence[1:] in page
    assert page.count("<circle") == len(rows) + 2  # and the legend


def test_removals_and_prompts_are_those_of_the_ablations(page: str, run: Run):
    text = " ".join(Elements(page).texts("main")[0].split())
    for name in run.ablation_names():
        report = run.read_ablation(name)
        assert name in text
        for when in ("before", "after"):
            for accuracy in report["test"][when].values():
                assert f"{100 * accuracy['accuracy']:.2f} %" in text
        assert len(report["prompts"]) == 12
        for prompt in report["prompts"]:
            chances = zip(prompt["after"]["tokens"], prompt["after"]["probabilities"], strict=True)
            shown = ", ".join(f"{token} {100 * chance:.1f} %" for token, chance in chances)
            assert shown in text


def test_every_number_is_defined(page: str, run: Run):
    terms = Elements(page).texts("dt")
    for name in ("eval", "sparsity", "importance"):
        assert set(run.read_report(name)["definitions"]) <= set(terms)


def test_a_reader_finds_headings_in_order_and_tables_with_headers(page: str):
    check_readable(page)


def test_what_was_not_measured_is_named_with_its_command(toytask: Command, run: Run, tmp_path):
    for path in (*(run.path / "reports").iterdir(), *(run.path / "ablations").iterdir()):
        if path.stem != "train":
            path.unlink()
    result = toytask("report", "--json")
    assert result.code == 0
    missing = json.loads(result.out)["not_measured"]
    commands = [shlex.split(each["command"]) for each in missing]
    names = [words[1] for words in commands]
    assert names == ["eval", "sparsity", "importance", "ablate", "ablate"]
    page = (run.path / "report.html").read_text()
    for each, words in zip(missing, commands, strict=True):
        assert each["command"] in page
        assert words[1] in COMMANDS | MORE_COMMANDS
        assert toytask(*words[1:], "--no-figures").code == 0
    missing = json.loads(toytask("report", "--json").out)["not_measured"]
    assert {each["command"].split()[1] for each in missing} == {"attack"}


def test_nothing_is_measured_and_only_the_page_is_written(toytask: Command, run: Run, monkeypatch):
    monkeypatch.setattr(Run, "read_saved_model", lambda *_: pytest.fail("reads the model"))
    before = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert toytask("report").code == 0
    after = {path: path.read_bytes() for path in run.path.rglob("*") if path.is_file()}
    assert {path.name for path, _ in before.items() ^ after.items()} == {"report.html"}


def test_open_hands_the_page_to_the_browser(toytask: Command, run: Run, monkeypatch):
    opened = []
    monkeypatch.setattr("typer.launch", opened.append)
    assert toytask("report").code == 0
    assert not opened
    assert toytask("report", "--open").code == 0
    assert opened == [(run.path / "report.html").absolute().as_uri()]


def test_the_same_run_gives_the_same_page(page: str, toytask: Command, run: Run):
    assert toytask("report").code == 0
    assert (run.path / "report.html").read_text() == page
    embedded = re.search(r"base64,([A-Za-z0-9+/=]+)\)", page)
    assert b64decode(embedded[1]).startswith(b"\x89PNG")
