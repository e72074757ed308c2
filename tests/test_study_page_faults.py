"""The page of a study whose files are missing or hold what no command writes."""

import shutil
from pathlib import Path

import pytest
from conftest import Command
from html_page import Elements, check_alone, rewrite

EVIL = "</td><script>alert(1)</script><img src=x onerror=alert(2)> \" ' & {{ 7 * 7 }}"


@pytest.fixture
def study(studied: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The study, copied into the directory where we are."""
    shutil.copytree(studied / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Path("runs/study-01")


def test_text_from_a_report_is_escaped(study: Path, toytask: Command):
    def change(report: dict) -> None:
        report["runs"][0].update(status="failed", reason=EVIL, split_by=EVIL)
        report["n_failed"] = 1
        report["varied"] = [EVIL]
        for row in (*report["runs"], *report["summary"]):
            row["recipe"] = {EVIL: EVIL}
        report["summary"][0]["worst_run"] = EVIL
        report["definitions"][EVIL] = EVIL

    rewrite(study / "reports" / "study.json", change)
    shutil.move(study, "runs/<script>")
    assert toytask("report", "runs/<script>").code == 0
    page = Path("runs/<script>/report.html").read_text()
    elements = Elements(page)
    assert sum(tag == "script" for tag, _, _ in elements.found) == 1
    assert all(a["src"].startswith("data:") for tag, a, _ in elements.found if tag == "img")
    assert not [a for _, a, _ in elements.found if "onerror" in a]
    assert sum(EVIL in text for text in elements.texts("td")) >= 5
    check_alone(page, beside=Path("runs/<script>"))


@pytest.mark.parametrize(
    "change",
    [
        lambda r: r.pop("summary"),
        lambda r: r.update(runs=3),
        lambda r: r.update(n_runs="many"),
        lambda r: r.update(varied=[1, {}]),
        lambda r: r["runs"][0].update(id="../../x-1"),
        lambda r: r["runs"][0].update(id=7),
        lambda r: r["runs"][0].update(values={"l0": "many"}),
        lambda r: r["summary"][0].update(mean=None),
        lambda r: r.update(definitions=[]),
    ],
)
def test_values_that_no_study_writes_are_one_line(study: Path, toytask: Command, change):
    rewrite(study / "reports" / "study.json", change)
    result = toytask("report", study)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), result
    assert f"{study}/reports/study.json: not as toytask writes it: make it again" in result.err
    assert f"`toytask study {study}`" in result.err


def test_a_study_without_a_report_says_what_to_run(study: Path, toytask: Command):
    (study / "reports" / "study.json").unlink()
    result = toytask("report", study)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert f"make it with `toytask study {study}`" in result.err


def test_a_file_that_is_no_picture_is_one_line(study: Path, toytask: Command):
    (study / "figures" / "runs.png").write_bytes(b"root:x:0:0")
    result = toytask("report", study)
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert f"figures/runs.png: not a PNG file: draw it with `toytask study {study}`" in result.err


def test_a_directory_that_is_neither_run_nor_study_is_one_line(here: Path, toytask: Command):
    (here / "x").mkdir()
    result = toytask("report", "x")
    assert (result.code, result.out, result.err.count("\n")) == (1, "", 1)
    assert "x is no run (no config.json)" in result.err
