"""A run: epoch after epoch through both phases, the best weights kept, exact to resume."""

import math
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError
from toytask_cli.model import Transformer
from toytask_cli.objective import Terms
from toytask_cli.recipe import Recipe
from toytask_cli.rng import generator
from toytask_cli.training.engine import Engine, Validation
from toytask_cli.training.replay import cuda_graph
from toytask_cli.training.schedule import LEARN, Phase, is_over, next_phase

# Small enough for activations to stay in a processor's cache; on a GPU, few launches.
VALIDATION_BATCH = {"cpu": 1024, "cuda": 8192, "mps": 8192}


class DivergedError(ToytaskError):
    """A loss that is no number any more."""


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch; a line of metrics.jsonl. Losses are means, in nats where CE."""

    epoch: int  # from 1
    phase: str
    rate: float  # of the epoch's last step
    seconds: float  # training and validation
    train: dict[str, float]  # the loss and its terms, averaged over the epoch's steps
    validation: dict[str, Any] | None  # terms, accuracy per task, l0, dead_neurons
    best: bool  # whether these are the best weights of the phase so far


@dataclass(frozen=True)
class Progress:
    """Where a run stands; with the tensors of `Trainer.state`, all that resuming needs."""

    epoch: int  # finished epochs
    phase: Phase
    best_epoch: int | None  # within the phase
    best_loss: float | None


class Trainer:
    """Trains a model by the recipe and keeps the best weights.

    `finished` holds the state at the last finished epoch, what a checkpoint should save.

    The best weights are those of the lowest validation loss *of the phase*, its β and α included,
    within the last phase that was reached. In the second phase cross-entropy alone would prefer the
    first epochs, before the tasks have come apart; the whole loss prefers the end.

    Args:
        recipe: what to do.
        grid: the examples.
        model: on the device already, with the weights to start from; it stays as it is.
        precision: the type that matrix products are taken in.
    """

    def __init__(self, recipe: Recipe, grid: Grid, model: Transformer, precision: torch.dtype):
        self.device = next(model.parameters()).device
        self.recipe = recipe
        self.tasks = grid.task_names
        self.train = grid.split("train").to(self.device)
        validation = grid.split("validation").batches(VALIDATION_BATCH[self.device.type])
        self.validation = [batch.cut().to(self.device) for batch in validation]
        record = cuda_graph if self.device.type == "cuda" else None
        self.engine = Engine(recipe, model, len(self.tasks), precision, record)
        self.draw = generator(recipe.seed, "batches")
        self.progress = Progress(0, Phase(LEARN, 0), None, None)
        self.best: dict[str, Tensor] = {}
        self.steps_per_epoch = -(-len(self.train) // recipe.batch_size)
        self.finished = (self.progress, self.state())

    @property
    def is_over(self) -> bool:
        """Whether the recipe has been followed to its end."""
        return is_over(self.progress.phase, self.progress.epoch, self.recipe)

    def run(
        self,
        stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int], None] = lambda step: None,
    ) -> Iterator[EpochRecord]:
        """Trains to the end of the recipe, one record an epoch.

        Args:
            stop: asked after each step; once true, the state goes back to the last finished epoch
                and the run ends there.
            on_step: told the number of finished steps of the epoch.

        Raises:
            DivergedError: a term of the loss is no number any more; the state is then that of the
                last finished epoch.
        """
        self._enter_phase([])
        while not self.is_over:
            started = time.perf_counter()
            sums = self._train_epoch(stop, on_step)
            if sums is None:
                self.load_state(*self.finished)
                return
            yield self._finish_epoch(sums, started)

    def _train_epoch(
        self, stop: Callable[[], bool], on_step: Callable[[int], None]
    ) -> Tensor | None:
        """[5] the terms summed over the epoch's steps, or None if told to stop."""
        order = torch.randperm(len(self.train), generator=self.draw).to(self.device)
        batches = self.train[order].batches(self.recipe.batch_size)
        coefficients = self.progress.phase.coefficients(self.recipe)
        sums = torch.zeros(len(Terms._fields), device=self.device)
        for step, batch in enumerate(batches):
            sums += self.engine.step(batch, self._rate(step), coefficients)
            on_step(step + 1)
            if stop():
                return None
        return sums

    def _rate(self, step: int) -> float:
        """The learning rate at a step of the epoch that is under way."""
        done = (self.progress.epoch - self.progress.phase.start) * self.steps_per_epoch
        return self.progress.phase.rate(self.recipe, done + step, self.steps_per_epoch)

    def _finish_epoch(self, sums: Tensor, started: float) -> EpochRecord:
        """Validates, keeps the weights if they are the best, and moves to the next phase."""
        phase, rate = self.progress.phase, self._rate(self.steps_per_epoch - 1)
        self.progress = replace(self.progress, epoch=self.progress.epoch + 1)
        epoch = self.progress.epoch
        means, validation = self._read(sums / self.steps_per_epoch)
        self._refuse_to_diverge(means, "")
        best = False
        if validation:
            self._refuse_to_diverge(validation.terms, " on validation")
            best = self._keep_if_best(validation.terms["loss"])
        record = EpochRecord(
            epoch=epoch,
            phase=phase.name,
            rate=rate,
            seconds=time.perf_counter() - started,
            train=means,
            validation=self._summary(validation),
            best=best,
        )
        self._enter_phase(validation.accuracy if validation else [])
        self.finished = (self.progress, self.state())
        return record

    def _read(self, means: Tensor) -> tuple[dict[str, float], Validation | None]:
        """The epoch's mean terms [5] by name, and validation where it is due.

        Both are read back together: the one time in an epoch that the device is waited for.
        """
        phase, epoch, found = self.progress.phase, self.progress.epoch, [means]
        if epoch % self.recipe.validate_every == 0 or epoch == phase.last_epoch(self.recipe):
            coefficients = phase.coefficients(self.recipe)
            found.append(self.engine.validate(self.validation, coefficients))
        numbers = torch.cat(found).tolist()
        terms, rest = numbers[: len(means)], numbers[len(means) :]
        return dict(zip(Terms._fields, terms, strict=True)), Validation.of(rest) if rest else None

    def _refuse_to_diverge(self, terms: dict[str, float], where: str) -> None:
        """Goes back to the last finished epoch and raises if a term is no number any more."""
        broken = [name for name, value in terms.items() if not math.isfinite(value)]
        if broken:
            epoch = self.progress.epoch
            self.load_state(*self.finished)
            kept = f"the best weights, of epoch {self.progress.best_epoch}, are kept; "
            raise DivergedError(
                f"the loss is no longer a number{where} in epoch {epoch} ({', '.join(broken)}): "
                f"{kept if self.best else ''}try a lower --lr"
            )

    def _keep_if_best(self, loss: float) -> bool:
        if self.progress.best_loss is not None and not loss < self.progress.best_loss:
            return False
        self.progress = replace(self.progress, best_loss=loss, best_epoch=self.progress.epoch)
        self.best = self.engine.weights.copy()
        return True

    def _enter_phase(self, accuracies: list[float]) -> None:
        """Moves to the second phase if it is time, where losses start to be compared anew."""
        phase = next_phase(self.progress.phase, self.progress.epoch, self.recipe, accuracies)
        if phase != self.progress.phase:
            self.progress = replace(self.progress, phase=phase, best_loss=None)

    def _summary(self, validation: Validation | None) -> dict[str, Any] | None:
        if validation is None:
            return None
        return {
            **validation.terms,
            "accuracy": dict(zip(self.tasks, validation.accuracy, strict=True)),
            "l0": validation.l0,
            "dead_neurons": validation.dead_neurons,
        }

    def state(self) -> dict[str, Tensor]:
        """Weights, optimiser, best weights and the generator's state, as flat named copies."""
        best = {f"best.{name}": tensor.clone() for name, tensor in self.best.items()}
        return self.engine.state() | best | {"generator": self.draw.get_state()}

    def load_state(self, progress: Progress, state: dict[str, Tensor]) -> None:
        """Goes back to where `progress` and `state` were taken; what follows is the same again."""
        self.progress = progress
        self.engine.load_state(state)
        self.draw.set_state(state["generator"].cpu())
        self.best = {
            name.removeprefix("best."): tensor.clone()
            for name, tensor in state.items()
            if name.startswith("best.")
        }
        self.finished = (progress, state)
