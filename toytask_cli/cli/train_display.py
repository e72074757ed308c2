"""Show the progress of a training: live in a terminal, else one line every few epochs."""

import math
import sys
from collections import deque
from collections.abc import Collection, Mapping
from typing import Any

from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from toytask_cli.cli.console import err, plain_table, print_message
from toytask_cli.training.loop import EpochRecord, Trainer
from toytask_cli.training.schedule import LEARN

LINES = 60  # about so many plain lines for a run
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 60


class TrainDisplay:
    """The progress of a trainer on stderr; a context manager.

    Args:
        trainer: to follow.
        labels: name of a loss term or metric → its label.
        live: whether to redraw a live view, rather than to print lines.
    """

    def __init__(self, trainer: Trainer, labels: Mapping[str, str], live: bool):
        self.trainer = trainer
        self.labels = labels
        self.validation_losses: deque[float] = deque(maxlen=SPARK_WIDTH)
        self.last: EpochRecord | None = None
        self.progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TextColumn("epochs"),
            TimeRemainingColumn(),
            console=err(),
        )
        self.bar = self.progress.add_task(LEARN, total=self._total())
        self.progress.update(self.bar, completed=trainer.progress.epoch)
        self.live = Live(get_renderable=self._render, console=err()) if live else None

    def __enter__(self) -> "TrainDisplay":
        if self.live:
            self.live.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.live:
            self.live.stop()

    def step(self, step: int) -> None:
        """Show that this many steps of the current epoch are done."""
        done = self.trainer.progress.epoch + step / self.trainer.steps_per_epoch
        self.progress.update(self.bar, completed=math.floor(done * 100) / 100)

    def epoch(self, record: EpochRecord) -> None:
        """Show a finished epoch."""
        begins_phase = self.last is not None and record.phase != self.last.phase
        self.last = record
        if record.validation:
            self.validation_losses.append(record.validation["loss"])
        phase = self.trainer.progress.phase.name
        self.progress.update(
            self.bar, completed=record.epoch, total=self._total(), description=phase
        )
        every = max(1, self.trainer.recipe.epochs // LINES)
        if not self.live and (record.epoch % every == 0 or begins_phase or self.trainer.is_over):
            print_message(log_line(record))

    def _total(self) -> int:
        """Return the epoch at which the run ends at the latest, as far as is known now."""
        last = self.trainer.progress.phase.last_epoch(self.trainer.recipe)
        return last if self.trainer.progress.phase.name != LEARN else self.trainer.recipe.epochs

    def _render(self) -> RenderableType:
        if self.last is None:
            return self.progress
        losses = Text.assemble(("validation loss ", "dim"), sparkline(self.validation_losses))
        return Group(self.progress, metrics_table(self.last, self.labels), losses)


def wants_live() -> bool:
    """Return whether a person watches, in a terminal that can redraw."""
    return err().is_interactive and sys.stdout.isatty()


def sparkline(values: Collection[float]) -> str:
    """Return values on a log scale, one block each."""
    logs = [math.log(max(value, 1e-12)) for value in values]
    low, span = min(logs, default=0.0), (max(logs, default=0.0) - min(logs, default=0.0)) or 1.0
    return "".join(SPARKS[round((value - low) / span * (len(SPARKS) - 1))] for value in logs)


def metrics_table(record: EpochRecord, labels: Mapping[str, str]) -> Table:
    """Return a table of every loss term and metric, on training and on validation examples."""
    train = format_metrics(record.train, labels)
    validation = format_metrics(record.validation or {}, labels)
    names = {**train, **validation}
    rows = ([name, train.get(name, ""), validation.get(name, "")] for name in names)
    return plain_table(["", "train", "validation"], rows)


def log_line(record: EpochRecord) -> str:
    """Return an epoch in one line: the terms in training, and what validation adds to them."""
    text = f"epoch {record.epoch} {record.phase}: {in_one_line(record.train)}"
    if record.validation is None:
        return text
    added = {k: v for k, v in record.validation.items() if k == "loss" or k not in record.train}
    return f"{text}; validation {in_one_line(added)}"


def in_one_line(metrics: Mapping[str, Any]) -> str:
    """Return metrics by their names in the record: `loss 0.52, accuracy sum 97.0 %, l0 30.1`."""
    return ", ".join(f"{name} {value}" for name, value in format_metrics(metrics, {}).items())


def format_metrics(metrics: Mapping[str, Any], labels: Mapping[str, str]) -> dict[str, str]:
    """Return label → formatted value; a metric by task is a share for each task."""
    texts: dict[str, str] = {}
    for name, value in metrics.items():
        label = labels.get(name, name)
        if isinstance(value, Mapping):
            texts |= {f"{label} {task}": f"{100 * share:.1f} %" for task, share in value.items()}
        else:
            texts[label] = str(value) if isinstance(value, int) else f"{value:.4g}"
    return texts
