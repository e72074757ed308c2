"""Figures of a study: every run as a point, and quantities over what varies."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import groupby
from statistics import fmean
from typing import Any

import numpy as np
import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from toytask_cli.analysis.quantities import REMOVAL, is_share, label_of
from toytask_cli.analysis.study_words import field_text, recipe_text
from toytask_cli.figures.style import GUIDE, rows_of_panels, style

Run = Mapping[str, Any]
Report = Mapping[str, Any]

ALSO_DRAWN = ("explained_variance", "l0", "epochs")
RECIPE_COLOURS, CELL_COLOURS = "viridis", "crest"  # beside those of tasks
LOG_RATIO = 30  # of the largest to the smallest value, from which an axis is logarithmic


def study_figures(report: Report) -> dict[str, Figure]:
    """Return name → figure: those that this study has data for."""
    runs = [run for run in report["runs"] if run["status"] == "finished"]
    varied = [key for key in report["varied"] if len({str(run["recipe"][key]) for run in runs}) > 1]
    figures = {"runs": draw_runs(runs), "left-and-kept": draw_left_and_kept(runs)}
    if len(varied) == 1 and _are_numbers(run["recipe"][varied[0]] for run in runs):
        figures[f"by-{varied[0]}"] = draw_against(runs, varied[0])
    if len(varied) == 2:
        figures["-".join(["by", *varied])] = draw_heatmaps(runs, *varied)
    cells = {(_axis_value(run, "seed"), _axis_value(run, "split")) for run in runs}
    if len(cells) > max(len(set(values)) for values in zip(*cells, strict=True)):  # crossed
        figures["seeds-and-splits"] = draw_heatmaps(runs, "split", "seed")
    return figures


def draw_runs(runs: Sequence[Run]) -> Figure:
    """Draw every run as a point, by recipe, with each recipe's mean: a panel for each quantity."""
    names = [name for name, _ in _by_recipe(runs)]
    with style():
        drawn = _drawn_quantities(runs)
        figure, axes = rows_of_panels(
            len(drawn), width=max(4.4, 2.6 + 0.7 * len(names)), height=3.4
        )
        for quantity, axis in zip(drawn, axes, strict=True):
            for column, (_, group) in enumerate(_by_recipe(runs)):
                values = _values(group, quantity)
                offsets = np.linspace(-0.25, 0.25, len(values)) if len(values) > 1 else [0]
                axis.plot(column + np.array(offsets), values, "o", ms=4, alpha=0.7, color="0.35")
                if values:
                    axis.plot([column - 0.3, column + 0.3], [fmean(values)] * 2, color="0.1")
            axis.set_xticks(range(len(names)), labels=names)
            if len(names) > 2:
                axis.tick_params("x", rotation=30)
            axis.set(xlim=(-0.6, len(names) - 0.4), title=_title(quantity))
            _end_at_100(axis, quantity)
            axis.grid(visible=False, axis="x")
        figure.suptitle("every run a point, the mean a line", fontsize=10)
        sns.despine(figure)
        return figure


def draw_left_and_kept(runs: Sequence[Run]) -> Figure:
    """Draw the accuracy left against the least share kept: a panel for each removal."""
    removals = list(filter(None, dict.fromkeys(_removal(q) for run in runs for q in run["values"])))
    groups = list(_by_recipe(runs))
    with style():
        figure, axes = rows_of_panels(len(removals), width=4.2, height=4.0)
        colours = sns.color_palette(RECIPE_COLOURS, len(groups))
        for removal, axis in zip(removals, axes, strict=True):
            for (name, group), colour in zip(groups, colours, strict=True):
                left, kept = np.transpose([_left_and_kept(run, removal) for run in group])
                axis.scatter(left, kept, color=colour, s=28, alpha=0.8, label=name, clip_on=False)
            task, tolerance, error = removal
            axis.axhline(100, **GUIDE)
            axis.set(
                title=f"{task} removed at {tolerance}, {error}",
                xlabel=f"accuracy left of {task} (%)",
                ylabel="least share kept (%)",
                xlim=(-4, 104),
                ylim=(-4, 104),
            )
        if len(groups) > 1:
            axes[0].legend(fontsize=8)
        sns.despine(figure)
        return figure


def draw_against(runs: Sequence[Run], key: str) -> Figure:
    """Draw every quantity against a varied number: every run, and the mean at each value."""
    xs = sorted({run["recipe"][key] for run in runs})
    with style():
        drawn = _drawn_quantities(runs)
        figure, axes = rows_of_panels(len(drawn), width=4.2, height=3.3)
        for quantity, axis in zip(drawn, axes, strict=True):
            at = {x: _values((r for r in runs if r["recipe"][key] == x), quantity) for x in xs}
            points = [(x, value) for x, values in at.items() for value in values]
            axis.plot(*np.array(points).T, "o", ms=4, alpha=0.7, color="0.35")
            axis.plot(*np.array([(x, fmean(v)) for x, v in at.items() if v]).T, color="0.1")
            axis.set(title=_title(quantity), xlabel=key)
            _scale_x(axis, xs)
            _end_at_100(axis, quantity)
        figure.suptitle("every run a point, the mean a line", fontsize=10)
        sns.despine(figure)
        return figure


