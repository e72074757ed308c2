"""`toytask report`: one page of all that was measured of a run, or of a study."""

import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, NamedTuple

import typer

from toytask_cli.cli.common import Report, own_run, show_report
from toytask_cli.cli.completion import run_or_study_directory
from toytask_cli.cli.console import out, print_result
from toytask_cli.cli.options import JsonOption

if TYPE_CHECKING:
    from toytask_cli.runs.study_directory import StudyDirectory


class WrittenPage(NamedTuple):
    """A page, and what it says is missing."""

    path: Path
    n_bytes: int
    missing: list[tuple[str, str]]  # what, and the command that makes it
    next_command: tuple[object, ...]


def report(
    run: Annotated[
        Path | None,
        typer.Argument(
            metavar="[RUN|STUDY]",
            help="Run or study directory. Default: the newest run under runs/, else the reference.",
            autocompletion=run_or_study_directory,
        ),
    ] = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    json: JsonOption = False,
) -> None:
    """Write one page of all that was measured, to look at and to send on; it measures nothing.

    The page, RUN/report.html or STUDY/report.html, is one file that needs no network, and names
    the command for what has not been measured yet.

    Example: toytask report runs/01 --open
    """
    from toytask_cli.runs.study_directory import StudyDirectory

    study = None if run is None else StudyDirectory(run)
    page = _write_study_page(study) if study and study.exists() else _write_run_page(run)
    values = {
        "page": str(page.path),
        "bytes": page.n_bytes,
        "not_measured": [{"what": what, "command": command} for what, command in page.missing],
    }
    show_report(values, json, _print_report, str(page.path), page.next_command)
    if open_:
        typer.launch(page.path.absolute().as_uri())


def _write_run_page(path: Path | None) -> WrittenPage:
    from toytask_cli.report.page import render
    from toytask_cli.report.run_data import read_run
    from toytask_cli.report.run_page import not_measured, run_page
    from toytask_cli.runs.run import Run

    run = own_run(Run.open(path))
    data = read_run(run)
    html = render(run_page(data))
    return WrittenPage(run.write_page(html), len(html), not_measured(data), ("chat", run.path))


def _write_study_page(study: "StudyDirectory") -> WrittenPage:
    from toytask_cli.report.page import render
    from toytask_cli.report.study_data import read_study
    from toytask_cli.report.study_page import not_done, study_page

    data = read_study(study)
    html = render(study_page(data))
    missing = not_done(data)
    next_command = shlex.split(missing[0][1])[1:] if missing else []
    return WrittenPage(study.write_page(html), len(html), missing, tuple(next_command))


def _print_report(values: Report) -> None:
    print_result(f"{values['page']}: {values['bytes'] / 1000:,.0f} kB, one file to look at or send")
    for missing in values["not_measured"]:
        out().print(f"not done yet: {missing['what']}: {missing['command']}", soft_wrap=True)
