"""Charts of lines and points, laid out in Python and drawn as SVG by the template."""

import math
from collections.abc import Callable, Sequence
from typing import NamedTuple

from toytask_cli.report.blocks import Chart, Line, Point, Tick

LINEAR = 1e-6  # below this size a logarithmic scale with zero is linear

LEFT, RIGHT, TOP, BOTTOM = 58, 12, 8, 40  # margins of a chart, in its units

Points = Sequence[tuple[float, float]]


def _linear(value: float) -> float:
    return value


def _log(value: float) -> float:
    return math.log10(max(value, 1e-300))


def _symlog(value: float) -> float:
    return math.copysign(math.log10(1 + abs(value) / LINEAR), value)


SCALES = {"linear": _linear, "log": _log, "symlog": _symlog}


class Axis:
    """A scale from values to the units of a chart, with some ticks.

    Args:
        low: the smallest value to show.
        high: the largest.
        start: unit of the smallest value.
        end: unit of the largest.
        scale: `linear`, `log`, or `symlog`, which is logarithmic on both sides of zero.
    """

    def __init__(self, low: float, high: float, start: float, end: float, scale: str = "linear"):
        self.scale: Callable[[float], float] = SCALES[scale]
        if low == high:
            low, high = (low / 2, high * 2) if scale == "log" else (low - 0.5, high + 0.5)
        self.low, self.high, self.start, self.end = low, high, start, end
        self.kind = scale

    def at(self, value: float) -> float:
        """Return the unit of a value, rounded: a page has thousands."""
        low, high = self.scale(self.low), self.scale(self.high)
        share = (self.scale(value) - low) / (high - low)
        return round(self.start + share * (self.end - self.start), 1)

    def ticks(self) -> list[Tick]:
        """Return about five ticks at round values."""
        values = {"linear": _round_steps, "log": _powers, "symlog": _signed_powers}[self.kind]
        return [Tick(self.at(value), f"{value:.3g}") for value in values(self.low, self.high)]


def _round_steps(low: float, high: float) -> list[float]:
    step = 10 ** math.floor(math.log10((high - low) / 2))
    step = next(step * factor for factor in (1, 2, 5) if (high - low) / (step * factor) <= 6)
    first, last = math.ceil(low / step - 1e-9), math.floor(high / step + 1e-9)
    return [round(step * i, 12) for i in range(first, last + 1)]


def _powers(low: float, high: float) -> list[float]:
    first, last = math.floor(math.log10(low)), math.ceil(math.log10(high))
    steps = (1,) if last - first > 3 else (1, 2, 5)
    values = [step * 10.0**power for power in range(first, last + 1) for step in steps]
    inside = [value for value in values if low <= value <= high] or [low, high]
    return inside[:: -(-len(inside) // 6)]


def _signed_powers(low: float, high: float) -> list[float]:
    sizes = [10.0**power for power in range(-5, 4, 2)]
    values = [-size for size in reversed(sizes)] + [0.0] + sizes
    return [value for value in values if low <= value <= high]


class Series(NamedTuple):
    """A line of a chart, in values."""

    label: str
    colour: str
    points: Points


def line_chart(
    title: str,
    series: Sequence[Series],
    *,
    description: str,
    labels: tuple[str, str],
    scales: tuple[str, str] = ("linear", "linear"),
    y_range: tuple[float, float] | None = None,
    size: tuple[int, int] = (330, 210),
    marker: tuple[float, str] | None = None,
) -> Chart:
    """Return a chart of lines.

    Args:
        title: what it shows.
        series: its lines; those without points are left out.
        description: what it shows, for who cannot see it.
        labels: of both axes, with units.
        scales: of both axes, as `Axis` takes them.
        y_range: the values at the ends of the y axis; by default those of the lines.
        size: width and height.
        marker: a value on the x axis to mark, and what it is.
    """
    shown = [each for each in series if each.points]
    x_axis, y_axis = _axes([each.points for each in shown], size, scales, y_range)
    lines = [
        Line(
            each.label,
            each.colour,
            " ".join(f"{x_axis.at(x):g},{y_axis.at(y):g}" for x, y in each.points),
        )
        for each in shown
    ]
    return Chart(
        title, description, *labels, x_axis.ticks(), y_axis.ticks(), *size,
        lines=lines,
        markers=[Tick(x_axis.at(marker[0]), marker[1])] if marker else [],
        legend=[(each.colour, each.label) for each in shown] if len(shown) > 1 else [],
    )  # fmt: skip


class Dot(NamedTuple):
    """A point of a chart, in values."""

    x: float
    y: float
    colour: str
    label: str
    link: str


def scatter_chart(
    title: str,
    dots: Sequence[Dot],
    *,
    description: str,
    labels: tuple[str, str],
    legend: Sequence[tuple[str, str]],
    size: tuple[int, int] = (620, 460),
) -> Chart:
    """Return a chart of points on scales that are logarithmic on both sides of zero."""
    points = [(dot.x, dot.y) for dot in dots]
    x_axis, y_axis = _axes([points], size, ("symlog", "symlog"), None, inset=12)
    shown = [
        Point(x_axis.at(dot.x), y_axis.at(dot.y), dot.colour, dot.label, dot.link) for dot in dots
    ]
    ticks = x_axis.ticks(), y_axis.ticks()
    return Chart(title, description, *labels, *ticks, *size, points=shown, legend=legend)


def _axes(
    lines: Sequence[Points],
    size: tuple[int, int],
    scales: tuple[str, str],
    y_range: tuple[float, float] | None,
    inset: int = 0,
) -> tuple[Axis, Axis]:
    """Return axes that hold all points, of which there may be none, so far from the edges."""
    x_values = [x for points in lines for x, _ in points] or [0.0]
    y_values = [y for points in lines for _, y in points] or [0.0]
    low, high = y_range or (min(y_values), max(y_values))
    width, height = size
    x_axis = Axis(min(x_values), max(x_values), LEFT + inset, width - RIGHT - inset, scales[0])
    return x_axis, Axis(low, high, height - BOTTOM - inset, TOP + inset, scales[1])
