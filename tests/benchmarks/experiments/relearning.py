"""Is the ability deleted, or only suppressed? How fast a removed task comes back.

    python tests/benchmarks/experiments/relearning.py runs/reference --out figures

Fine-tune on the train split with the task's neurons removed at every step, as in the recipe's first
phase: constant rate after a warm-up, β off. The SAE's error is kept or dropped. The SAE is trained
as well, or frozen, because a removed neuron that learns not to fire takes nothing away from x. The
last course is that of the run itself from fresh weights. Accuracy is exact match on validation with
the neurons removed; they are chosen at tolerance 0.1.
"""

from dataclasses import dataclass, replace
from itertools import product

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from shared import CPU, neurons_by_task, parser, percent, print_table, save
from torch import Tensor

from toytask_cli.analysis.effects import right_without
from toytask_cli.analysis.generate import AS_TRAINED
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.dataset import Grid
from toytask_cli.figures.style import panels, style
from toytask_cli.hooks import ERRORS, ablate_neurons
from toytask_cli.objective import Coefficients
from toytask_cli.runs.run import Run
from toytask_cli.training.loop import Trainer
from toytask_cli.training.schedule import LEARN

SHARES = (0.5, 0.95)  # of the accuracy before the removal


@dataclass(frozen=True)
class Course:
    """The accuracy after some steps of training."""

    label: str
    steps: list[int]  # of gradient descent, ascending
    accuracy: list[list[float]]  # after each of them, of each task


class FineTuning:
    """Training of a run's model with neurons removed.

    Args:
        run: the run whose weights each course starts from.
        grid: its examples.
        limit: largest number of epochs of a course.
    """

    def __init__(self, run: Run, grid: Grid, limit: int):
        self.run = run
        self.grid = grid
        self.recipe = replace(run.config.recipe, epochs=limit, separate_epochs=0)

    def course(self, neurons: Tensor, error: str, sae: str, task: int, goal: float) -> Course:
        """Train until the task is back, and return the accuracies on the way.

        Args:
            neurons: [k] indices.
            error: a key of `ERRORS`.
            sae: `trained` or `frozen`.
            task: index of the task.
            goal: accuracy on validation at which the task is back.
        """
        model = self.run.model(self.grid, CPU)
        model.sae.requires_grad_(sae == "trained")
        trainer = Trainer(self.recipe, self.grid, model, getattr(torch, self.run.config.precision))
        course = Course(f"error {error}, SAE {sae}", [], [])

        def record(step: int) -> None:
            """Record accuracy after every step of the first epoch, and at the end of the others."""
            if trainer.progress.epoch == 0 or step == trainer.steps_per_epoch:
                course.steps.append(trainer.progress.epoch * trainer.steps_per_epoch + step)
                metrics = trainer.engine.validate(trainer.validation, Coefficients(1, 0))
                course.accuracy.append(metrics["accuracy"].tolist())

        with ablate_neurons(trainer.engine.model, neurons, error):
            record(0)
            for _ in trainer.run(lambda: course.accuracy[-1][task] >= goal, record):
                pass
        return course


def from_scratch(run: Run, grid: Grid) -> Course:
    """Return the first phase of the run itself, from its metrics."""
    lines = [m for m in run.read_metrics() if m["phase"] == LEARN and m["validation"]]
    accuracy = [[m["validation"]["accuracy"][task.name] for task in grid.tasks] for m in lines]
    steps_per_epoch = -(-len(grid.split("train")) // run.config.recipe.batch_size)
    return Course(
        "from fresh weights", [line["epoch"] * steps_per_epoch for line in lines], accuracy
    )


def steps_until(course: Course, task: int, goal: float) -> str:
    """Return the first step at which the task's accuracy is at the goal or above."""
    both = zip(course.steps, course.accuracy, strict=True)
    first = next((step for step, accuracy in both if accuracy[task] >= goal), None)
    return f"not in {course.steps[-1]}" if first is None else str(first)


def cells(course: Course, grid: Grid, task: int, before: float) -> list[str]:
    """Return one row of the table."""
    others = [accuracy for i, accuracy in enumerate(course.accuracy[-1]) if i != task]
    start = percent(course.accuracy[0][task]) if course.steps[0] == 0 else "–"
    until = [steps_until(course, task, share * before) for share in SHARES]
    return [grid.tasks[task].name, course.label, start, *until, percent(min(others))]


def draw(courses: list[list[Course]], grid: Grid) -> Figure:
    """Draw the removed task's accuracy over the steps, one panel for each task."""
    with style():
        figure, axes = panels(len(courses))
        for task, (axis, task_courses) in enumerate(zip(axes, courses, strict=True)):
            for course in task_courses:
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
    """Print one row for each course."""
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
        (
            cells(c, grid, task, before[task])
            for task, task_courses in enumerate(courses)
            for c in task_courses
        ),
    )
    if args.out:
        save(draw(courses, grid), args.out, "relearning")


if __name__ == "__main__":
    main()
