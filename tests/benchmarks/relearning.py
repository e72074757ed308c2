"""Is the ability deleted, or only suppressed? How fast a removed task comes back.

    python tests/benchmarks/relearning.py runs/reference --out figures

Fine-tunes on the training part while the task's neurons are held removed at every step, by the
recipe's first phase: constant rate after a warm-up, β off. The SAE's error is kept or dropped; the
SAE is trained as well or frozen, since a removed neuron that may learn not to fire lets x pass as
it was. Beside it, the steps that the run itself took from fresh weights. Accuracy is exact match
on validation with the neurons removed; they are chosen at tolerance 0.1.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from shared import CPU, neurons_by_task, parser, percent, save
from tables import print_table
from torch import Tensor

from toytask_cli.analysis.effects import right_without
from toytask_cli.analysis.generate import AS_TRAINED
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.dataset import Grid
from toytask_cli.figures.style import panels, style
from toytask_cli.hooks import ERRORS, removing
from toytask_cli.objective import Coefficients
from toytask_cli.runs.run import Run
from toytask_cli.training.engine import Validation
from toytask_cli.training.schedule import LEARN
from toytask_cli.training.trainer import Trainer

SHARES = (0.5, 0.95)  # of the accuracy before the removal


@dataclass(frozen=True)
class Course:
    """How accuracy went, from some weights on."""

    label: str
    steps: list[int]  # of gradient descent, ascending
    accuracy: list[list[float]]  # after each of them, of each task


class FineTuning:
    """Trains a run's model with neurons held removed.

    Args:
        run: where the model is; each course starts from its weights.
        grid: its examples.
        limit: epochs of a course at most.
    """

    def __init__(self, run: Run, grid: Grid, limit: int):
        self.run = run
        self.grid = grid
        self.recipe = replace(run.config.recipe, epochs=limit, separate_epochs=0)

    def course(self, neurons: Tensor, error: str, sae: str, task: int, goal: float) -> Course:
        """Until the task is back.

        Args:
            neurons: [k] indices.
            error: a key of `ERRORS`.
            sae: `trained` or `frozen`.
            task: index of the task.
            goal: accuracy on validation at which it is back.
        """
        model = self.run.model(self.grid, CPU)
        model.sae.requires_grad_(sae == "trained")
        trainer = Trainer(self.recipe, self.grid, model, getattr(torch, self.run.config.precision))
        course = Course(f"error {error}, SAE {sae}", [], [])

        def look(step: int) -> None:
            """After every step of the first epoch, and at the end of the others."""
            if trainer.progress.epoch == 0 or step == trainer.steps_per_epoch:
                course.steps.append(trainer.progress.epoch * trainer.steps_per_epoch + step)
                found = trainer.engine.validate(trainer.validation, Coefficients(1, 0, 0))
                course.accuracy.append(Validation.of(found.tolist()).accuracy)

        with removing(trainer.engine.model, neurons, error):
            look(0)
            for _ in trainer.run(lambda: course.accuracy[-1][task] >= goal, look):
                pass
        return course


def from_scratch(run: Run, grid: Grid) -> Course:
    """The first phase of the run itself, nothing removed, from its metrics."""
    lines = [m for m in run.read_metrics() if m["phase"] == LEARN and m["validation"]]
    accuracy = [[m["validation"]["accuracy"][task.name] for task in grid.tasks] for m in lines]
    an_epoch = -(-len(grid.split("train")) // run.config.recipe.batch_size)
    return Course("from fresh weights", [line["epoch"] * an_epoch for line in lines], accuracy)


def steps_until(course: Course, task: int, goal: float) -> str:
    """When the task's accuracy was first seen at the goal or above."""
    both = zip(course.steps, course.accuracy, strict=True)
    first = next((step for step, accuracy in both if accuracy[task] >= goal), None)
    return f"not in {course.steps[-1]}" if first is None else str(first)


def cells(course: Course, grid: Grid, task: int, before: float) -> list[str]:
    """A line of the table."""
    others = [accuracy for i, accuracy in enumerate(course.accuracy[-1]) if i != task]
    start = percent(course.accuracy[0][task]) if course.steps[0] == 0 else "–"
    until = [steps_until(course, task, share * before) for share in SHARES]
    return [grid.tasks[task].name, course.label, start, *until, percent(min(others))]


def draw(courses: list[list[Course]], grid: Grid) -> Figure:
    """Accuracy of the removed task over the steps, one panel a task."""
    with style():
        figure, axes = panels(len(courses))
        for task, (axis, mine) in enumerate(zip(axes, courses, strict=True)):
            for course in mine:
                shares = 100 * np.array(course.accuracy)[:, task]
                axis.plot(course.steps, shares, marker="o", markersize=4, label=course.label)
            axis.set_xscale("symlog", linthresh=1)
            axis.set(title=f"{grid.tasks[task].name} comes back", ylim=(-4, 104))
            axis.set(xlabel="steps of gradient descent", xlim=(0, None))
        axes[0].set_ylabel("exact match on validation (%)")
        axes[-1].legend(fontsize=8)
        sns.despine(figure)
        return figure


def main() -> None:
    """Prints one line a course, as Markdown."""
    options = parser(__doc__)
    options.add_argument("--limit", type=int, default=20, help="epochs of fine-tuning at most")
    args = options.parse_args()
    run = Run.open(args.run)
    grid = run.grid()
    model = run.model(grid, CPU)
    matched = MatchedPairs(model, grid, grid.matched_pairs()[0])
    before = right_without(matched, [AS_TRAINED])[0].double().mean(dim=1).tolist()
    tuning, scratch = FineTuning(run, grid, args.limit), from_scratch(run, grid)
    courses = []
    for task, neurons in enumerate(neurons_by_task(model, grid, run.config.recipe.seed).values()):
        goal = SHARES[-1] * before[task]
        tuned = [
            tuning.course(neurons, error, sae, task, goal)
            for error, sae in product(ERRORS, ("trained", "frozen"))
        ]
        courses.append([*tuned, scratch])
    shares = [f"steps to {100 * share:.0f} % of what it was" for share in SHARES]
    header = ["removed", "fine-tuned", "at the start %", *shares, "least of the kept, at the end %"]
    print_table(
        header,
        (cells(c, grid, task, before[task]) for task, mine in enumerate(courses) for c in mine),
    )
    if args.out:
        save(draw(courses, grid), args.out, "relearning")


if __name__ == "__main__":
    main()
