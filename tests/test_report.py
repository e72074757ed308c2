"""The page of a run: what it shows, what it leaves out, and that it needs nothing else."""

import io
import json
import re
import shlex
import shutil
from base64 import b64decode, b64encode
from hashlib import sha256
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest
from conftest import Command
from PIL import Image

from toytask_cli.cli.app import COMMANDS, MORE_COMMANDS
from toytask_cli.figures.colours import MAP_COLOURS
from toytask_cli.recipe import resolve
from toytask_cli.report.charts import Axis
from toytask_cli.report.lead import train_options
from toytask_cli.report.removals import attack_blocks
from toytask_cli.report.sprite import ACROSS, TILE, draw_sprite
from toytask_cli.runs.files import write_json
from toytask_cli.runs.run import Run

VOID = {"meta", "link"}


class Elements(HTMLParser):
    """The elements of a page, in order: tag, attributes and the text within."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.found) - 1)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.found[self.open.pop()][0] == tag

    def handle_data(self, data):
        for index in self.open:
            self.found[index][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return [" ".join("".join(text).split()) for name, _, text in self.found if name == tag]


@pytest.fixture(scope="module")
def measured(trained: Path, tmp_path_factory) -> Path:
    """A directory with a run of which everything is measured."""
    import sys

    from toytask_cli.cli.app import main

    place = tmp_path_factory.mktemp("measured")
    shutil.copytree(trained / "runs", place / "runs")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in (
            ["eval"], ["sparsity"], ["importance"],
            ["ablate", "--remove", "concat", "--tolerance", "0.1"], ["ablate", "--remove", "sum"],
        ):  # fmt: skip
            patch.setattr(sys, "argv", ["toytask", *command, "--no-figures"])
            with pytest.raises(SystemExit) as left:
                main()
            assert not left.value.code
    return place


@pytest.fixture
def run(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the run, its directory to work in."""
    shutil.copytree(measured / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Run.open(None)


@pytest.fixture
def page(run: Run, toytask: Command) -> str:
    """The page of the run."""
    assert toytask("report").code == 0
    return (run.path / "report.html").read_text()


def rewrite(path: Path, change) -> None:
    """Change a report as a person could who knows its checksum."""
    values = json.loads(path.read_text())
    del values["schema_version"], values["sha256"]
    change(values)
    write_json(path, values)


def test_the_page_is_one_file_below_a_megabyte_that_refers_to_nothing_else(page: str):
    assert len(page.encode()) < 1e6
    for tag, attributes, _ in Elements(page).found:
        for name, value in attributes.items():
            if name in ("href", "src", "srcset", "action", "data", "poster"):
                assert value.startswith(("#", "data:")), (tag, name, value)
    without_picture = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.findall(r"url\((?!data:)|@import|https?:|//[a-z]", without_picture)


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
    elements = Elements(page).found
    levels = [int(tag[1]) for tag, _, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    tables = page.split("<table")[1:]
    for table in (table.split("</table>")[0] for table in tables):
        assert "<caption>" in table
        assert 'scope="col"' in table
        assert table.count('scope="row"') == table.split("<tbody>")[1].count("<tr")
    for tag, attributes, _ in elements:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if tag == "html":
            assert attributes["lang"] == "en"
    ids = [a["id"] for _, a, _ in elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = {a["href"][1:] for tag, a, _ in elements if tag == "a"}
    assert links <= set(ids)


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


# Bad input

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


# Its parts


def test_an_axis_maps_its_ends_to_its_ends_and_ticks_lie_between():
    for scale, low, high in (
        ("linear", 1, 30), ("linear", -3, 7.5), ("log", 2e-4, 3.6), ("log", 3, 4),
        ("symlog", -1e-4, 0.13), ("symlog", 0, 2e-5), ("linear", 5, 5), ("log", 5, 5),
    ):  # fmt: skip
        axis = Axis(low, high, 50, 300, scale)
        assert 50 <= axis.at(low) <= axis.at(high) <= 300
        if low < high:
            assert (axis.at(low), axis.at(high)) == (50, 300)
        ticks = axis.ticks()
        assert 1 <= len(ticks) <= 7
        assert [tick.at for tick in ticks] == sorted(tick.at for tick in ticks)
        assert all(50 <= tick.at <= 300 for tick in ticks)
        for tick in ticks:
            assert tick.at == pytest.approx(axis.at(float(tick.label)), abs=0.5)


def test_a_logarithmic_axis_gives_each_decade_the_same_length():
    axis = Axis(1, 1000, 0, 300, "log")
    assert [axis.at(10.0**power) for power in range(4)] == [0, 100, 200, 300]
    signed = Axis(-1, 1, 0, 100, "symlog")
    assert signed.at(0) == 50
    assert signed.at(0.01) - 50 == pytest.approx(50 - signed.at(-0.01))


@pytest.mark.parametrize("side", [10, 50])
def test_the_sprite_shows_each_map_in_its_place_and_colours(side: int):
    levels = np.random.default_rng(0).integers(0, 16, (ACROSS + 3, side, side), np.uint8)
    packed = levels[..., ::2] * 16 + levels[..., 1::2]
    image = np.asarray(Image.open(io.BytesIO(draw_sprite(packed))).convert("RGB"))
    assert image.shape == (2 * TILE, ACROSS * TILE, 3)
    colours = {0: MAP_COLOURS[0], 15: MAP_COLOURS[-1]}
    for tile in (0, ACROSS - 1, ACROSS, ACROSS + 2):
        top, left = tile // ACROSS * TILE, tile % ACROSS * TILE
        shown = image[top : top + TILE, left : left + TILE]
        shown = shown[:: TILE // side, :: TILE // side]
        for level, colour in colours.items():
            rgb = np.array(list(bytes.fromhex(colour[1:])))
            assert ((shown == rgb).all(axis=-1) == (levels[tile] == level)).all()


def test_an_attack_is_shown_with_its_steps_and_its_control():
    steps = {"steps50": 34, "steps95": None, "rate": 0.002, "data": "all"}
    blocks = attack_blocks(
        {
            "mask_lifted": {"sum": 1.0, "concat": 0.9996},
            "relearning": {"run": steps, "control": {**steps, "steps95": 410}},
            "probes": {"sae": {"run": 0.5, "control": 0.25}},
            "from_examples": [{"n": 1000, "run": 0.75, "control": 0.5}],
            "robustness": {"50": 0.97, "95": None},
        }
    )
    texts = [getattr(block, "text", "") for block in blocks]
    assert "Accuracy with the mask lifted: sum 100.00 %, concat 99.96 %." in texts
    assert any("0.97 to 50 %, – to 95 %" in text for text in texts)
    rows = [row for block in blocks for row in getattr(block, "rows", ())]
    cells = {cell.text for row in rows for cell in row.cells}
    assert {"34", "never", "410", "0.002", "50.00 %", "1,000", "75.00 %"} <= cells


def test_the_page_of_a_sprite_is_the_same_twice(page: str, toytask: Command, run: Run):
    assert toytask("report").code == 0
    assert (run.path / "report.html").read_text() == page
    embedded = re.search(r"base64,([A-Za-z0-9+/=]+)\)", page)
    assert b64decode(embedded[1]).startswith(b"\x89PNG")
