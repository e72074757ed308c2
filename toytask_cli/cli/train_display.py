"""What `toytask train` shows while it runs: live in a terminal, else a line every few epochs."""

import math
import sys
from collections import deque
from collections.abc import Collection
from typing import Any

from rich.columns import Columns
from rich.console import Group, RenderableType
from rich.live import Live
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table
from rich.text import Text

from toytask_cli.cli.console import err, plain_table
from toytask_cli.training.loop import EpochRecord, Trainer
from toytask_cli.training.schedule import LEARN

LINES = 30  # about this many plain lines a run
SPARKS = "▁▂▃▄▅▆▇█"
SPARK_WIDTH = 60


class TrainDisplay:
    """Follows a trainer; a context manager. What it shows goes to stderr."""

    def __init__(self, trainer: Trainer, live: bool):
        self.trainer = trainer
        self.validation_losses: deque[float] = deque(maxlen=SPARK_WIDTH)
        self.records: list[EpochRecord] = []
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
        """A step of the epoch under way is done."""
        done = self.trainer.progress.epoch + step / self.trainer.steps_per_epoch
        self.progress.update(self.bar, completed=math.floor(done * 100) / 100)

    def epoch(self, record: EpochRecord) -> None:
        """An epoch is done."""
        self.records = [*self.records[-1:], record]
        if record.validation:
            self.validation_losses.append(record.validation["loss"])
        phase = self.trainer.progress.phase.name
        self.progress.update(
            self.bar, completed=record.epoch, total=self._total(), description=phase
        )
        every = max(1, self.trainer.recipe.epochs // LINES)
        turns = len(self.records) > 1 and record.phase != self.records[0].phase
        if not self.live and (record.epoch % every == 0 or turns or self.trainer.is_over):
            err().print(_line(record), soft_wrap=True)

    def _total(self) -> int:
        """The epoch at which the run ends at the latest, as far as is known now."""
        last = self.trainer.progress.phase.last_epoch(self.trainer.recipe)
        return last if self.trainer.progress.phase.name != LEARN else self.trainer.recipe.epochs

    def _render(self) -> RenderableType:
        if not self.records:
            return self.progress
        last = self.records[-1]
        numbers = [numbers_view(last.validation)] if last.validation else []
        return Group(self.progress, _table(last), *numbers, self._sparkline())

    def _sparkline(self) -> Text:
        return Text.assemble(("validation loss ", "dim"), sparkline(self.validation_losses))


def wants_live() -> bool:
    """Whether there is a person to see things move."""
    return err().is_terminal and sys.stdout.isatty()


def sparkline(values: Collection[float]) -> str:
    """Values on a log scale, one block each."""
    logs = [math.log(max(value, 1e-12)) for value in values]
    low, span = min(logs, default=0.0), (max(logs, default=0.0) - min(logs, default=0.0)) or 1.0
    return "".join(SPARKS[round((value - low) / span * (len(SPARKS) - 1))] for value in logs)


def _table(record: EpochRecord) -> Table:
    table = plain_table("", "loss", "CE", "MSE", "L1", "overlap")
    parts: dict[str, dict[str, Any] | None] = {
        "train": record.train,
        "validation": record.validation,
    }
    for part, terms in parts.items():
        if terms:
            names = ("loss", "ce", "mse", "l1", "overlap")
            table.add_row(part, *(f"{terms[name]:.4g}" for name in names))
    return table


def numbers_view(validation: dict[str, Any]) -> Columns:
    """Accuracies and neurons, in as many lines as the terminal takes."""
    accuracy = validation["accuracy"].items()
    shown = [
        Text.assemble(f"{task} ", (f"{100 * share:.1f} %", "bold")) for task, share in accuracy
    ]
    neurons = [f"l0 {validation['l0']:.1f}", f"dead {validation['dead_neurons']}"]
    return Columns([*shown, *neurons], padding=(0, 3, 0, 0))


def _line(record: EpochRecord) -> str:
    text = f"epoch {record.epoch} {record.phase}: loss {record.train['loss']:.4f}"
    if record.validation is None:
        return text
    accuracy = (f"{t} {100 * share:.1f} %" for t, share in record.validation["accuracy"].items())
    return (
        f"{text}, validation {record.validation['loss']:.4f}, {', '.join(accuracy)}, "
        f"l0 {record.validation['l0']:.1f}, dead {record.validation['dead_neurons']}"
    )
