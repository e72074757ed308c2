"""The tables of a study's recipes: at a glance, in every quantity, and compared."""

from collections.abc import Mapping, Sequence
from itertools import groupby

from toytask_cli.analysis.study_words import Row as Values
from toytask_cli.analysis.study_words import recipe_text, value_text
from toytask_cli.report.accuracy import percent, title_of
from toytask_cli.report.blocks import Block, Cell, Row, Words
from toytask_cli.report.study_data import StudyData
from toytask_cli.report.study_tables import (
    MISSING,
    long_table,
    main_quantities,
    page_label,
    run_links,
    value_cell,
)

SPREADS = ("sd_seeds", "sd_splits", "sd_residual")


def by_recipe(summary: Sequence[Values]) -> list[list[Values]]:
    """Return the rows of each recipe."""
    return [list(rows) for _, rows in groupby(summary, key=lambda row: row["recipe"])]


def least(rows: Sequence[Values]) -> tuple[float, float]:
    """Return the mean and the worst run of one quantity, or the least of several."""
    return min(row["mean"] for row in rows), min(row["worst"] for row in rows)


def glance_blocks(data: StudyData) -> list[Block]:
    """Return a table with a row for each recipe: the mean and the worst of the main quantities."""
    groups = main_quantities(data)
    rows = []
    for recipe in by_recipe(data.report["summary"]):
        by_quantity = {row["quantity"]: row for row in recipe}
        n, share = max((row["n"], row["worse_at_most"]) for row in recipe)
        cells = [_glance_cell(names, by_quantity) for names in groups.values()]
        support = Cell(percent(share), value=share)
        rows.append(Row([Cell(recipe_text(recipe[0]["recipe"])), Cell(f"{n}"), *cells, support]))
    caption = (
        "Each recipe: the mean over its runs, and below it the worst run. At 95 %, the share of "
        "such runs that are worse than the worst of these is at most what the last column says."
    )
    return long_table(caption, ["recipe", "runs", *groups, "worse at most"], rows, [])


def _glance_cell(quantities: Sequence[str], by_quantity: Mapping[str, Values]) -> Cell:
    rows = [by_quantity[name] for name in quantities if name in by_quantity]
    if not rows:
        return MISSING
    mean, worst = least(rows)
    return value_cell(quantities[0], mean, detail=f"worst {value_text(quantities[0], worst)}")


def summary_blocks(data: StudyData) -> list[Block]:
    """Return the table of every recipe and quantity over the finished runs."""
    summary, label = data.report["summary"], page_label(data)
    if not summary:
        return [Words("No run is finished yet.", "note")]
    spreads = [key for key in SPREADS if any(row[key] is not None for row in summary)]
    recipe = ["recipe"] if data.report["varied"] else []
    headings = ["quantity", *recipe, "n", "mean", *map(title_of, spreads), "worst", "worst run"]
    links = run_links(data)
    rows = [
        [
            Cell(label(row["quantity"])),
            *(Cell(recipe_text(row["recipe"])) for _ in recipe),
            Cell(f"{row['n']}"),
            *(value_cell(row["quantity"], row[key]) for key in ("mean", *spreads, "worst")),
            Cell(row["worst_run"], link=links.get(row["worst_run"], "")),
        ]
        for row in summary
    ]
    words = [*range(1, 1 + len(recipe)), len(headings) - 1]
    caption = "Every quantity over the finished runs"
    return long_table(caption, headings, list(map(Row, rows)), words)


def comparison_blocks(data: StudyData) -> list[Block]:
    """Return the table of the recipes compared with the first."""
    comparisons, label = data.report["comparisons"], page_label(data)
    headings = ["quantity", "recipe", "difference", "95 % interval", "won", "pairs"]
    rows = [
        [
            Cell(label(row["quantity"])),
            Cell(recipe_text(row["recipe"])),
            value_cell(row["quantity"], row["difference"], "+"),
            _interval_cell(row),
            Cell(f"{100 * row['share_won']:.0f} %", value=row["share_won"]),
            Cell(f"{row['n']}"),
        ]
        for row in comparisons
    ]
    caption = f"Each recipe less {recipe_text(comparisons[0]['against'])}, run by run"
    return long_table(caption, headings, list(map(Row, rows)), [1])


def _interval_cell(row: Values) -> Cell:
    if row["ci95"] is None:
        return MISSING
    ends = [value_text(row["quantity"], end, "+") for end in row["ci95"]]
    return Cell(" to ".join(ends), value=row["ci95"][0])
