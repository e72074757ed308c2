"""The page of a run in a real browser: no request, no error, sorting, pointing, reading."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from browser import CHROMIUM, Browser, browser
from conftest import Command

from toytask_cli.runs.run import Run

pytestmark = pytest.mark.skipif(CHROMIUM is None, reason="there is no Chromium on the path")

DESKTOP, PHONE = (1280, 900), (390, 844)
# Every text that is shown: its colour, and the first background that is not transparent.
TEXT_COLOURS = """
[...document.querySelectorAll("body *")].filter((e) =>
  [...e.childNodes].some((n) => n.nodeType === 3 && n.textContent.trim()) && e.checkVisibility()
).map((e) => {
  const style = getComputedStyle(e);
  let behind = e;
  while (behind && getComputedStyle(behind).backgroundColor === "rgba(0, 0, 0, 0)")
    behind = behind.parentElement;
  const ink = e.closest("svg") ? style.fill : style.color;
  return [e.tagName, ink, getComputedStyle(behind).backgroundColor];
})
"""


@pytest.fixture(scope="module")
def chromium(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    with browser(tmp_path_factory.mktemp("profile")) as opened:
        yield opened


@pytest.fixture
def run(measured_run: Run) -> Run:
    return measured_run


@pytest.fixture
def shown(chromium: Browser, run: Run, toytask: Command) -> Iterator[Browser]:
    """The browser with the page of a run in it."""
    assert toytask("report").code == 0
    chromium.call("Emulation.setEmulatedMedia", features=[])
    chromium.size(*DESKTOP)
    chromium.open(run.path / "report.html")
    yield chromium
    own = (run.path / "report.html").absolute().as_uri()
    assert {url for url in chromium.requests() if not url.startswith("data:")} == {own}
    assert chromium.complaints() == []


def first_cells(page: Browser, column: int) -> list[str]:
    """The texts of a column of the table of neurons, without their intervals."""
    return page.run(
        "[...document.querySelectorAll('table.sortable tbody tr')].map((row) => "
        f"row.cells[{column}].firstChild.textContent.trim())"
    )


def press(page: Browser, column: int) -> None:
    page.run(
        f"document.querySelectorAll('table.sortable thead th')[{column}]"
        ".querySelector('button').click()"
    )


def heading(page: Browser, column: int) -> str | None:
    return page.run(
        f"document.querySelectorAll('table.sortable thead th')[{column}].getAttribute('aria-sort')"
    )


def test_a_click_on_a_heading_sorts_by_its_column_and_another_turns_it_round(shown: Browser):
    column = 4  # importance for the second task
    press(shown, column)
    values = [float(text) for text in first_cells(shown, column)]
    assert values == sorted(values, reverse=True)
    assert len(set(values)) > 3
    assert heading(shown, column) == "descending"
    press(shown, column)
    assert [float(text) for text in first_cells(shown, column)] == sorted(values)
    press(shown, 7)
    patterns = first_cells(shown, 7)
    assert patterns == sorted(patterns, key=lambda text: (text != "–", text))
    assert (heading(shown, 7), heading(shown, column)) == ("ascending", None)


def test_a_heading_is_reached_and_pressed_from_the_keyboard(shown: Browser):
    shown.run("document.querySelector('table.sortable thead button').focus()")
    before = first_cells(shown, 0)
    for kind in ("keyDown", "keyUp"):
        shown.call(
            "Input.dispatchKeyEvent", type=kind, key="Enter", code="Enter", text="\r",
            windowsVirtualKeyCode=13,
        )  # fmt: skip
    after = first_cells(shown, 0)
    assert after == sorted(before, key=int, reverse=True)


def test_a_point_under_the_mouse_shows_its_neuron(shown: Browser, run: Run):
    row = run.read_report("importance")["neurons"][0]
    assert "Point at a neuron" in shown.run("document.querySelector('.card').innerText")
    shown.point_at(f"figure svg a[href='#n{row['neuron']}'] circle")
    card = shown.run("document.querySelector('.card').innerText")
    assert f"neuron: {row['neuron']}" in card
    assert f"strongest prompts: {row['prompts']}" in card
    assert shown.run("document.querySelector('.card .map').offsetWidth") > 0


def test_a_section_folds_and_a_link_into_it_unfolds_it(shown: Browser):
    shown.run("document.querySelector('#neurons summary').click()")
    assert shown.run("document.querySelector('#neurons').open") is False
    shown.run("location.hash = document.querySelector('table.sortable tbody tr').id")
    shown.run("new Promise(requestAnimationFrame)")
    assert shown.run("document.querySelector('#neurons').open") is True


def test_without_scripts_everything_can_be_read(shown: Browser, run: Run):
    shown.call("Emulation.setScriptExecutionDisabled", value=True)
    try:
        shown.open(run.path / "report.html")
        tree = shown.call("Accessibility.getFullAXTree")["nodes"]
    finally:
        shown.call("Emulation.setScriptExecutionDisabled", value=False)
    roles = [node.get("role", {}).get("value") for node in tree]
    assert "button" not in roles  # what would do nothing is not there
    names = {node.get("name", {}).get("value") for node in tree}
    assert {"Accuracy and training", "Removals", "Definitions"} <= names
    assert roles.count("rowheader") > len(run.read_report("importance")["neurons"])


def luminance(colour: str) -> float:
    channels = [int(channel) / 255 for channel in re.findall(r"\d+", colour)[:3]]
    red, green, blue = (
        c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in channels
    )
    return 0.2126 * red + 0.7152 * green + 0.0722 * blue


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_text_stands_out_in_light_and_in_dark(shown: Browser, scheme: str):
    feature = {"name": "prefers-color-scheme", "value": scheme}
    shown.call("Emulation.setEmulatedMedia", features=[feature])
    texts = shown.run(TEXT_COLOURS)
    assert len(texts) > 200
    for tag, ink, paper in texts:
        darker, lighter = sorted([luminance(ink), luminance(paper)])
        assert (lighter + 0.05) / (darker + 0.05) >= 4.5, (tag, ink, paper)
    is_dark = luminance(texts[0][2]) < 0.1
    assert is_dark == (scheme == "dark")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_nothing_sticks_out_of_the_window(shown: Browser, size, tmp_path: Path):
    shown.size(*size)
    assert shown.run("document.documentElement.scrollWidth") <= size[0]
    picture = tmp_path / "page.png"
    shown.screenshot(picture)
    assert picture.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("size", [DESKTOP, PHONE], ids=["desktop", "phone"])
def test_the_page_of_a_study_is_sorted_and_leads_to_its_runs(
    chromium: Browser, studied: Path, toytask: Command, tmp_path: Path, size
):
    study = tmp_path / "study"
    shutil.copytree(studied / "runs" / "study-01", study)
    assert toytask("report", study / "split-0-seed-1").code == 0
    assert toytask("report", study).code == 0
    chromium.size(*size)
    chromium.open(study / "report.html")
    runs = "document.querySelector('#runs table')"
    column = chromium.run(f"[...{runs}.rows[0].cells].findIndex((c) => c.textContent === 'l0')")
    chromium.run(f"{runs}.rows[0].cells[{column}].querySelector('button').click()")
    values = chromium.run(f"[...{runs}.tBodies[0].rows].map((r) => +r.cells[{column}].textContent)")
    assert len(values) == 4
    assert values == sorted(values, reverse=True)
    images = "[...document.images].map((image) => image.naturalWidth)"
    assert min(chromium.run(images)) > 400
    assert chromium.run("document.documentElement.scrollWidth") <= size[0]
    own = (study / "report.html").absolute().as_uri()
    assert {url for url in chromium.requests() if not url.startswith("data:")} == {own}
    assert chromium.complaints() == []
    address = chromium.run(f"{runs}.querySelector('a').href")
    assert address == (study / "split-0-seed-1" / "report.html").absolute().as_uri()


def test_it_can_be_printed_with_its_maps(shown: Browser):
    shown.run("document.querySelectorAll('details').forEach((each) => { each.open = false })")
    printed = shown.call("Page.printToPDF")["data"]
    assert len(printed) > 50_000
