"""The parts of a page: axes, the sprite of small maps, an attack."""

import io
from dataclasses import asdict, replace

import numpy as np
import pytest
from PIL import Image

from toytask_cli.analysis.attack import Attack, FromExamples
from toytask_cli.analysis.relearning import Relearning
from toytask_cli.figures.colours import MAP_COLOURS
from toytask_cli.report.charts import Axis
from toytask_cli.report.removals import attack_blocks
from toytask_cli.report.sprite import ACROSS, TILE, draw_sprite


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


@pytest.mark.parametrize(("ablation", "how"), [("off", " with the mask lifted"), (None, "")])
def test_an_attack_is_shown_with_its_steps_and_its_control(ablation, how):
    steps = Relearning(steps50=34, steps95=None, rate=0.002, data="all", curves=[])
    report = Attack(
        removed_tasks=["concat"],
        kept_tasks=["sum"],
        before={"concat": 0.9996},
        mask_lifted={"sum": 1.0, "concat": 0.9996},
        mask_held={"sum": 1.0, "concat": 0.0},
        control_accuracy={"sum": 1.0, "concat": 0.0},
        probes={"sae": {"run": 0.5, "control": 0.25}},
        relearning={"run": steps, "control": replace(steps, steps95=410)},
        from_examples=[FromExamples(n=1000, run=0.75, control=0.5)],
        robustness={"50": 0.97, "95": None},
        split="test",
        limit=2000,
        seed=0,
        definitions={},
    )
    blocks = attack_blocks(asdict(report) | {"ablation": ablation})
    texts = [getattr(block, "text", "") for block in blocks]
    assert f"Accuracy{how}: sum 100.00 %, concat 99.96 %." in texts
    assert any("0.97 to 50 %, – to 95 %" in text for text in texts)
    rows = [row for block in blocks for row in getattr(block, "rows", ())]
    cells = {cell.text for row in rows for cell in row.cells}
    assert {"34", "not in 2,000", "410", "50.00 %", "1,000", "75.00 %"} <= cells
