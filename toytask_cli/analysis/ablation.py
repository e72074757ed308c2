"""Removes a task and measures what is lost and what is kept.

Neurons are chosen on validation pairs; everything in the `test` section is measured on other
pairs. The transformer runs once over each, for all scores, removals, controls and points of the
curve, unless there are too many to keep what it makes (`Matched`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from toytask_cli.analysis.ablation_report import (
    DEFINITIONS,
    KEPT_SHARE,
    Ablation,
    Control,
    CurvePoint,
    Instead,
    PartAccuracy,
    ReportAccuracy,
)
from toytask_cli.analysis.control import random_sets
from toytask_cli.analysis.error_types import count_error_types
from toytask_cli.analysis.evaluation import Accuracy, wrong_answers
from toytask_cli.analysis.importance import ImportanceTensors, NeuronScores, joint_effect
from toytask_cli.analysis.matched import Matched
from toytask_cli.analysis.removal import AS_TRAINED, right_without
from toytask_cli.analysis.rule import Removal, choose_neurons, removals
from toytask_cli.dataset import Grid
from toytask_cli.errors import UsageError, unknown_choice
from toytask_cli.hooks import ablate_neurons, check_error, checked_neurons
from toytask_cli.model import Transformer
from toytask_cli.rng import generator

# Wrong answers that are written out, and how many of them the report quotes.
SAMPLE, QUOTED = 1000, 5

NO_NEURON = torch.empty(0, dtype=torch.int64)


def ablate(
    scores: NeuronScores,
    *,
    remove: Sequence[str],
    tolerance: float | None = None,
    neurons: Sequence[int] | None = None,
    error: str = "keep",
    seed: int = 0,
) -> Ablation:
    """Removes tasks by the rule, or a given set of neurons, and reports.

    Args:
        scores: what `score_neurons` found.
        remove: names of the tasks to remove.
        tolerance: of the rule, nats; None takes the automatic one, or, where no tolerance keeps
            enough, the smallest removal.
        neurons: a set to remove in place of the rule's; then there is no curve.
        error: a key of `hooks.ERRORS`.
        seed: of the random control and of the sample of wrong answers.

    Raises:
        UsageError: an unknown task, no task or every task, a neuron that the SAE does not have,
            a tolerance below 0, both a tolerance and neurons, or an unknown `error`.
    """
    check_error(error)
    model, grid, found = scores.matched.model, scores.matched.grid, scores.tensors
    removed = removed_indices(grid, remove)
    given = _given(found, removed, tolerance, neurons)
    points = [] if neurons is not None else removals(found.importance, removed)

    tried = [*given, *(point.neurons for point in points)]
    seen = right_without(scores.matched, [AS_TRAINED, NO_NEURON, *tried], error)
    (trained, reconstructed), after_each = seen[:2], seen[2:]
    curve = after_each[len(given) :]
    automatic = largest_that_keeps(trained, curve, removed)
    pick = 0 if given else (automatic or 0)
    chosen = tried[pick]
    validation = _part(grid, trained, reconstructed, after_each[pick], error)

    density = found.density.mean(dim=0)
    controls = random_sets(density, chosen, generator(seed, "control"))
    sets = [AS_TRAINED, NO_NEURON, chosen, *(point.neurons for point in points), *controls]
    _, report_on = grid.matched_pairs()
    seen = right_without(Matched(model, grid, report_on), sets, error)
    trained, reconstructed, after = seen[:3]
    on_curve, on_controls = seen[3:].split([len(points), len(controls)])

    names = grid.task_names
    return Ablation(
        removed_task="+".join(names[i] for i in removed),
        removed_tasks=[names[i] for i in removed],
        kept_tasks=[name for i, name in enumerate(names) if i not in removed],
        tolerance=tolerance if given else points[pick].tolerance,
        chosen_by="given" if neurons is not None else "tolerance" if given else "automatic",
        automatic_tolerance=None if automatic is None else points[automatic].tolerance,
        error=error,
        seed=seed,
        split=grid.report_split,
        neurons=chosen.tolist(),
        n_live=int(found.live.sum()),
        d_sae=len(density),
        test=ReportAccuracy(
            **vars(_part(grid, trained, reconstructed, after, error)),
            random_control=_control(names, on_controls),
        ),
        validation=validation,
        overlap=_overlap(chosen[density[chosen] > 0], controls),
        selectivity_gap=selectivity_gap(trained, after, removed),
        joint=joint_effect(scores, [chosen])[0],
        instead=_instead(model, grid, report_on, after, chosen, error, seed),
        curve=_curve(names, points, curve, on_curve),
        definitions=DEFINITIONS,
    )


def removed_indices(grid: Grid, remove: Sequence[str]) -> list[int]:
    """The tasks' indices in the grid's order, each once.

    Raises:
        UsageError: an unknown task, none, or all of them.
    """
    names = grid.task_names
    for name in remove:
        if name not in names:
            raise unknown_choice("task", name, names)
    if not 0 < len(set(remove)) < len(names):
        raise UsageError(f"name a task to --remove, and keep at least one of {', '.join(names)}")
    return [i for i, name in enumerate(names) if name in remove]


def _given(
    found: ImportanceTensors,
    removed: list[int],
    tolerance: float | None,
    neurons: Sequence[int] | None,
) -> list[Tensor]:
    """The one set that is asked for, or none where the tolerance is to be found."""
    if tolerance is not None and neurons is not None:
        raise UsageError("give either a tolerance or neurons, not both")
    if neurons is not None:
        return [checked_neurons(neurons, len(found.mean_acts))]
    if tolerance is not None:
        return [choose_neurons(found.importance, removed, tolerance)]
    return []


def largest_that_keeps(before: Tensor, after: Tensor, removed: Sequence[int]) -> int | None:
    """The last of the growing removals that keeps `KEPT_SHARE` of every kept task's accuracy.

    Args:
        before: [task, pair] whether the answer is right.
        after: [removal, task, pair] the same after each removal.
        removed: indices of the tasks that may be lost.
    """
    kept = [i for i in range(len(before)) if i not in removed]
    floor = KEPT_SHARE * before[kept].sum(dim=-1)
    enough = (after[:, kept].sum(dim=-1) >= floor).all(dim=-1).nonzero()
    return int(enough[-1]) if len(enough) else None


def selectivity_gap(before: Tensor, after: Tensor, removed: Sequence[int]) -> float:
    """Smallest drop of a removed task less the largest of a kept one, [task, pair] right each."""
    drop = before.double().mean(dim=-1) - after.double().mean(dim=-1)
    kept = [i for i in range(len(drop)) if i not in removed]
    return float(drop[list(removed)].min() - drop[kept].max())


def _accuracies(names: list[str], right: Tensor) -> dict[str, Accuracy]:
    found = ((name, Accuracy.of(row)) for name, row in zip(names, right, strict=True))
    return {name: accuracy for name, accuracy in found if accuracy}


def _part(
    grid: Grid, before: Tensor, reconstructed: Tensor, after: Tensor, error: str
) -> PartAccuracy:
    names = grid.task_names
    return PartAccuracy(
        before=_accuracies(names, before),
        reconstructed=_accuracies(names, reconstructed) if error == "drop" else None,
        after=_accuracies(names, after),
    )


def _shares(names: list[str], right: Tensor) -> dict[str, float]:
    """Task → share of right answers, from [task, pair]."""
    return dict(zip(names, right.double().mean(dim=-1).tolist(), strict=True))


def _control(names: list[str], right: Tensor) -> dict[str, Control]:
    """From [draw, task, pair] whether the answer is right."""
    draws = right.double().mean(dim=-1).T
    return {
        name: Control(float(row.mean()), float(row.min()), float(row.max()), row.tolist())
        for name, row in zip(names, draws, strict=True)
    }


def _overlap(chosen: Tensor, controls: list[Tensor]) -> float | None:
    if not len(chosen):
        return None
    shared = sum(int(torch.isin(control, chosen).sum()) for control in controls)
    return shared / (len(controls) * len(chosen))


def _curve(
    names: list[str], points: list[Removal], validation: Tensor, test: Tensor
) -> list[CurvePoint]:
    """Points beside [point, task, pair] whether the answer is right on either part."""
    return [
        CurvePoint(point.tolerance, len(point.neurons), _shares(names, on_v), _shares(names, on_t))
        for point, on_v, on_t in zip(points, validation, test, strict=True)
    ]


def _instead(
    model: Transformer,
    grid: Grid,
    pairs: Tensor,
    right: Tensor,
    chosen: Tensor,
    error: str,
    seed: int,
) -> dict[str, Instead]:
    """Task → what the model writes for a sample of the pairs that it gets wrong."""
    draw = generator(seed, "instead")
    found = {}
    with ablate_neurons(model, chosen, error):
        for task, row in enumerate(grid.tasks):
            wrong = pairs[~right[task]]
            sample = wrong[torch.randperm(len(wrong), generator=draw)[:SAMPLE]]
            error_types, said = count_error_types(model, grid, task, sample)
            quoted = wrong_answers(grid, task, sample[:QUOTED], said[:QUOTED])
            found[row.name] = Instead(len(wrong), len(sample), error_types, quoted)
    return found
