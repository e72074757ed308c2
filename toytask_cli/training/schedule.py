"""The two phases of a run: when each ends, and the learning rate within it.

*Learn*: constant rate after a warm-up, β off, until validation says that every task is learnt, or
until just enough epochs are left for the second phase. *Separate*: β on, α raised, the rate falling
linearly to zero. With the larger α, x has little outside the reconstruction by which a removed task
could be written. A second phase that begins before sums have generalised freezes the run there.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from toytask_cli.objective import Coefficients
from toytask_cli.recipe import Recipe

LEARN, SEPARATE = "learn", "separate"


@dataclass(frozen=True)
class Phase:
    """A phase of one run."""

    name: str
    start: int  # number of epochs finished before it

    def last_epoch(self, recipe: Recipe) -> int:
        """Return the latest epoch at which this phase can end."""
        if self.name == LEARN:
            return max(0, recipe.epochs - recipe.separate_epochs)
        return min(recipe.epochs, self.start + recipe.separate_epochs)

    def coefficients(self, recipe: Recipe) -> Coefficients:
        """Return the coefficients of the loss in this phase."""
        if self.name == LEARN:
            return Coefficients(recipe.alpha, 0.0)
        return Coefficients(recipe.separate_alpha, recipe.beta)

    def rate(self, recipe: Recipe, step: int, steps_per_epoch: int) -> float:
        """Return the learning rate at a step, counted from 0 at the phase's start."""
        if self.name == LEARN:
            return recipe.lr * min(1.0, (step + 1) / max(1, recipe.warmup_steps))
        steps = (self.last_epoch(recipe) - self.start) * steps_per_epoch
        return recipe.lr * (1 - step / steps)


def next_phase(phase: Phase, epoch: int, recipe: Recipe, accuracies: Iterable[float]) -> Phase:
    """Return the phase after `epoch` finished epochs, given each task's validation accuracy."""
    if phase.name == SEPARATE or recipe.separate_epochs == 0:
        return phase
    learnt = min(accuracies, default=0.0) >= recipe.learnt_accuracy
    if learnt or epoch >= phase.last_epoch(recipe):
        return Phase(SEPARATE, epoch)
    return phase


def is_over(phase: Phase, epoch: int, recipe: Recipe) -> bool:
    """Return whether a run in this phase is finished after `epoch` epochs."""
    another_follows = phase.name == LEARN and recipe.separate_epochs > 0
    return not another_follows and epoch >= phase.last_epoch(recipe)
