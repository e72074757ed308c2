"""A study's directory: its plan, a directory for each finished run, and what they say together.

runs/study-01/
  study.json         the plan
  seed-0/, seed-1/   runs, each whole or not there
  reports/study.json
  figures/
  report.html        all of it on one page
"""

import re
import shutil
from collections.abc import Iterator, Mapping
from contextlib import closing, contextmanager
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files, paths
from toytask_cli.runs.metrics import MetricsLog
from toytask_cli.runs.run import Run

PLAN = "study.json"
MAX_FIGURE_BYTES = 2**25
MAX_REPORT_BYTES = 2**28  # of ten thousand runs with many quantities
PNG_SIGNATURE = b"\x89PNG\r\n\x1a\n"
REPORT = "study"  # of the study, and of each of its runs
FILE_OF_RUN = re.compile(r"(\w+/)?\w[\w.+-]*")


class StudyDirectory:
    """An existing directory of a study.

    Reading raises a ToytaskError if a file is missing, cut, foreign or changed; writing raises a
    WriteError if the system refuses.
    """

    def __init__(self, path: Path):
        self.path = path
        self.shell_path = paths.as_typed(path)
        self.plan_file = path / PLAN

    @classmethod
    def create(cls, out: Path | None, plan: Mapping[str, Any]) -> "StudyDirectory":
        """Create a directory: `out`, which must be empty, or `runs/study-01` and so on."""
        path = (
            paths.create_numbered(paths.RUNS, paths.STUDY_PREFIX)
            if out is None
            else paths.create_empty(out)
        )
        study = cls(path)
        study.write_plan(plan)
        return study

    @classmethod
    def existing(cls) -> "list[StudyDirectory]":
        """Return the numbered studies under `runs/`, the newest first."""
        found = paths.numbered(paths.RUNS, paths.STUDY_PREFIX)
        studies = (cls(found[number]) for number in sorted(found, reverse=True))
        return [study for study in studies if study.exists()]

    def exists(self) -> bool:
        """Return whether there is a study here."""
        return self.plan_file.is_file()

    @contextmanager
    def locked(self) -> Iterator[None]:
        """Keep other processes from driving this study, by the lock of a run in training."""
        with closing(MetricsLog(self.path / ".lock")):
            yield

    def read_plan(self) -> dict[str, Any]:
        """Read the contents of `study.json`."""
        with files.reading(self.plan_file, "name a study, or begin one with `toytask study --out`"):
            return files.read_json(self.plan_file)

    def write_plan(self, plan: Mapping[str, Any]) -> None:
        """Write `study.json`."""
        files.write_json(self.plan_file, plan)

    def write_run(self, name: str, contents: Mapping[str, bytes]) -> None:
        """Write a run's directory completely or not at all.

        Args:
            name: of the directory.
            contents: relative path → bytes of each file.
        """
        if not all(map(FILE_OF_RUN.fullmatch, contents)):
            raise ToytaskError(f"{name}: a worker sent files that are none of a run")
        partial = self.path / f".{name}{files.PARTIAL}"
        with files.writing(partial):
            if partial.exists():  # a killed driver left it
                shutil.rmtree(partial)
            for relative, content in contents.items():
                (partial / relative).parent.mkdir(parents=True, exist_ok=True)
                files.write_bytes(partial / relative, content)
            partial.rename(self.path / name)

    def read_values(self, name: str, fingerprint: str) -> dict[str, float] | None:
        """Return what was measured of a run, or None if it is not there.

        Raises:
            ToytaskError: there is something else in its place.
        """
        path = self.path / name
        if not path.exists():
            return None
        hint = "move it away, and run the study again"
        with files.reading(path, hint):
            report = Run.open(path).read_report(REPORT)
            if report.get("fingerprint") != fingerprint:
                raise ToytaskError("a run of another recipe, precision or number of threads")
            values = files.object_at(report, "values")
            if not all(type(value) in (int, float) for value in values.values()):
                raise ToytaskError("a value is no number")
            return values

    def write_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Write `reports/study.json`; return what was written."""
        return files.write_json(self._folder("reports") / f"{REPORT}.json", report)

    def read_report(self) -> dict[str, Any]:
        """Read `reports/study.json`."""
        path = self.path / "reports" / f"{REPORT}.json"
        with files.reading(path, f"make it with `toytask study {self.shell_path}`"):
            return files.read_json(path, MAX_REPORT_BYTES)

    def figure_names(self) -> list[str]:
        """Return the names of the figures, in order."""
        return sorted(path.stem for path in (self.path / "figures").glob("*.png"))

    def read_figure(self, name: str) -> bytes:
        """Read `figures/<name>.png`."""
        path = self.path / "figures" / f"{name}.png"
        with files.reading(path, f"draw it with `toytask study {self.shell_path}`"):
            png = files.read_bytes(path, MAX_FIGURE_BYTES)
            if not png.startswith(PNG_SIGNATURE):
                raise ToytaskError("not a PNG file")
        return png

    def write_figure(self, name: str, png: bytes) -> None:
        """Write `figures/<name>.png`."""
        files.write_bytes(self._folder("figures") / f"{name}.png", png)

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        paths.check_not_link(folder)
        with files.writing(folder):
            folder.mkdir(exist_ok=True)
        return folder

    def write_page(self, html: bytes) -> Path:
        """Write `report.html`; return its path."""
        path = self.path / paths.PAGE
        files.write_bytes(path, html)
        return path
