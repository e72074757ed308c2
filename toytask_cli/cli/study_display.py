"""Show the progress of a study: a live table in a terminal, else one line a finished run."""

import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.text import Text

from toytask_cli.analysis.quantities import higher_is_better
from toytask_cli.cli.console import err, percent, plain_table, print_message
from toytask_cli.cli.study_view import duration
from toytask_cli.studies.plan import Plan, PlannedRun

WORST = {"accuracy": "lowest accuracy", "left": "most left", "kept": "least kept"}


class StudyDisplay:
    """The progress of a study on stderr; a context manager and an observer of `drive`.

    Args:
        plan: of the study.
        finished: run id → values of the runs that were finished before.
        live: whether to redraw a live view, rather than to print lines.
    """

    def __init__(self, plan: Plan, finished: Mapping[str, Mapping[str, float]], live: bool):
        self.plan = plan
        self.values = dict(finished)
        self.n_before = len(finished)
        self.n_failed = 0
        self.started = time.monotonic()
        self.progress: Mapping[str, Any] = {}
        self.live = Live(get_renderable=self._render, console=err()) if live else None

    def __enter__(self) -> "StudyDisplay":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def finished(self, run: PlannedRun, values: Mapping[str, float]) -> None:
        """Show that a run is finished, and what was measured of it."""
        self.values[run.id] = values
        if not self.live:
            count = f"{len(self.values)} of {len(self.plan.runs)}"
            print_message(f"{count}: {run.id}, {worst_values({run.id: values}, with_id=False)}")

    def failed(self, run: PlannedRun, reason: str, again: bool) -> None:
        """Show that a run failed, and whether it is tried again."""
        self.n_failed += not again
        then = "; once more" if again else ""
        print_message(f"{run.id} failed: {reason}{then}", style="yellow")

    def refresh(self, progress: Mapping[str, Any]) -> None:
        """Show how far the runs in training are."""
        self.progress = progress

    def _render(self) -> RenderableType:
        rows = [
            [Path(path).name, *_progress_cells(record)] for path, record in self.progress.items()
        ]
        table = plain_table(["running", "epoch", "phase", "accuracy"], rows)
        worst = f"so far: {worst_values(self.values)}" if self.values else ""
        return Group(Text(self._counts(), "bold"), table, Text(worst))

    def _counts(self) -> str:
        left = len(self.plan.runs) - len(self.values) - self.n_failed
        counts = f"{len(self.values)} of {len(self.plan.runs)} runs finished"
        failed = f", {self.n_failed} failed" if self.n_failed else ""
        done = len(self.values) - self.n_before
        rate = done / (time.monotonic() - self.started)
        time_left = f", about {duration(left / rate)}" if done and left else ""
        return f"{counts}{failed}, {left} left{time_left}"


def _progress_cells(record: Mapping[str, Any] | None) -> list[str]:
    if record is None:
        return ["", "starting", ""]
    accuracy = (record["validation"] or {}).get("accuracy", {})
    shares = ", ".join(f"{task} {percent(share)}" for task, share in accuracy.items())
    return [str(record["epoch"]), record["phase"], shares]


def worst_values(values: Mapping[str, Mapping[str, float]], with_id: bool = True) -> str:
    """Return the lowest accuracy, the most left and the least kept of some runs, in words.

    Args:
        values: run id → quantity → value.
        with_id: whether to name the run of each.
    """
    texts = []
    for piece, label in WORST.items():
        found = [
            (value, name)
            for name, quantities in values.items()
            for quantity, value in quantities.items()
            if piece in quantity.split(".")
        ]
        if found:
            worst, name = (min if higher_is_better(piece) else max)(found)
            texts.append(f"{label} {percent(worst)}" + (f" ({name})" if with_id else ""))
    return ", ".join(texts)
