"""`toytask report`: one page of all that was measured of a run."""

from typing import Annotated

import typer

from toytask_cli.cli.common import Report, own_run, show_report
from toytask_cli.cli.console import out, print_result
from toytask_cli.cli.options import JsonOption, RunArgument


def report(
    run: RunArgument = None,
    open_: Annotated[bool, typer.Option("--open", help="Open the page in a browser.")] = False,
    json: JsonOption = False,
) -> None:
    """Write one page of all that was measured, to look at and to send on; it measures nothing.

    The page, RUN/report.html, is one file that needs no network, and names the command for what
    has not been measured yet.

    Example: toytask report runs/01 --open
    """
    from toytask_cli.report.page import render
    from toytask_cli.report.run_data import read_run
    from toytask_cli.report.run_page import not_measured, run_page
    from toytask_cli.runs.run import Run

    opened = own_run(Run.open(run))
    data = read_run(opened)
    html = render(run_page(data))
    path = opened.write_page(html)
    values = {
        "page": str(path),
        "bytes": len(html),
        "not_measured": [
            {"what": what, "command": command} for what, command in not_measured(data)
        ],
    }
    show_report(values, json, _print_report, str(path), ("chat", opened.path))
    if open_:
        typer.launch(path.absolute().as_uri())


def _print_report(values: Report) -> None:
    print_result(f"{values['page']}: {values['bytes'] / 1000:,.0f} kB, one file to look at or send")
    for missing in values["not_measured"]:
        out().print(f"not measured yet: {missing['what']}: {missing['command']}", soft_wrap=True)
