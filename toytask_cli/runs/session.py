"""Train a run on disk: metrics, checkpoints, weights and the report are saved as it goes."""

import time
from collections.abc import Callable, Iterator
from contextlib import closing
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import torch

from toytask_cli.analysis.evaluate import score, task_scores
from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.model import empty_model
from toytask_cli.objective import LOSS_TERMS
from toytask_cli.recipe import Recipe
from toytask_cli.runs import checkpoint, files, metrics, tensor_files
from toytask_cli.runs.config import Config
from toytask_cli.runs.lessons import lesson_of
from toytask_cli.runs.metrics import MetricsLog
from toytask_cli.runs.run import Run
from toytask_cli.runs.teacher import Teacher
from toytask_cli.training.loop import DivergedError, EpochRecord, Progress, Trainer
from toytask_cli.training.schedule import LEARN, SEPARATE
from toytask_cli.training.validation import EPOCH_METRICS

CHECKPOINT_SHARE = 0.02  # of the time, at most, goes into checkpoints
FINISHED = "finished"

DEFINITIONS = {
    "epochs": "finished epochs, both phases together",
    "separate_from": "epochs done when the second phase began; null if it never did",
    "best_epoch": "epoch of the lowest validation loss within the last phase reached",
    "seconds": "wall time of training and validation, checkpoints and reports excluded",
    "validation": "as measured while training, in the run's precision, and of a run with a teacher "
    "against the teacher's answers; what is under `tasks` is measured on the weights as saved, in "
    "float32, against the true answers",
    **{name: metric.definition for name, metric in (LOSS_TERMS | EPOCH_METRICS).items()},
    "ci95": "Wilson 95 % interval of the accuracy",
    "ce_loss": "mean over examples of the mean cross-entropy of the answer's tokens, nats",
    "n": "number of examples",
}


