"""What an attack on a run needs: the tasks to bring back, and a control that never knew them.

A control is a run of the same recipe that is taught the kept tasks alone. It is an ordinary run
inside the run that it belongs to, and is trained once.
"""

from collections.abc import Sequence
from dataclasses import fields, replace

import torch

from toytask_cli.analysis.matched_pairs import KNOWN
from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError, UsageError, unknown_choice
from toytask_cli.recipe import Recipe
from toytask_cli.runs.lessons import removed_tasks
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session
from toytask_cli.valid import key_of

# Times the run's limit: a task alone has fewer steps in an epoch, and takes more of them.
CONTROL_EPOCHS = 4
FREE = ("seed", "epochs")  # fields in which a control's recipe may differ from the run's


def tasks_to_attack(run: Run, grid: Grid, ablation: str | None, names: Sequence[str]) -> list[str]:
    """Return the tasks to bring back, in the grid's order.

    Args:
        run: to attack.
        grid: its examples.
        ablation: name of the ablation that is in place, if any.
        names: tasks that were asked for; none for those that the ablation removes, or that of a
            distilled run's teacher.

    Raises:
        UsageError: an unknown task, all tasks, or none is asked for and none is removed.
        ToytaskError: there is no such ablation.
    """
    known = grid.task_names
    for name in names:
        if name not in known:
            raise unknown_choice("task", name, known)
    if not names and ablation is not None:
        names = removed_tasks(run.read_ablation(ablation), grid)
    elif not names and run.config.teacher is not None:
        names = run.config.teacher.removed_tasks
    tasks = [name for name in known if name in names]
    if not tasks:
        raise UsageError("name a task to bring back with --task, or an --ablation that removes one")
    if len(tasks) == len(known):
        raise UsageError("every task is to be brought back: a control needs one that is kept")
    return tasks


def accuracy_before(run: Run, accuracy: dict[str, float], tasks: Sequence[str]) -> dict[str, float]:
    """Return the accuracy of each of these tasks that an attack is to bring back.

    Args:
        run: to attack.
        accuracy: of its model without any ablation, by task. What a distilled run should have lost
            is its teacher's.
        tasks: the tasks to bring back.

    Raises:
        ToytaskError: the model never knew one of them.
    """
    if run.config.teacher is not None:
        accuracy = accuracy | run.config.teacher.before
    for task in tasks:
        if accuracy[task] < KNOWN:
            raise ToytaskError(
                f"{run.path} never knew {task} ({100 * accuracy[task]:.1f} % right): there is "
                "nothing to bring back; name another --task"
            )
    return {task: accuracy[task] for task in tasks}


def control_session(
    run: Run, kept: list[str], device: torch.device, precision: torch.dtype
) -> Session:
    """Return the session of a run's own control: new, or where its training was left.

    Raises:
        ToytaskError: there is something else in its place, or the control cannot be resumed.
    """
    path = run.control_path(kept)
    if path.exists():
        control = Run.open(path)
        check_control(control, run, kept)
        return Session.resume(control, None, device)
    recipe = run.config.recipe
    recipe = replace(recipe, epochs=CONTROL_EPOCHS * recipe.epochs)
    return Session.start(recipe, device, precision, path, taught=kept)


def check_control(control: Run, run: Run, kept: list[str]) -> None:
    """Raise a ToytaskError unless a run was taught these tasks alone, by the other run's recipe."""
    taught = control.config.taught or list(control.config.recipe.tasks)
    if control.config.teacher or taught != kept:
        raise ToytaskError(
            f"{control.path} was taught {', '.join(taught)}, and this control is taught "
            f"{', '.join(kept)} alone: name another --control, or none to have one trained"
        )
    for field in fields(Recipe):
        mine, other = (getattr(each.config.recipe, field.name) for each in (control, run))
        if mine != other and field.name not in FREE:
            raise ToytaskError(
                f"{control.path} is no control of {run.path}: its {key_of(field.name)} is {mine}, "
                f"where the run's is {other}"
            )
