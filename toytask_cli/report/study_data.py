"""All that a study's files say, for its page."""

from collections.abc import Mapping, Set
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toytask_cli.report.pictures import figure_texts
from toytask_cli.report.run_data import Report, understanding
from toytask_cli.runs import paths
from toytask_cli.runs.study_directory import StudyDirectory


@dataclass(frozen=True)
class StudyData:
    """The report of a study, its figures, and which of its runs have a page."""

    path: str
    shell_path: str  # as it can be typed into a shell
    report: Report
    pages: Set[str]  # ids of the runs that have a page
    figures: Mapping[str, bytes]  # name → PNG, in the order to show them

    def reading(self) -> AbstractContextManager[None]:
        """Return a context in which values are taken from the report."""
        return _reading(self.path, self.shell_path)

    def page_command(self, run: str) -> str:
        """Return the command that makes the page of a run."""
        return f"toytask report {paths.as_typed(Path(self.path) / run)}"

    def without_page(self) -> list[str]:
        """Return the ids of the finished runs that have no page."""
        finished = (run["id"] for run in self.report["runs"] if run["status"] == "finished")
        return [run for run in finished if run not in self.pages]


def read_study(study: StudyDirectory) -> StudyData:
    """Read the report and the figures of a study.

    Raises:
        ToytaskError: the report is missing, or a file cannot be read.
    """
    report = study.read_report()
    with _reading(str(study.path), study.shell_path):
        ids = [_checked(run["id"]) for run in report["runs"]]
        known = figure_texts(report["varied"])
    names = study.figure_names()
    return StudyData(
        path=str(study.path),
        shell_path=study.shell_path,
        report=report,
        pages={name for name in ids if (study.path / name / paths.PAGE).is_file()},
        figures={name: study.read_figure(name) for name in known if name in names},
    )


def _checked(run: Any) -> str:
    """Return a run's id; refuse one that is none, such as a path that leaves the study."""
    if not paths.RUN_ID.fullmatch(run):
        raise ValueError(run)
    return str(run)


def _reading(path: str, shell_path: str) -> AbstractContextManager[None]:
    return understanding(f"{path}/reports/study.json", f"toytask study {shell_path}")
