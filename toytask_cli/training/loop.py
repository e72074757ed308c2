"""A run: epoch after epoch through both phases, the best weights kept, exact to resume."""

import math
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any

import torch
from torch import Tensor

from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError
from toytask_cli.model import Transformer
from toytask_cli.objective import LOSS_TERMS
from toytask_cli.recipe import Recipe
from toytask_cli.rng import generator
from toytask_cli.training.cuda_graphs import capture
from toytask_cli.training.schedule import LEARN, Phase, is_over, next_phase
from toytask_cli.training.step import Engine
from toytask_cli.training.validation import Distribution
from toytask_cli.training.workers import Workers

# Small enough for activations to stay in a processor's cache; on a GPU, few launches.
VALIDATION_BATCH = {"cpu": 1024, "cuda": 8192, "mps": 8192}


class DivergedError(ToytaskError):
    """A loss that is no longer a number."""


@dataclass(frozen=True)
class EpochRecord:
    """One finished epoch; a line of metrics.jsonl."""

    epoch: int  # from 1
    phase: str
    rate: float  # of the epoch's last step
    seconds: float  # training and validation
    train: dict[str, float]  # `LOSS_TERMS`, averaged over the epoch's steps
    validation: dict[str, Any] | None  # `LOSS_TERMS` and `EPOCH_METRICS`
    best: bool  # whether these are the best weights of the phase so far


@dataclass(frozen=True)
class Progress:
    """The position of a run; with the tensors of `Trainer.state`, all that resuming needs."""

    epoch: int  # finished epochs
    phase: Phase
    best_epoch: int | None  # within the phase
    best_loss: float | None


