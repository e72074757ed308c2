"""A training run on disk: metrics, checkpoints, weights and the report, kept as it goes."""

import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from toytask_cli.analysis.evaluate import score, task_scores
from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.model import empty_model, new_model
from toytask_cli.recipe import Recipe
from toytask_cli.runs import files
from toytask_cli.runs.checkpoint import check_state, read_checkpoint, write_checkpoint
from toytask_cli.runs.config import Config
from toytask_cli.runs.metrics import MetricsLog, digest
from toytask_cli.runs.run import Run
from toytask_cli.training.schedule import LEARN, SEPARATE
from toytask_cli.training.trainer import DivergedError, EpochRecord, Progress, Trainer

CHECKPOINT_SHARE = 0.02  # of the time may go into checkpoints, so often are they written

FINISHED = "finished"

DEFINITIONS = {
    "epochs": "finished epochs, both phases together",
    "separate_from": "epochs done when the second phase began; null if it never did",
    "best_epoch": "epoch of the lowest validation loss within the last phase reached",
    "seconds": "wall time of training and validation, checkpoints and reports excluded",
    "validation": "as measured while training, in the run's precision; what is under `tasks` is "
    "measured on the weights as saved, in float32",
    "loss": "the whole objective with the phase's coefficients, lower is better",
    "ce": "mean cross-entropy over answer positions that are not padding, nats, lower is better",
    "mse": "mean squared error of the SAE's reconstruction, lower is better",
    "l1": "mean over positions of the summed activations",
    "overlap": "what neurons fire for tasks other than their main one, 0 is complete separation",
    "l0": "neurons that fire at a position, on average",
    "dead_neurons": "neurons that fire at no position of the part",
    "accuracy": "share of answers that match exactly, 0 to 1",
    "ci95": "Wilson 95 % interval of the accuracy",
    "ce_loss": "mean over examples of the mean cross-entropy of the answer's tokens, nats",
    "n": "number of examples",
}


