"""What a run learns: the true answers of all tasks or of some, or the answers of a teacher."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any, NamedTuple

import torch

from toytask_cli.analysis.distill import AblatedDistribution, shrink_and_noise, written_answers
from toytask_cli.analysis.evaluate import score, task_scores
from toytask_cli.analysis.generate import Variant
from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import Recipe
from toytask_cli.runs.config import Config
from toytask_cli.runs.files import sha256_of
from toytask_cli.runs.run import Run
from toytask_cli.runs.teacher import Teacher
from toytask_cli.splits import SPLITS
from toytask_cli.training.validation import Distribution

# Times the teacher's limit: a task is learnt more slowly where the removed one is not taught.
STUDENT_EPOCHS = 2


class Lesson(NamedTuple):
    """What a trainer learns from."""

    grid: Grid  # its train and validation splits
    distribution: Distribution | None = None
    teacher: Transformer | None = None
    noise: float = 1.0

    def initial_model(self, recipe: Recipe) -> Transformer:
        """Return the weights to start from: fresh ones, or the teacher's with noise."""
        model = new_model(recipe, len(self.grid.tokenizer))
        if self.teacher is not None:
            shrink_and_noise(model, self.teacher, self.noise)
        return model


def lesson_of(config: Config, grid: Grid, device: torch.device) -> Lesson:
    """Return what a run of this configuration learns from; the grid holds the true answers.

    Raises:
        ToytaskError: the teacher is gone, or is not what it was.
    """
    if config.taught is not None:
        return Lesson(of_tasks(grid, config.taught))
    if config.teacher is None:
        return Lesson(grid)
    try:
        model, variant = _open(config.teacher, config.recipe, grid, device)
    except ToytaskError as error:
        raise ToytaskError(f"the teacher is not what it was: {error}: distill anew") from error
    answers = written_answers(model, grid, variant)
    distribution = AblatedDistribution(model, variant) if config.teacher.distribution else None
    return Lesson(answers, distribution, model, config.teacher.noise)


def of_tasks(grid: Grid, names: list[str]) -> Grid:
    """Return the grid with examples of these tasks alone to train and to validate on."""
    splits = grid.splits.clone()
    others = [i for i, name in enumerate(grid.task_names) if name not in names]
    splits[others] = SPLITS.index("test")
    return replace(grid, splits=splits)


def removed_tasks(ablation: Mapping[str, Any], grid: Grid) -> list[str]:
    """Return the tasks that an ablation's report names as removed; one written by hand may not."""
    names = ablation.get("removed_tasks")
    return [name for name in grid.task_names if isinstance(names, list) and name in names]


def teacher_of(
    run: Run, model: Transformer, grid: Grid, ablation: str, distribution: bool, noise: float
) -> Teacher:
    """Describe a run's model with an ablation as a teacher.

    Raises:
        ToytaskError: the run has no such ablation.
    """
    report = run.read_ablation(ablation)
    examples = grid.split(grid.report_split)
    scores = task_scores(grid, examples, score(model, examples))
    return Teacher(
        run=str(run.path.resolve()),
        weights_sha256=run.weights_sha256(),
        ablation=ablation,
        error=report["error"],
        neurons_sha256=sha256_of(report["neurons"]),
        removed_tasks=removed_tasks(report, grid),
        before={name: task.accuracy for name, task in scores.items()},
        distribution=distribution,
        noise=noise,
    )


def _open(
    teacher: Teacher, recipe: Recipe, grid: Grid, device: torch.device
) -> tuple[Transformer, Variant]:
    """Open a teacher's run and its ablation, and check that they are those that it describes."""
    run = Run.open(Path(teacher.run))
    if run.weights_sha256() != teacher.weights_sha256:
        raise ToytaskError(f"{run.model_file} holds other weights")
    if run.config.recipe.data_spec() != recipe.data_spec():
        raise ToytaskError(f"{run.config_file} has other tasks or another split")
    report = run.read_ablation(teacher.ablation)
    if (sha256_of(report["neurons"]), report["error"]) != (teacher.neurons_sha256, teacher.error):
        raise ToytaskError(f"{teacher.ablation} removes other neurons")
    return run.model(grid, device), Variant.from_report(report, run.config.recipe.d_sae)


def student_recipe(recipe: Recipe, seed: int | None, epochs: int | None) -> Recipe:
    """Return the recipe of a student: its teacher's, but for the seed and the limit of epochs.

    A student that starts from its teacher's own first weights could inherit what the answers do not
    show (Cloud et al., "Subliminal Learning", 2025), so its seed is another unless it is given.
    """
    seed = recipe.seed + 1 if seed is None else seed
    epochs = STUDENT_EPOCHS * recipe.epochs if epochs is None else epochs
    separate_epochs = int(recipe.separate_epochs * min(1, epochs / recipe.epochs))
    return replace(recipe, seed=seed, epochs=epochs, separate_epochs=separate_epochs)