def draw_heatmaps(runs: Sequence[Run], column: str, row: str) -> Figure:
    """Draw the mean of every quantity in each cell of two axes: a panel for each quantity.

    Args:
        column: a varied field; or `seed` or `split`.
        row: another one.
    """
    columns, rows = (_sorted({_axis_value(run, key) for run in runs}) for key in (column, row))
    with style():
        drawn = _drawn_quantities(runs)
        width, height = 2.4 + 0.6 * len(columns), 1.6 + 0.35 * len(rows)
        figure, axes = rows_of_panels(len(drawn), width=width, height=height)
        for quantity, axis in zip(drawn, axes, strict=True):
            cells = np.full((len(rows), len(columns)), np.nan)
            for i, y in enumerate(rows):
                for j, x in enumerate(columns):
                    at = (
                        r for r in runs if (_axis_value(r, column), _axis_value(r, row)) == (x, y)
                    )
                    values = _values(at, quantity)
                    cells[i, j] = fmean(values) if values else np.nan
            sns.heatmap(
                cells, ax=axis, annot=True, fmt=".4g", cmap=CELL_COLOURS, cbar=False,
                xticklabels=columns, yticklabels=rows, annot_kws={"fontsize": 7},
            )  # fmt: skip
            axis.set(title=_title(quantity), xlabel=column, ylabel=row)
            axis.grid(visible=False)
        return figure


def _end_at_100(axis: Axes, quantity: str) -> None:
    """End an axis of shares where shares end, with room for a point."""
    if is_share(quantity):
        low, high = axis.get_ylim()
        axis.set_ylim(max(low, -0.5), min(high, 100.5))


def _drawn_quantities(runs: Sequence[Run]) -> list[str]:
    """Return accuracies, left and kept with the error kept, and a few more."""
    names = dict.fromkeys(name for run in runs for name in run["values"])
    return [n for n in names if (is_share(n) and ".drop." not in n) or n in ALSO_DRAWN]


def _title(quantity: str) -> str:
    return label_of(quantity) + (" (%)" if is_share(quantity) else "")


def _values(runs: Iterable[Run], quantity: str) -> list[float]:
    """Return a quantity of these runs; a share in percent."""
    factor = 100 if is_share(quantity) else 1
    return [factor * run["values"][quantity] for run in runs if quantity in run["values"]]


def _by_recipe(runs: Sequence[Run]) -> Iterable[tuple[str, list[Run]]]:
    """Yield the runs of each recipe, with its varied values as one text."""
    for recipe, group in groupby(runs, key=lambda run: run["recipe"]):
        yield recipe_text(recipe), list(group)


def _removal(quantity: str) -> tuple[str, str, str] | None:
    """Return the task, tolerance and error of a removal's quantity, None for any other."""
    match = REMOVAL.fullmatch(quantity)
    return (match[1], match[2], match[3]) if match else None


def _left_and_kept(run: Run, removal: tuple[str, str, str]) -> tuple[float, float]:
    """Return a run's accuracy left and least share kept, in percent; NaN if it has none."""
    values = {q: v for q, v in run["values"].items() if _removal(q) == removal}
    left = [value for quantity, value in values.items() if quantity.endswith(".left")]
    kept = [value for quantity, value in values.items() if ".kept." in quantity]
    return 100 * min(left, default=np.nan), 100 * min(kept, default=np.nan)


def _axis_value(run: Run, key: str) -> Any:
    if key == "seed":
        return run["seed"]
    if key == "split":
        fold = run["split_by"].removeprefix("fold-") if run["split_by"].startswith("fold-") else ""
        return f"{fold} {run['split_seed']}".strip()
    value = run["recipe"][key]
    return field_text(value) if isinstance(value, list) else value


def _sorted(values: Iterable[Any]) -> list[Any]:
    return sorted(values, key=lambda value: (isinstance(value, str), value))


def _are_numbers(values: Iterable[Any]) -> bool:
    return all(isinstance(value, int | float) for value in values)


def _scale_x(axis: Axes, xs: Sequence[float]) -> None:
    """Use a log scale for values of many sizes, linear around zero if it is among them."""
    positive = [x for x in xs if x > 0]
    if positive and max(positive) >= LOG_RATIO * min(positive):
        linear = {"linthresh": min(positive)} if min(xs) <= 0 else {}
        axis.set_xscale("symlog" if linear else "log", **linear)
    axis.set_xticks(xs, labels=[f"{x:g}" for x in xs], minor=False)