@dataclass
class Session:
    """A run directory, its examples, and a trainer that is at some epoch."""

    run: Run
    grid: Grid
    trainer: Trainer

    @classmethod
    def start(
        cls,
        recipe: Recipe,
        device: torch.device,
        precision: torch.dtype,
        out: Path | None,
        *,
        teacher: Teacher | None = None,
        taught: list[str] | None = None,
    ) -> "Session":
        """Begin with a new model in a new run directory.

        Args:
            teacher: whose answers to learn; None for the true ones.
            taught: the tasks to learn; None for all.

        Raises:
            ToytaskError: the directory cannot be created, or the teacher cannot be used.
        """
        _flush_denormals()
        grid = build_grid(recipe)
        config = Config.here(recipe, device, precision, teacher, taught)
        lesson = lesson_of(config, grid, device)
        model = lesson.initial_model(recipe).to(device)
        trainer = Trainer(recipe, lesson.grid, model, precision, lesson.distribution)
        run = Run.create(config, out)
        checkpoint.write_checkpoint(run, *trainer.finished, metrics.fingerprint([]))
        run.write_config()  # last: a directory with a configuration can be resumed
        return cls(run, grid, trainer)

    @classmethod
    def resume(cls, run: Run, epochs: int | None, device: torch.device) -> "Session":
        """Go on from the last checkpoint, with a new limit of epochs if one is given.

        No file is written before `train`.

        Raises:
            ToytaskError: the checkpoint is missing, cut, foreign or changed, or the teacher is.
            UsageError: the run cannot have this limit any more.
        """
        _flush_denormals()
        run.create_folders()
        progress, state = checkpoint.read_checkpoint(run)
        recipe = run.config.recipe
        if epochs is not None and epochs != recipe.epochs:
            recipe = replace(recipe, epochs=epochs)
            _check_limit(recipe, progress, run)
            run.config = replace(run.config, recipe=recipe)
        grid = build_grid(recipe)
        lesson = lesson_of(run.config, grid, device)
        model = empty_model(recipe, len(grid.tokenizer)).to(device)
        precision = getattr(torch, run.config.precision)
        trainer = Trainer(recipe, lesson.grid, model, precision, lesson.distribution)
        layout = trainer.state()
        if progress.best_epoch is not None:
            layout |= {f"best.{name}": tensor for name, tensor in model.state_dict().items()}
        with files.reading(run.checkpoint_file, checkpoint.HINT):
            tensor_files.check_layout(state, layout, run.config_file)
        trainer.load_state(progress, state)
        return cls(run, grid, trainer)

    @property
    def is_finished(self) -> bool:
        """Return whether the run is trained to its end and its report is written."""
        return self.trainer.is_over and says_finished(self.run)

    def train(
        self,
        stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int], None] = lambda step: None,
        on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    ) -> dict[str, Any]:
        """Train to the end, or until `stop`; write weights and report, and return the report.

        Raises:
            DivergedError: a loss is no longer a number; the best weights are written even so.
            ToytaskError: another process trains this run, or the system refuses to write; what was
                written before can be resumed.
        """
        try:
            with closing(MetricsLog(self.run.metrics_file)) as log:
                # Remove what a killed process wrote after its last checkpoint.
                log.truncate(self.trainer.progress.epoch)
                self.run.remove_partial_files()
                self.run.write_config()
                return self._train(log, self.trainer.run(stop, on_step), on_epoch)
        except files.WriteError as error:
            resume = f"then go on with `toytask train --resume {self.run.shell_path}`"
            raise ToytaskError(f"{error}, {resume}") from error

    def _train(
        self,
        log: MetricsLog,
        records: Iterator[EpochRecord],
        on_epoch: Callable[[EpochRecord], None],
    ) -> dict[str, Any]:
        """Save whenever the last checkpoint took a small share of the time, and at the end."""
        saved, cost = time.monotonic(), 0.0
        try:
            for record in records:
                log.append(asdict(record))
                on_epoch(record)
                now = time.monotonic()
                if cost < CHECKPOINT_SHARE * (now - saved):
                    self._save_checkpoint(log)
                    saved = time.monotonic()
                    cost = saved - now
        except DivergedError:
            self._save("diverged", log)
            raise
        return self._save(FINISHED if self.trainer.is_over else "interrupted", log)

    def _save_checkpoint(self, log: MetricsLog) -> None:
        checkpoint.write_checkpoint(self.run, *self.trainer.finished, log.sync())

    def _save(self, status: str, log: MetricsLog) -> dict[str, Any]:
        """Write checkpoint, best weights and report; return the report.

        Before the first validation there are no best weights, and the report is not written.
        """
        self._save_checkpoint(log)
        if not self.trainer.best:
            return {"status": status, "epochs": self.trainer.progress.epoch}
        self.run.write_weights(self.trainer.best)
        return self.run.write_report("train", self._report(status))

    def _report(self, status: str) -> dict[str, Any]:
        progress = self.trainer.progress
        records = self.run.read_metrics(progress.epoch)
        best = next(record for record in records if record["epoch"] == progress.best_epoch)
        model = self.run.read_saved_model(self.grid).to(self.trainer.device)
        examples = self.grid.split(self.grid.report_split)
        scores = task_scores(self.grid, examples, score(model, examples))
        return {
            "status": status,
            "epochs": progress.epoch,
            "separate_from": None if progress.phase.name == LEARN else progress.phase.start,
            "best_epoch": progress.best_epoch,
            "seconds": sum(record["seconds"] for record in records),
            "validation": best["validation"],
            "split": self.grid.report_split,
            "tasks": {name: asdict(task) for name, task in scores.items()},
            "definitions": DEFINITIONS,
        }


def says_finished(run: Run) -> bool:
    """Return whether a run has weights, and a report that says that its training has ended."""
    try:
        return run.read_report("train").get("status") == FINISHED
    except ToytaskError:
        return False


def _flush_denormals() -> None:
    """Have the whole process flush denormal numbers; call it before any thread starts.

    The weights of dead neurons decay until they are denormal. Arithmetic on such numbers made an
    epoch of a tiny model take half as long again after 7,000 epochs.
    """
    torch.set_flush_denormal(True)


def _check_limit(recipe: Recipe, progress: Progress, run: Run) -> None:
    """Raise a UsageError if the run cannot have the recipe's limit of epochs any more."""
    if progress.phase.name == SEPARATE:
        raise UsageError(
            f"{run.path} has begun to separate: its epochs are settled; train anew with --epochs"
        )
    least = progress.epoch + recipe.separate_epochs
    if recipe.epochs < least:
        raise UsageError(
            f"epochs is {recipe.epochs}: must be {least} or more, for {run.path} has done "
            f"{progress.epoch} and separates for {recipe.separate_epochs}"
        )
