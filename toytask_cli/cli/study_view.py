"""Print the report of a study as tables."""

from collections.abc import Callable, Iterable
from functools import partial
from itertools import groupby

from toytask_cli.analysis.quantities import label_of
from toytask_cli.analysis.study_words import Row, recipe_text, support_text, value_text
from toytask_cli.cli.common import Report
from toytask_cli.cli.console import print_result, print_table

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
    print_result(support_text(rows))


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
    """Format a value, or its absence."""
    return "-" if value is None else value_text(quantity, value, sign)


def duration(seconds: float) -> str:
    """Format a duration: 45 s, 12 min, 3 h 20 min."""
    if seconds < 90:
        return f"{seconds:.0f} s"
    minutes = round(seconds / 60)
    return f"{minutes} min" if minutes < 90 else f"{minutes // 60} h {minutes % 60} min"
