"""The table of every run of a study, and what all its tables share."""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from typing import NamedTuple

from toytask_cli.analysis.quantities import REMOVAL, is_share, label_of
from toytask_cli.analysis.study_words import Row as Values
from toytask_cli.analysis.study_words import field_text, value_text
from toytask_cli.errors import shorten
from toytask_cli.report.accuracy import title_of
from toytask_cli.report.blocks import Block, Cell, Row, Table, Words
from toytask_cli.report.study_data import StudyData
from toytask_cli.runs.paths import PAGE

CELLS_SHOWN = 5_000  # of a table: the page of the largest study stays below a megabyte
LONGEST_REASON = 300  # characters
ALSO_SHOWN = ("l0", "explained_variance", "epochs")  # beside accuracies and removals
MISSING = Cell("–", value="")


class Column(NamedTuple):
    """A column of the table of runs."""

    heading: str
    cell: Callable[[Values], Cell]
    is_text: bool = False


def run_blocks(data: StudyData) -> list[Block]:
    """Return the table of every run."""
    columns = _run_columns(data)
    rows = [
        Row([column.cell(run) for column in columns], id=run["id"]) for run in data.report["runs"]
    ]
    words = [i for i, column in enumerate(columns) if column.is_text]
    headings = [column.heading for column in columns]
    return long_table("Every run of the plan", headings, rows, words)


def run_links(data: StudyData) -> dict[str, str]:
    """Return run id → the address of its page, or else of its row if that is shown."""
    shown = data.report["runs"][: _n_shown(len(_run_columns(data)))]
    rows = {run["id"]: f"#{run['id']}" for run in shown}
    return rows | {run: _page_of(data, run) for run in data.pages}


def _page_of(data: StudyData, run: str) -> str:
    return f"{run}/{PAGE}" if run in data.pages else ""


def _run_columns(data: StudyData) -> list[Column]:
    runs, varied = data.report["runs"], data.report["varied"]
    has_folds = len({run["split_by"] for run in runs}) > 1 and "split_by" not in varied
    return [
        Column("run", lambda run: Cell(run["id"], link=_page_of(data, run["id"]))),
        Column("status", lambda run: Cell(run["status"]), is_text=True),
        *(_field_column(runs, key) for key in varied),
        Column("seed", lambda run: Cell(f"{run['seed']}")),
        *([Column("split", lambda run: Cell(run["split_by"]), is_text=True)] if has_folds else []),
        Column("split seed", lambda run: Cell(f"{run['split_seed']}")),
        *(
            Column(heading, partial(_least_cell, names))
            for heading, names in main_quantities(data).items()
        ),
        *([Column("reason", _reason_cell, is_text=True)] if data.report["n_failed"] else []),
    ]


def _field_column(runs: Sequence[Values], key: str) -> Column:
    is_text = any(not isinstance(run["recipe"][key], int | float) for run in runs)
    return Column(title_of(key), lambda run: Cell(field_text(run["recipe"][key])), is_text)


def _least_cell(quantities: Sequence[str], run: Values) -> Cell:
    values = (run["values"][name] for name in quantities if name in run["values"])
    return value_cell(quantities[0], min(values, default=None))


def _reason_cell(run: Values) -> Cell:
    return Cell(shorten(run["reason"] or "", LONGEST_REASON))


def main_quantities(data: StudyData) -> dict[str, list[str]]:
    """Return heading → quantities, of which the least is shown: accuracies, left, kept, and more.

    Removals are those that keep the SAE's error.
    """
    label = page_label(data)
    groups: dict[str, list[str]] = {}
    for quantity in _quantities(data.report["summary"]):
        match = REMOVAL.fullmatch(quantity)
        if match and match[3] == "keep":
            what = "least kept" if match[4] == "kept" else match[4]
            heading = f"{label(quantity).split(', keep: ')[0]}: {what} (%)"
            groups.setdefault(heading, []).append(quantity)
        elif quantity.startswith("accuracy.") or quantity in ALSO_SHOWN:
            groups[label(quantity)] = [quantity]
    return groups


def _quantities(rows: Iterable[Values]) -> Iterable[str]:
    return dict.fromkeys(row["quantity"] for row in rows)


def page_label(data: StudyData) -> Callable[[str], str]:
    """Return what names a quantity in words, with its unit if that is percent."""
    with_tolerance = len(data.report["tolerances"]) > 1
    return lambda name: label_of(name, with_tolerance) + (" (%)" if is_share(name) else "")


def value_cell(quantity: str, value: float | None, sign: str = "", detail: str = "") -> Cell:
    """Return the cell of a value; a share is sorted by what it shows, which is exact enough."""
    if value is None:
        return MISSING
    text = value_text(quantity, value, sign)
    exact = float(f"{100 * value if is_share(quantity) else value:.7g}")
    return Cell(text, detail, value=exact if detail or not is_share(quantity) else None)


def long_table(
    caption: str, headings: Sequence[str], rows: Sequence[Row], text_columns: Sequence[int]
) -> list[Block]:
    """Return a sortable table, and how many rows it leaves out if there are too many."""
    n = _n_shown(len(headings))
    table = Table(caption, headings, rows[:n], is_sortable=True, text_columns=text_columns)
    if len(rows) <= n:
        return [table]
    left_out = f"The first {n:,} of {len(rows):,} rows: reports/study.json has all of them."
    return [table, Words(left_out, "note")]


def _n_shown(n_columns: int) -> int:
    return CELLS_SHOWN // n_columns
