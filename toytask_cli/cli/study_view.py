"""Print the report of a study as tables."""

from collections.abc import Callable, Iterable, Mapping
from functools import partial
from itertools import groupby
from typing import Any

from toytask_cli.analysis.quantities import is_share, label_of
from toytask_cli.cli.common import Report
from toytask_cli.cli.console import print_result, print_table

Row = Mapping[str, Any]
Label = Callable[[str], str]  # quantity → words

SPREADS = {"sd_seeds": "seeds", "sd_splits": "splits", "sd_residual": "rest"}


def print_study(report: Report) -> None:
    """Print every recipe over its runs, the recipes compared, and the runs that failed."""
    left = report["n_runs"] - report["n_finished"] - report["n_failed"]
    print_result(
        f"{report['study']}: {report['n_finished']} of {report['n_runs']} runs finished, "
        f"{report['n_failed']} failed, {left} left; shares in %"
    )
    label = partial(label_of, with_tolerance=len(report["tolerances"]) > 1)
    for recipe, rows in _by_recipe(report["summary"]):
        _print_summary(recipe, rows, label)
    for recipe, rows in _by_recipe(report["comparisons"]):
        _print_comparison(recipe, rows, label)
    failed = [run for run in report["runs"] if run["status"] == "failed"]
    if failed:
        print_table(["failed run", "reason"], ([run["id"], run["reason"]] for run in failed))


def _by_recipe(rows: Iterable[Row]) -> Iterable[tuple[Row, list[Row]]]:
    for recipe, group in groupby(rows, key=lambda row: row["recipe"]):
        yield recipe, list(group)


def _print_summary(recipe: Row, rows: list[Row], label: Label) -> None:
    spreads = [key for key in SPREADS if any(row[key] is not None for row in rows)]
    cells = []
    for row in rows:
        mean, worst, *deviations = (
            _value(row["quantity"], row[key]) for key in ("mean", "worst", *spreads)
        )
        cells.append(
            [label(row["quantity"]), mean, " / ".join(deviations), worst, row["worst_run"]]
        )
    heading = f"sd {' / '.join(SPREADS[key] for key in spreads)}"
    print_table(["", "mean", heading, "worst", "worst run"], cells, title=recipe_text(recipe))
    n, share = max((row["n"], row["worse_at_most"]) for row in rows)
    of_such = f"at most {100 * share:.2g} % of such runs"
    print_result(f"{n} runs: {of_such} are worse than the worst of these (95 %)")


def _print_comparison(recipe: Row, rows: list[Row], label: Label) -> None:
    cells = (
        [
            label(row["quantity"]),
            _value(row["quantity"], row["difference"], "+"),
            _interval(row),
            f"{100 * row['share_won']:.0f} %",
            str(row["n"]),
        ]
        for row in rows
    )
    title = f"{recipe_text(recipe)} less {recipe_text(rows[0]['against'])}, run by run"
    print_table(["", "difference", "95 % interval", "won", "pairs"], cells, title=title)


def _interval(row: Row) -> str:
    if row["ci95"] is None:
        return "-"
    return " to ".join(_value(row["quantity"], end, "+") for end in row["ci95"])


def _value(quantity: str, value: float | None, sign: str = "") -> str:
    """Format a value: a share in percent, any other number to four digits."""
    if value is None:
        return "-"
    return f"{100 * value:{sign}.2f}" if is_share(quantity) else f"{value:{sign}.4g}"


def recipe_text(recipe: Row) -> str:
    """Return what tells a recipe from the others: `lambda 0.001, beta 0.1`."""
    texts = (
        f"{key} {'+'.join(value) if isinstance(value, list) else value}"
        for key, value in recipe.items()
    )
    return ", ".join(texts) or "all runs"


def duration(seconds: float) -> str:
    """Format a duration: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