class Trainer:
    """Trains a model by the recipe and keeps the best weights.

    The best weights are those of the lowest validation loss *of the phase*, its β and α included,
    within the last phase that was reached. In the second phase cross-entropy alone would prefer the
    first epochs, before the tasks have come apart; the whole loss prefers the end.

    Attributes:
        finished: progress and state at the last finished epoch, which a checkpoint saves.
        best: the best weights by name; empty before the first validation.

    Args:
        recipe: what to do.
        grid: the examples; a task may have none to train on.
        model: the initial weights, on the device; it stays as it is.
        precision: type of matrix products.
        teacher: gives the probabilities to learn; None to learn the answers' tokens.
    """

    def __init__(
        self,
        recipe: Recipe,
        grid: Grid,
        model: Transformer,
        precision: torch.dtype,
        teacher: Distribution | None = None,
    ):
        self.device = next(model.parameters()).device
        self.recipe = recipe
        self.train = grid.split("train").to(self.device)
        # The tasks that are taught, by their index.
        self.tasks = {i: grid.task_names[i] for i in self.train.tasks.unique().tolist()}
        validation = grid.split("validation").batches(VALIDATION_BATCH[self.device.type])
        self.validation = [batch.cut().to(self.device) for batch in validation]
        graphs = capture if self.device.type == "cuda" else None
        workers = Workers.for_batches(recipe.batch_size, self.device)
        self.engine = Engine(recipe, model, len(grid.tasks), precision, graphs, workers, teacher)
        self.draw = generator(recipe.seed, "batches")
        self.progress = Progress(0, Phase(LEARN, 0), None, None)
        self.best: dict[str, Tensor] = {}
        self.steps_per_epoch = -(-len(self.train) // recipe.batch_size)
        self.finished = (self.progress, self.state())

    @property
    def is_over(self) -> bool:
        """Return whether the recipe has been followed to its end."""
        return is_over(self.progress.phase, self.progress.epoch, self.recipe)

    def run(
        self,
        stop: Callable[[], bool] = lambda: False,
        on_step: Callable[[int], None] = lambda step: None,
    ) -> Iterator[EpochRecord]:
        """Train to the end of the recipe, one record an epoch.

        Args:
            stop: asked after each step; once it is true, the state returns to the last finished
                epoch and the run ends there.
            on_step: called with the number of finished steps of the epoch.

        Raises:
            DivergedError: a term of the loss is no longer a number; the state is then that of the
                last finished epoch.
        """
        self._enter_phase([])
        while not self.is_over:
            started = time.perf_counter()
            means = self._train_epoch(stop, on_step)
            if means is None:
                self.load_state(*self.finished)
                return
            yield self._finish_epoch(means, started)

    def _train_epoch(
        self, stop: Callable[[], bool], on_step: Callable[[int], None]
    ) -> dict[str, Tensor] | None:
        """Return the loss terms averaged over the epoch's steps, or None if told to stop."""
        order = torch.randperm(len(self.train), generator=self.draw).to(self.device)
        coefficients = self.progress.phase.coefficients(self.recipe)
        sums = {name: torch.zeros((), device=self.device) for name in LOSS_TERMS}
        batches = self.train[order].batches(self.recipe.batch_size)
        for step, batch in enumerate(batches):
            terms = self.engine.step(batch, self._rate(step), coefficients)
            torch._foreach_add_(list(sums.values()), [terms[name] for name in sums])
            on_step(step + 1)
            if stop():
                return None
        return {name: total / self.steps_per_epoch for name, total in sums.items()}

    def _rate(self, step: int) -> float:
        """Return the learning rate at a step of the present epoch."""
        done = (self.progress.epoch - self.progress.phase.start) * self.steps_per_epoch
        return self.progress.phase.rate(self.recipe, done + step, self.steps_per_epoch)

    def _finish_epoch(self, means: dict[str, Tensor], started: float) -> EpochRecord:
        """Validate, keep the weights if they are the best, and enter the next phase if due."""
        phase, rate = self.progress.phase, self._rate(self.steps_per_epoch - 1)
        epoch = self.progress.epoch + 1
        self.progress = replace(self.progress, epoch=epoch)
        metrics = self._validate() if self._validation_is_due() else {}
        train, validation = read_back(means, metrics)  # waits for the device, once an epoch
        self._check_finite(train, "")
        self._check_finite(validation, " on validation")
        if validation:
            accuracy = validation["accuracy"]
            validation["accuracy"] = {name: accuracy[i] for i, name in self.tasks.items()}
        record = EpochRecord(
            epoch=epoch,
            phase=phase.name,
            rate=rate,
            seconds=time.perf_counter() - started,
            train=train,
            validation=validation or None,
            best=bool(validation) and self._keep_if_best(validation["loss"]),
        )
        self._enter_phase(validation["accuracy"].values() if validation else [])
        self.finished = (self.progress, self.state())
        return record

    def _validation_is_due(self) -> bool:
        epoch, last = self.progress.epoch, self.progress.phase.last_epoch(self.recipe)
        return epoch % self.recipe.validate_every == 0 or epoch == last

    def _validate(self) -> dict[str, Tensor]:
        return self.engine.validate(self.validation, self.progress.phase.coefficients(self.recipe))

    def _check_finite(self, values: Mapping[str, Any], where: str) -> None:
        """Return to the last finished epoch and raise if a loss term is no longer a number."""
        broken = [name for name in LOSS_TERMS if not math.isfinite(values.get(name, 0.0))]
        if broken:
            epoch = self.progress.epoch
            self.load_state(*self.finished)
            best = f"the best weights, of epoch {self.progress.best_epoch}, are kept; "
            raise DivergedError(
                f"the loss is no longer a number{where} in epoch {epoch} ({', '.join(broken)}): "
                f"{best if self.best else ''}try a lower --lr"
            )

    def _keep_if_best(self, loss: float) -> bool:
        if self.progress.best_loss is not None and not loss < self.progress.best_loss:
            return False
        self.progress = replace(self.progress, best_loss=loss, best_epoch=self.progress.epoch)
        self.best = self.engine.weights.state_dict()
        return True

    def _enter_phase(self, accuracies: Iterable[float]) -> None:
        """Enter the second phase if it is due; its losses are compared among themselves."""
        phase = next_phase(self.progress.phase, self.progress.epoch, self.recipe, accuracies)
        if phase != self.progress.phase:
            self.progress = replace(self.progress, phase=phase, best_loss=None)

    def state(self) -> dict[str, Tensor]:
        """Return copies of weights, optimiser, best weights and random state, by flat names."""
        best = {f"best.{name}": tensor.clone() for name, tensor in self.best.items()}
        return self.engine.state() | best | {"generator": self.draw.get_state()}

    def load_state(self, progress: Progress, state: dict[str, Tensor]) -> None:
        """Restore a progress and its state; what follows is the same, to the byte on a CPU."""
        self.progress = progress
        self.engine.load_state(state)
        self.draw.set_state(state["generator"].cpu())
        self.best = {
            name.removeprefix("best."): tensor.clone()
            for name, tensor in state.items()
            if name.startswith("best.")
        }
        self.finished = (progress, state)


def read_back(*groups: Mapping[str, Tensor]) -> list[dict[str, Any]]:
    """Copy named tensors to the CPU in a single transfer.

    Returns:
        For each group, by name, a number for a tensor [] and a list of numbers for one [n].
    """
    tensors = [tensor for group in groups for tensor in group.values()]
    numbers = iter(torch.cat([tensor.flatten().float() for tensor in tensors]).tolist())

    def convert(tensor: Tensor) -> Any:
        values = [next(numbers) for _ in range(tensor.numel())]
        values = values if tensor.is_floating_point() else [int(value) for value in values]
        return values if tensor.dim() else values[0]

    return [{name: convert(tensor) for name, tensor in group.items()} for group in groups]
