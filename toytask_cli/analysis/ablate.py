"""Remove a task, and measure what is lost and what is kept.

Neurons are chosen on validation pairs; everything in the `test` section is measured on other
pairs. The transformer runs once over each pair for all removals, controls and points of the curve,
unless there are too many pairs to cache x (`MatchedPairs`).
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from toytask_cli.analysis.ablation_report import (
    Ablation,
    Accuracies,
    Control,
    CurvePoint,
    PromptAnswers,
    ReportedAccuracies,
    WrongAnswers,
)
from toytask_cli.analysis.effects import joint_effects, right_without
from toytask_cli.analysis.error_types import ERROR_TYPES, count_error_types
from toytask_cli.analysis.evaluate import wrong_answers
from toytask_cli.analysis.generate import AS_TRAINED, Variant, generate
from toytask_cli.analysis.importance import NeuronScores
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.analysis.select import (
    CURVE_POINTS,
    DRAWS,
    KEPT_SHARE,
    NO_CURVE,
    STRATA,
    Curve,
    measure_curve,
    random_sets,
    removed_indices,
    select_neurons,
)
from toytask_cli.analysis.stats import FLOOR, Accuracy
from toytask_cli.hooks import check_error
from toytask_cli.prompts import Prompt
from toytask_cli.rng import generator

# Wrong answers to write after the removal, and how many of them to quote.
SAMPLE, QUOTED = 1000, 5
PROMPTS = 12  # whose answers before and after are quoted in full

NO_NEURON = torch.empty(0, dtype=torch.int64)

DEFINITIONS = {
    "neurons": "neurons of the SAE that are removed, jointly: x − Σ f_i d_i goes to the readout. "
    "Nothing is deleted from the weights",
    "tolerance": "a neuron that matters to the removed task is removed if its importance for each "
    "kept task is ≤ 0, or below the tolerance and below its importance for the removed task; "
    "mean increase of an example's loss, nats; null for a given set of neurons. An importance of "
    f"at most {FLOOR:g}, above or below 0, counts as 0",
    "automatic_tolerance": "of the curve's points, the largest removal that keeps at least "
    f"{KEPT_SHARE:.0%} of every kept task's validation accuracy; null where none does",
    "error": "keep: what the SAE does not reconstruct stays in; drop: it goes",
    "accuracy": "share of the pairs whose answer matches exactly, by teacher forcing, 0 to 1",
    "ci95": "Wilson 95 % interval of the accuracy",
    "n": "number of operand pairs",
    "before": "the model as trained",
    "reconstructed": "the SAE's reconstruction in place and no neuron removed; null with the error "
    "kept, where it is the same as before",
    "after": "the neurons removed",
    "test": "on pairs that neither the neurons nor the weights were chosen on; in a split without "
    "test pairs, on the half of the shared validation pairs that the neurons were not chosen on",
    "split": "the split that the pairs under `test` are from",
    "validation": "on the pairs that the neurons were chosen on",
    "random_control": f"accuracy with as many random live neurons removed, {DRAWS} draws, matched "
    f"in density within {STRATA} strata",
    "overlap": "mean share of the chosen live neurons that a random draw removes too",
    "selectivity_gap": "on test, the smallest drop of accuracy of a removed task less the largest "
    "drop of a kept task, −2 to 2; 1 where all is lost and nothing else changes",
    "joint": "increase of the loss on the pairs that importance was measured on, with all the "
    "neurons removed together and the error kept, against the sum of their importances, nats",
    "wrong_answers": "what the model writes, greedily, for a random sample of the test pairs that "
    "it gets wrong; the first type that fits counts: "
    + "; ".join(f"{name}: {meaning}" for name, meaning in ERROR_TYPES.items()),
    "prompts": f"what the model writes, greedily, for {PROMPTS} random test prompts, with the "
    "probability of each token given those before it, 0 to 1",
    "curve": "accuracy over tolerances; the neurons are always chosen on validation. At most "
    f"{CURVE_POINTS} points, beyond that log-spaced",
    "n_live": "neurons that fire at some answer position of some validation pair",
}


def ablate(
    scores: NeuronScores,
    *,
    remove: Sequence[str],
    tolerance: float | None = None,
    neurons: Sequence[int] | None = None,
    error: str = "keep",
    seed: int = 0,
) -> Ablation:
    """Remove tasks by the rule, or a given set of neurons, and report.

    Args:
        scores: of `score_neurons`.
        remove: names of the tasks to remove.
        tolerance: of the rule, nats; None for the automatic one.
        neurons: a set to remove in place of the rule's; then there is no curve.
        error: a key of `hooks.ERRORS`.
        seed: of the random control and of the sample of wrong answers.

    Raises:
        UsageError: as `select_neurons` does, or an unknown `error`.
    """
    check_error(error)
    grid, tensors = scores.matched.grid, scores.tensors
    removed = removed_indices(grid, remove)
    curve = measure_curve(scores, remove, error) if neurons is None else NO_CURVE
    choice = select_neurons(scores, remove, tolerance=tolerance, neurons=neurons, curve=curve)
    chosen, density = choice.neurons, tensors.density.mean(dim=0)
    controls = random_sets(density, chosen, generator(seed, "control"))

    sets = [AS_TRAINED, NO_NEURON, chosen]
    on_validation = right_without(scores.matched, sets, error)
    test_pairs = MatchedPairs(scores.matched.model, grid, grid.matched_pairs()[1])
    sets += [*(removal.neurons for removal in curve.removals), *controls]
    on_test = right_without(test_pairs, sets, error)
    curve_on_test, controls_on_test = on_test[3:].split([len(curve.removals), len(controls)])

    names = grid.task_names
    test = _accuracies(names, on_test, error)
    return Ablation(
        removed_task="+".join(names[i] for i in removed),
        removed_tasks=[names[i] for i in removed],
        kept_tasks=[name for i, name in enumerate(names) if i not in removed],
        tolerance=choice.tolerance,
        chosen_by=choice.chosen_by,
        automatic_tolerance=curve.automatic.tolerance if curve.automatic else None,
        error=error,
        seed=seed,
        split=grid.report_split,
        neurons=chosen.tolist(),
        n_live=int(tensors.live.sum()),
        d_sae=len(density),
        test=ReportedAccuracies(**vars(test), random_control=_control(names, controls_on_test)),
        validation=_accuracies(names, on_validation, error),
        overlap=_overlap(chosen[density[chosen] > 0], controls),
        selectivity_gap=selectivity_gap(on_test[0], on_test[2], removed),
        joint=joint_effects(scores.matched, tensors.pairs, [chosen], tensors.importance)[0],
        wrong_answers=_wrong_answers(test_pairs, on_test[2], Variant(chosen, error), seed),
        prompts=_prompts(test_pairs, Variant(chosen, error), seed),
        curve=_curve_points(names, curve, curve_on_test),
        definitions=DEFINITIONS,
    )


def selectivity_gap(before: Tensor, after: Tensor, removed: Sequence[int]) -> float:
    """Return the smallest drop of a removed task less the largest of a kept one.

    Args:
        before: [task, pair] whether the answer is right.
        after: the same after the removal.
        removed: indices of the removed tasks.
    """
    drop = before.double().mean(dim=-1) - after.double().mean(dim=-1)
    kept = [i for i in range(len(drop)) if i not in removed]
    return float(drop[list(removed)].min() - drop[kept].max())


def _accuracies(names: list[str], right: Tensor, error: str) -> Accuracies:
    """Return accuracies from [set, task, pair], as trained, reconstructed, and ablated first."""
    before, reconstructed, after = (
        dict(zip(names, map(Accuracy.of, rows), strict=True)) for rows in right[:3]
    )
    return Accuracies(before, reconstructed if error == "drop" else None, after)


def _control(names: list[str], right: Tensor) -> dict[str, Control]:
    """Return each task's accuracies from [draw, task, pair]."""
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


