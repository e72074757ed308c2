"""One neuron in the terminal: its maps over both operands."""

import re

import pytest
import torch
from conftest import Command
from memorised import memorised

from toytask_cli.analysis.atlas import LiveNeuron, MappedNeuron, OperandMap, map_neuron
from toytask_cli.analysis.neurons import neuron_summary, sample_residuals
from toytask_cli.analysis.operand_maps import at_all_operands
from toytask_cli.cli import neuron_view
from toytask_cli.cli.safe_console import SafeConsole
from toytask_cli.figures.colours import MAP_COLOURS
from toytask_cli.runs.run import Run

ROW = LiveNeuron(3, "sum", 0, "last digit of a + b", 0.94, "7 17", "E 4", "3+4")


def mapped(*values: torch.Tensor) -> MappedNeuron:
    maps = [OperandMap("sum", i, each) for i, each in enumerate(values)]
    return MappedNeuron(ROW, torch.arange(len(values[0])), maps)


def shown(view: object, width: int = 60) -> str:
    console = SafeConsole()
    console.width = width
    with console.capture() as capture:
        console.print(view)
    return capture.get()


@pytest.fixture
def colours(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(neuron_view, "_has_colours", lambda: True)


def test_a_line_has_two_rows_of_cells_on_the_scale_of_the_figures(colours):
    line = neuron_view._line([0.0, 4.0], [4.0, 0.0], top=4.0)
    assert line.plain == "▀▀"
    black, white = MAP_COLOURS[-1], MAP_COLOURS[0]
    styles = [str(span.style) for span in line.spans]
    assert styles == [f"{black} on {white}", f"{white} on {black}"]


def test_colours_between_the_steps_of_the_scale_are_mixed():
    n = len(MAP_COLOURS) - 1
    for i, colour in enumerate(reversed(MAP_COLOURS)):
        assert neuron_view._colour(i / n) == colour
    first, second = (bytes.fromhex(colour[1:]) for colour in MAP_COLOURS[-2:])
    mixed = bytes.fromhex(neuron_view._colour(0.5 / n)[1:])
    assert all(min(a, b) <= c <= max(a, b) for a, b, c in zip(first, second, mixed, strict=True))


@pytest.mark.parametrize("side", [10, 11, 100])
def test_maps_fit_into_sixty_columns_with_and_without_colours(side, monkeypatch):
    console = SafeConsole()
    console.width = 60
    monkeypatch.setattr(neuron_view, "out", lambda: console)
    for has_colours in (True, False):
        monkeypatch.setattr(neuron_view, "_has_colours", lambda has=has_colours: has)
        text = shown(neuron_view.maps_view(mapped(torch.rand(side, side), torch.rand(side, side))))
        assert max(len(line.rstrip()) for line in text.splitlines()) <= 60
        cells = 50 if side == 100 else side
        rows = re.findall("[▀·░▒▓█]{8,}", text)
        assert [len(row) for row in rows] == 2 * -(-cells // 2) * [cells]
        for label in ("sum, token 1", "sum, token 2", f" {side - 1}"):
            assert label in text


def test_without_colours_shades_show_where_a_neuron_fires():
    values = torch.zeros(10, 10)
    values[7] = 2.0
    lines = shown(neuron_view.maps_view(mapped(values))).splitlines()
    start = next(i for i, line in enumerate(lines) if line.strip().startswith("0 ·"))
    silent, firing = "·" * 10, "█" * 10
    rows = [line[4:14] for line in lines[start : start + 5]]
    assert rows == [silent, silent, silent, firing, silent]


def test_the_pattern_is_named_with_its_share():
    text = shown(neuron_view.maps_view(mapped(torch.rand(10, 10))), 200)
    assert "follows the last digit of a + b at token 1 of sum: 94 % of its variance" in text
    none = mapped(torch.rand(10, 10))._replace(described=LiveNeuron(3, "sum", 0, None, 0.2, *"abc"))
    assert "follows no simple pattern at token 1 of sum" in shown(neuron_view.maps_view(none), 200)


def test_a_neuron_that_never_fires_has_no_map(monkeypatch):
    model, grid = memorised("sum", "concat")
    matched = at_all_operands(model, grid)
    encode = model.sae.encode
    monkeypatch.setattr(model.sae, "encode", lambda x: encode(x) * (torch.arange(48) != 5))
    assert map_neuron(matched, 5) is None
    summary = neuron_summary(model, grid, sample_residuals(model, grid), 5)
    text = shown(neuron_view.neuron_view(summary, None, {}))
    assert "fires for no prompt" in text
    assert "follows" not in text


def test_sparsity_shows_and_reports_a_neuron(toytask: Command, run: Run):
    result = toytask("sparsity", "--no-figures", "--neuron", 3)
    assert "neuron 3 on" in result.out
    report = run.read_report("sparsity")["neuron"]
    assert report["neuron"] == 3
    grid = run.grid()
    model = run.model(grid, torch.device("cpu"))
    expected = map_neuron(at_all_operands(model, grid), 3)
    assert report["over_operands"] == (vars(expected.described) if expected else None)


def test_a_neuron_that_the_model_lacks_is_one_line(toytask: Command, run: Run):
    result = toytask("sparsity", "--neuron", 48)
    assert (result.code, result.out, result.err.count("\n")) == (2, "", 1)
    assert "there is no neuron 48: the SAE has neurons 0 to 47" in result.err