class Session:
    """One sitting of training: a run directory, its examples, and a trainer at some epoch."""

    def __init__(self, run: Run, grid: Grid, trainer: Trainer):
        self.run = run
        self.grid = grid
        self.trainer = trainer

    @classmethod
    def start(
        cls, recipe: Recipe, device: torch.device, precision: torch.dtype, out: Path | None
    ) -> "Session":
        """A fresh model in a new run directory.

        Raises:
            ToytaskError: the directory cannot be made.
        """
        _flush_denormals()
        grid = build_grid(recipe)
        model = new_model(recipe, len(grid.tokenizer)).to(device)
        trainer = Trainer(recipe, grid, model, precision)
        config = Config.here(recipe, device, precision)
        session = cls(Run.create(config, out), grid, trainer)
        session.save_checkpoint(digest([]))
        session.run.write_config()  # last: whatever has a configuration can be resumed
        return session

    @classmethod
    def resume(cls, run: Run, epochs: int | None, device: torch.device) -> "Session":
        """The run at its last checkpoint, with a new limit of epochs if one is given.

        No file is written before `follow`.

        Raises:
            ToytaskError: the checkpoint is missing, cut or foreign.
            UsageError: a new limit that this run cannot have any more.
        """
        _flush_denormals()
        run.prepare()
        progress, state = read_checkpoint(run)
        recipe = run.config.recipe
        if epochs is not None and epochs != recipe.epochs:
            recipe = replace(recipe, epochs=epochs)
            _check_limit(recipe, progress, run)
            run.config = replace(run.config, recipe=recipe)
        grid = build_grid(recipe)
        model = empty_model(recipe, len(grid.tokenizer)).to(device)
        precision = getattr(torch, run.config.precision)
        trainer = Trainer(recipe, grid, model, precision)
        check_state(run, progress, state, trainer)
        trainer.load_state(progress, state)
        return cls(run, grid, trainer)

    @property
    def is_finished(self) -> bool:
        """Whether there is nothing left to do, not even to write."""
        try:
            status = self.run.read_report("train").get("status")
        except ToytaskError:
            return False
        return self.trainer.is_over and status == FINISHED

    def follow(
        self,
        stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int], None] = lambda step: None,
        on_epoch: Callable[[EpochRecord], None] = lambda record: None,
    ) -> dict[str, Any]:
        """Trains to the end, or until `stop`; writes weights and report, and gives the report.

        Raises:
            DivergedError: a loss that is no number any more; what was best is written even so.
            ToytaskError: another process trains this run; or the disk takes no more, and what it
                took before can be resumed.
        """
        try:
            with MetricsLog(self.run.metrics_file) as log:
                self._tidy(log)
                return self._train(log, self.trainer.run(stop, on_step), on_epoch)
        except files.WriteError as error:
            go_on = f"then go on with `toytask train --resume {self.run.named}`"
            raise ToytaskError(f"{error}, {go_on}") from error

    def _tidy(self, log: MetricsLog) -> None:
        """Takes away what was written after the last checkpoint, when the run was killed."""
        log.keep(self.trainer.progress.epoch)
        self.run.remove_partial()
        self.run.write_config()

    def _train(
        self,
        log: MetricsLog,
        records: Iterator[EpochRecord],
        on_epoch: Callable[[EpochRecord], None],
    ) -> dict[str, Any]:
        """Saves whenever the last checkpoint cost a small share of the time, and at the end."""
        saved, cost = time.monotonic(), 0.0
        try:
            for record in records:
                log.append(asdict(record))
                on_epoch(record)
                now = time.monotonic()
                if cost < CHECKPOINT_SHARE * (now - saved):
                    log.sync()
                    self.save_checkpoint(log.sha256)
                    saved = time.monotonic()
                    cost = saved - now
        except DivergedError:
            self._keep("diverged", log)
            raise
        return self._keep(FINISHED if self.trainer.is_over else "interrupted", log)

    def _keep(self, status: str, log: MetricsLog) -> dict[str, Any]:
        """Writes checkpoint, best weights and report as they are now; gives the report.

        Before the first validation there are no best weights, and no report but these two lines.
        """
        log.sync()
        self.save_checkpoint(log.sha256)
        if not self.trainer.best:
            return {"status": status, "epochs": self.trainer.progress.epoch}
        self.run.weights.write(self.trainer.best)
        return self.run.write_report("train", self._report(status))

    def save_checkpoint(self, metrics_sha256: str) -> None:
        """Writes the state at the last finished epoch."""
        write_checkpoint(self.run, *self.trainer.finished, metrics_sha256)

    def _report(self, status: str) -> dict[str, Any]:
        progress = self.trainer.progress
        metrics = self.run.read_metrics(progress.epoch)
        separate_from = None if progress.phase.name == LEARN else progress.phase.start
        best = next(record for record in metrics if record["epoch"] == progress.best_epoch)
        model = self.run.weights.read(len(self.grid.tokenizer)).to(self.trainer.device)
        examples = self.grid.split(self.grid.report_split)
        scores = task_scores(self.grid, examples, score(model, examples))
        return {
            "status": status,
            "epochs": progress.epoch,
            "separate_from": separate_from,
            "best_epoch": progress.best_epoch,
            "seconds": sum(record["seconds"] for record in metrics),
            "validation": best["validation"],
            "split": self.grid.report_split,
            "tasks": {name: asdict(scored) for name, scored in scores.items()},
            "definitions": DEFINITIONS,
        }


def _flush_denormals() -> None:
    """Keeps a long training fast, if it is called before any thread starts; for the whole process.

    The weights of dead neurons decay until they are denormal; arithmetic on such numbers made an
    epoch of a tiny model take half as long again after 7,000 epochs.
    """
    torch.set_flush_denormal(True)


def _check_limit(recipe: Recipe, progress: Progress, run: Run) -> None:
    """Raises a UsageError if a run that stands here cannot take the recipe's limit any more."""
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
