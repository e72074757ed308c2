"""The two phases of a run: when each ends, and the learning rate within it.

*Learn*: constant rate after a warm-up, β off, until validation says that every task is learnt, or
until just enough epochs are left for the second phase. *Separate*: β on, α raised, the rate falling
linearly to zero. β silences most neurons at first; with α as before, one of four tasks can end with
too few to be written from the reconstruction alone. Starting the second phase before sums have
generalised freezes the run there.
"""

from collections.abc import Iterable
from dataclasses import dataclass

from toytask_cli.objective import Coefficients
from toytask_cli.recipe import Recipe

LEARN, SEPARATE = "learn", "separate"


@dataclass(frozen=True)
class Phase:
    """A phase of one run, and how many epochs had been done when it began."""

    name: str
    start: int

    def last_epoch(self, recipe: Recipe) -> int:
        """The epoch at which this phase ends at the latest."""
        if self.name == LEARN:
            return max(0, recipe.epochs - recipe.separate_epochs)
        return min(recipe.epochs, self.start + recipe.separate_epochs)

    def coefficients(self, recipe: Recipe) -> Coefficients:
        """Those of the loss in this phase."""
        if self.name == LEARN:
            return Coefficients(recipe.alpha, recipe.lambda_, 0.0)
        return Coefficients(recipe.separate_alpha, recipe.lambda_, recipe.beta)

    def rate(self, recipe: Recipe, step: int, steps_per_epoch: int) -> float:
        """The learning rate at a step counted from the phase's start, from 0."""
        if self.name == LEARN:
            return recipe.lr * min(1.0, (step + 1) / max(1, recipe.warmup_steps))
        steps = (self.last_epoch(recipe) - self.start) * steps_per_epoch
        return recipe.lr * (1 - step / steps)


def next_phase(phase: Phase, epoch: int, recipe: Recipe, accuracies: Iterable[float]) -> Phase:
    """The phase after `epoch` finished epochs, given each task's accuracy on validation."""
    if phase.name == SEPARATE or recipe.separate_epochs == 0:
        return phase
    learnt = min(accuracies, default=0.0) >= recipe.learnt_accuracy
    if learnt or epoch >= phase.last_epoch(recipe):
        return Phase(SEPARATE, epoch)
    return phase


def is_over(phase: Phase, epoch: int, recipe: Recipe) -> bool:
    """Whether a run in this phase is finished after `epoch` epochs."""
    another_follows = phase.name == LEARN and recipe.separate_epochs > 0
    return not another_follows and epoch >= phase.last_epoch(recipe)