def _curve_points(names: list[str], curve: Curve, on_test: Tensor) -> list[CurvePoint]:
    """Return the curve's points, with [removal, task, pair] whether test pairs are right."""
    rows = zip(curve.removals, curve.right, on_test, strict=True)
    return [
        CurvePoint(r.tolerance, len(r.neurons), _shares(names, validation), _shares(names, test))
        for r, validation, test in rows
    ]


def _shares(names: list[str], right: Tensor) -> dict[str, float]:
    """Return each task's share of right answers [task, pair]."""
    return dict(zip(names, right.double().mean(dim=-1).tolist(), strict=True))


def _wrong_answers(
    matched: MatchedPairs, right: Tensor, variant: Variant, seed: int
) -> dict[str, WrongAnswers]:
    """Return what the variant writes for a sample of the pairs that are not right [task, pair]."""
    draw, grid = generator(seed, "instead"), matched.grid
    by_task = {}
    with variant.applied_to(matched.model):
        for task, name in enumerate(grid.task_names):
            wrong = matched.pairs[~right[task]]
            sample = wrong[torch.randperm(len(wrong), generator=draw)[:SAMPLE]]
            answers = list(wrong_answers(matched.model, grid, task, sample))
            by_task[name] = WrongAnswers(
                n_wrong=len(wrong),
                n_sampled=len(sample),
                error_types=count_error_types(kind for kind, _ in answers),
                examples=[answer for _, answer in answers[:QUOTED]],
            )
    return by_task


def _prompts(matched: MatchedPairs, after: Variant, seed: int) -> list[PromptAnswers]:
    """Return answers to random prompts, of one task after the other."""
    grid, draw = matched.grid, generator(seed, "prompts")
    pairs = matched.pairs[torch.randperm(len(matched.pairs), generator=draw)[:PROMPTS]]
    operands = zip(*(numbers.tolist() for numbers in grid.operands(pairs)), strict=True)
    prompts = [Prompt(grid.tasks[i % len(grid.tasks)], a, b) for i, (a, b) in enumerate(operands)]
    answers = generate(matched.model, grid, prompts, {"before": Variant(), "after": after})
    return [
        PromptAnswers(prompt.task.name, prompt.plain, prompt.plain_target, **by_variant)
        for prompt, by_variant in zip(prompts, answers, strict=True)
    ]
