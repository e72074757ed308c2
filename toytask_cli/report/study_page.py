"""The page of a study: which sections it has, and what it says where something is not done."""

from collections.abc import Set

from toytask_cli.report.blocks import (
    Block,
    Definitions,
    Page,
    Picture,
    Section,
    Words,
    missing_blocks,
    with_command,
)
from toytask_cli.report.page import render
from toytask_cli.report.pictures import figure_texts, fitting
from toytask_cli.report.study_data import StudyData
from toytask_cli.report.study_lead import study_lead
from toytask_cli.report.study_recipes import comparison_blocks, summary_blocks
from toytask_cli.report.study_tables import page_label, run_blocks

MAX_BYTES = 1_000_000  # of the page, unless its texts alone are more
LEAST_KEPT = (
    "least kept",
    "the least share that another task keeps; of a recipe, the least of the tasks' means",
)


def study_page(data: StudyData) -> Page:
    """Return the page of a study, with as many figures as fit.

    Raises:
        ToytaskError: the report holds values that `toytask study` would not write.
    """
    with data.reading():
        without_figures = render(_page(data, frozenset()))
        return _page(data, fitting(data.figures, MAX_BYTES - len(without_figures)))


def not_done(data: StudyData) -> list[tuple[str, str]]:
    """Return what has not been done yet, each with the command that does."""
    with data.reading():
        report, study = data.report, f"toytask study {data.shell_path}"
        left = report["n_runs"] - report["n_finished"]
        missing = [(f"{left:,} of {report['n_runs']:,} runs", study)] if left else []
        if report["n_finished"] and not data.figures:
            missing.append(("the figures", study))
        without = data.without_page()
        if without:
            of_runs = f"the page of {without[0]}"
            if len(without) > 1:
                of_runs += f" (and of {len(without) - 1:,} more runs)"
            missing.append((of_runs, data.page_command(without[0])))
        return missing


def _page(data: StudyData, shown: Set[str]) -> Page:
    """Return the page with these figures."""
    compared = bool(data.report["comparisons"])
    return Page(
        title=f"Study of {data.report['n_runs']:,} runs: {data.path}",
        lead=study_lead(data),
        sections=[
            Section("summary", "Recipes" if compared else "Summary", summary_blocks(data)),
            *(
                [Section("compared", "Recipes compared", comparison_blocks(data))]
                if compared
                else []
            ),
            Section("runs", "Runs", _runs(data)),
            Section("figures", "Figures", _figures(data, shown)),
            Section("missing", "Not done yet", missing_blocks(not_done(data))),
            Section("definitions", "Definitions", _definitions(data)),
        ],
    )


def _runs(data: StudyData) -> list[Block]:
    without = data.without_page()
    if not without:
        return run_blocks(data)
    text = "A run without a link has no page yet. This makes one; then make this page again:"
    return [*run_blocks(data), *with_command(text, data.page_command(without[0]))]


def _figures(data: StudyData, shown: Set[str]) -> list[Block]:
    """Return the figures, and the names of those that are too large for the page."""
    study = data.shell_path
    if not data.figures:
        return with_command("There are no figures yet.", f"toytask study {study}")
    texts = figure_texts(data.report["varied"])
    pictures = [Picture(*texts[name], png) for name, png in data.figures.items() if name in shown]
    left_out = [f"figures/{name}.png" for name in data.figures if name not in shown]
    if not left_out:
        return [*pictures]
    text = f"Too large for this page, which stays below a megabyte: {', '.join(left_out)}."
    return [*pictures, Words(text, "note")]


def _definitions(data: StudyData) -> list[Block]:
    """Return the definitions of the report, and how its names are written on the page."""
    names = dict.fromkeys(row["quantity"] for row in data.report["summary"])
    removal = next((name for name in names if name.startswith("removed.")), None)
    entries = [(str(term), str(meaning)) for term, meaning in data.report["definitions"].items()]
    if removal is None:
        return [Definitions(entries)]
    label = page_label(data)(removal)
    text = f"Names and units are those of reports/study.json: {removal} is “{label}” on this page."
    return [Words(text), Definitions([*entries, LEAST_KEPT])]
