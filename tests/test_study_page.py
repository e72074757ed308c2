"""The page of a study: what it shows, what it links to, and that it needs nothing else."""

import json
import random
import shlex
import shutil
import subprocess
from base64 import b64decode
from pathlib import Path

import pytest
from conftest import Command, all_files
from html_page import Elements, check_alone, check_readable, rewrite

from toytask_cli.analysis.quantities import label_of
from toytask_cli.report.page import render
from toytask_cli.report.pictures import fitting
from toytask_cli.report.study_data import read_study
from toytask_cli.report.study_page import study_page
from toytask_cli.runs.run import Run
from toytask_cli.runs.study_directory import StudyDirectory
from toytask_cli.studies.plan import Plan, cross
from toytask_cli.studies.report import build_report

IDS = [f"split-{split}-seed-{seed}" for split in (0, 1) for seed in (0, 1)]
SIGNATURE = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def study(studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study, copied into the directory where we are."""
    shutil.copytree(studied / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Path("runs/study-01")


@pytest.fixture
def page(study: Path, toytask: Command) -> str:
    assert toytask("report", study).code == 0
    return (study / "report.html").read_text()


def report_of(study: Path) -> dict:
    return json.loads((study / "reports" / "study.json").read_text())


def links(page: str) -> dict[str, str]:
    """Text → address of every link of the page."""
    return {"".join(text): a["href"] for tag, a, text in Elements(page).found if tag == "a"}


def section(page: str, name: str) -> str:
    """The HTML of a section of the page."""
    return page.split(f'<details open id="{name}">')[1].split("</details>", maxsplit=1)[0]


def rows_in(html: str) -> list[list[str]]:
    """The texts of the cells of each row of all tables."""
    bodies = [table.split("</tbody>")[0] for table in html.split("<tbody>")[1:]]
    rows = [row.split("</tr>")[0] for body in bodies for row in body.split("<tr")[1:]]
    return [
        ["".join(text) for tag, _, text in Elements(f"<tr{row}</tr>").found if tag in ("td", "th")]
        for row in rows
    ]


def rows_of(page: str, name: str) -> list[list[str]]:
    return rows_in(section(page, name))


def made_up(vary: dict[str, list], seeds: int, failed: int = 0) -> str:
    """The page of a study whose first runs failed, with numbers that nobody measured."""
    runs = cross("default", [], vary, seeds=list(range(seeds)))
    plan = Plan(runs, tuple(vary), (0.1,), "float32", 1)
    study = StudyDirectory.create(Path("made-up"), plan.to_json())
    chance = random.Random(0)
    names = [
        f"removed.sum.tol0.1.{error}.{what}"
        for error in ("keep", "drop")
        for what in ("left", "kept.concat")
    ]
    finished = {
        run.id: {name: chance.random() for name in ("accuracy.sum", *names, "l0")}
        for run in runs[failed:]
    }
    reasons = {run.id: "the loss is no longer a number" for run in runs[:failed]}
    study.write_report(build_report(plan, study.path, finished, reasons))
    return render(study_page(read_study(study))).decode()


def test_the_page_is_one_small_file_that_refers_only_to_pages_of_its_runs(
    page: str, study: Path, toytask: Command
):
    check_alone(page, beside=study)
    assert all(address.startswith("#") for address in links(page).values())
    assert toytask("report", study / IDS[1]).code == 0
    assert toytask("report", study).code == 0
    page = (study / "report.html").read_text()
    check_alone(page, beside=study)
    addresses = set(links(page).values())
    assert {a for a in addresses if not a.startswith("#")} == {f"{IDS[1]}/report.html"}


def test_a_reader_finds_headings_in_order_tables_with_headers_and_described_pictures(page: str):
    check_readable(page)
    check_policy = "content=\"default-src 'none'; img-src data:;"
    assert check_policy in page.replace("&#39;", "'")


def test_the_head_says_what_the_runs_say_together(page: str, study: Path):
    head = " ".join(Elements(page).texts("header"))
    assert "4 of 4 runs finished, 0 failed, 0 left." in head
    assert "4 runs: at most 78 % of such runs are worse than the worst of these (95 %)." in head
    for row in report_of(study)["summary"]:
        if row["quantity"].startswith(("accuracy.", "removed.")):
            mean, worst = (f"{100 * row[key]:.2f} %" for key in ("mean", "worst"))
            assert f"{mean} (worst {worst})" in head
    assert "precision float32" in head


def test_its_command_goes_on_and_makes_all_again_by_the_same_plan(
    page: str, study: Path, toytask: Command
):
    first, again, own = Elements(page.replace("\n", ";")).texts("pre")[0].rstrip(";").split(";")
    result = toytask(*shlex.split(first)[1:], "--dry-run")
    assert "4 runs, 4 finished, 0 to train" in result.out
    make, _, command = again.rpartition(" && ")
    subprocess.run(["sh", "-c", make], check=True)
    result = toytask(*shlex.split(command)[1:], "--dry-run")
    assert "4 runs, 0 finished, 4 to train" in result.out
    assert own == f"toytask report {study}"


def test_every_quantity_is_a_row_with_its_spread_and_the_worst_run(page: str, study: Path):
    rows = ["|".join(cells) for cells in rows_of(page, "summary")]
    summary = report_of(study)["summary"]
    assert len(rows) == len(summary)
    for text, row in zip(rows, summary, strict=True):
        label = label_of(row["quantity"], with_tolerance=False)
        assert text.startswith(label)
        assert text.endswith(f"|{row['worst_run']}")
        assert f"|{row['n']}|" in text
        assert links(page)[row["worst_run"]] == f"#{row['worst_run']}"
    l0 = next(row for row in summary if row["quantity"] == "l0")
    numbers = ("mean", "sd_seeds", "sd_splits", "sd_residual", "worst")
    expected = "|".join(f"{l0[key]:.4g}" for key in numbers)
    assert f"l0|4|{expected}|{l0['worst_run']}" in rows


def test_every_run_is_a_row_and_those_without_a_page_have_its_command(
    page: str, study: Path, toytask: Command
):
    rows = rows_of(page, "runs")
    assert [cells[:4] for cells in rows] == [
        [name, "finished", name[-1], name.split("-")[1]] for name in IDS
    ]
    accuracy = report_of(study)["runs"][0]["values"]["accuracy.sum"]
    assert f"{100 * accuracy:.2f}" in rows[0]
    command = f"toytask report {study}/{IDS[0]}"
    assert section(page, "runs").count(command) == 1
    for name in IDS:
        assert toytask("report", study / name).code == 0
    result = toytask("report", study, "--json")
    assert json.loads(result.out)["not_measured"] == []
    page = (study / "report.html").read_text()
    assert "Nothing is missing." in page
    assert command not in page


def test_the_figures_are_in_the_page_and_described(page: str, study: Path):
    images = [a for tag, a, _ in Elements(page).found if tag == "img"]
    shown = [b64decode(a["src"].removeprefix("data:image/png;base64,")) for a in images]
    names = ("runs", "left-and-kept", "seeds-and-splits")
    assert shown == [(study / "figures" / f"{name}.png").read_bytes() for name in names]
    assert len({a["alt"] for a in images}) == 3


def test_the_largest_figures_are_left_out_where_all_would_be_too_large(
    study: Path, toytask: Command
):
    sizes = {"a": b"1" * 9_000, "b": b"2" * 3_000, "c": b"3" * 6_000}
    shown = [fitting(sizes, room) for room in (4_000, 6_000, 18_000, 30_000)]
    assert shown == [set(), {"b"}, {"b", "c"}, {"a", "b", "c"}]
    (study / "figures" / "left-and-kept.png").write_bytes(SIGNATURE + b"x" * 750_000)
    assert toytask("report", study).code == 0
    page = (study / "report.html").read_text()
    check_alone(page, beside=study)
    assert page.count("<img") == 2
    assert "below a megabyte: figures/left-and-kept.png." in page


def test_what_is_not_done_is_named_with_its_command(study: Path, toytask: Command):
    shutil.rmtree(study / "figures")
    shutil.rmtree(study / IDS[3])
    assert toytask("study", study, "--dry-run").code == 0
    rewrite(study / "reports" / "study.json", lambda r: r.update(n_finished=3))
    rewrite(study / "reports" / "study.json", lambda r: r["runs"][3].update(status="left"))
    result = toytask("report", study, "--json")
    missing = {each["what"]: each["command"] for each in json.loads(result.out)["not_measured"]}
    again = f"toytask study {study}"
    assert missing == {
        "1 of 4 runs": again,
        "the figures": again,
        f"the page of {IDS[0]} (and of 2 more runs)": f"toytask report {study}/{IDS[0]}",
    }
    page = (study / "report.html").read_text()
    assert all(f"{what}:" in page and command in page for what, command in missing.items())
    assert toytask("report", study).err.endswith(f"next: {again}\n")


def test_every_number_is_defined(page: str, study: Path):
    assert {*report_of(study)["definitions"], "least kept"} <= set(Elements(page).texts("dt"))


def test_recipes_are_shown_at_a_glance_and_compared(here: Path):
    page = made_up({"beta": [0.0, 0.1, 0.2]}, seeds=3, failed=1)
    check_readable(page)
    report = report_of(Path("made-up"))
    glance = rows_in(page.split("</header>")[0])
    assert [row[:2] for row in glance] == [["beta 0.0", "2"], ["beta 0.1", "3"], ["beta 0.2", "3"]]
    first = report["summary"][0]
    assert glance[0][2] == f"{100 * first['mean']:.2f} worst {100 * first['worst']:.2f}"
    assert glance[0][-1] == f"{100 * first['worse_at_most']:.2f} %"
    compared = rows_of(page, "compared")
    assert len(compared) == len(report["comparisons"])
    assert compared[0][:2] == ["accuracy of sum (%)", "beta 0.1"]
    assert compared[0][2] == f"{100 * report['comparisons'][0]['difference']:+.2f}"
    assert rows_of(page, "runs")[0][-1] == "the loss is no longer a number"


def test_the_page_of_a_large_study_is_small_and_says_what_it_leaves_out(here: Path):
    page = made_up({"beta": [0.0, 0.1]}, seeds=400)
    check_alone(page, beside=here / "made-up")
    check_readable(page)
    shown = len(rows_of(page, "runs"))
    assert 100 < shown < 800
    assert f"The first {shown} of 800 rows: reports/study.json has all of them." in page


def test_a_study_of_which_no_run_is_finished_has_a_page(here: Path):
    page = made_up({}, seeds=2, failed=2)
    check_readable(page)
    assert "0 of 2 runs finished, 2 failed, 0 left." in page
    assert "No run is finished yet." in page


def test_nothing_is_measured_and_only_the_page_is_written(
    study: Path, toytask: Command, monkeypatch
):
    monkeypatch.setattr(Run, "read_saved_model", lambda *_: pytest.fail("reads the model"))
    before = all_files(study)
    assert toytask("report", study).code == 0
    after = all_files(study)
    assert {path.name for path, _ in before.items() ^ after.items()} == {"report.html"}
    assert toytask("report", study).code == 0
    assert all_files(study) == after
