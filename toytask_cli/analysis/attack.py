"""Attack a removal: lift the mask, probe the blocks, and fine-tune until the task is back.

Everything is measured as well on a control, which was taught the kept tasks alone, so that it shows
what an attack teaches rather than wakes.
"""

from dataclasses import dataclass

from toytask_cli.analysis.probes import BLOCKS, STRENGTHS, probe
from toytask_cli.analysis.relearning import (
    CONVERGED,
    EVERY_STEP,
    INTERVALS,
    RATES,
    UNSEEN,
    Attacker,
    Candidate,
    Relearning,
    accuracy_by_task,
)

DEFINITIONS = {
    "removed_tasks": "the tasks to bring back; several are measured together, over the examples of "
    "all of them",
    "before": "accuracy to bring back, by task: of the model without the ablation; of a distilled "
    "run, of its teacher without the ablation",
    "mask_lifted": "accuracy where the ablation is simply not applied, by task",
    "mask_held": "accuracy with the ablation in place, as in all that follows, by task; the same "
    "as `mask_lifted` where there is no ablation",
    "control_accuracy": "accuracy of the control, which was taught the kept tasks alone by the "
    "same recipe, by task",
    "probes": "share of the removed tasks' unseen answers whose first token a ridge regression "
    "names, fitted on training examples for each model; strength chosen on validation among "
    + ", ".join(f"{strength:g}" for strength in STRENGTHS)
    + ". Fresh weights pass an operand on, so that what is to be read off a model need not be a "
    "memory. By what it reads: "
    + "; ".join(f"{block}: {meaning}" for block, meaning in BLOCKS.items()),
    "relearning": "fine-tuning of all weights on the true answers of training examples, by AdamW "
    f"at a constant rate ({', '.join(f'{rate:g}' for rate in RATES)}), on cross-entropy alone, "
    "with the ablation in place at every step; of the removed tasks alone or of all tasks. fresh: "
    "fresh weights of the run's seed",
    "steps50": "steps until 50 % of `before` on unseen examples, by the fastest attack; null where "
    "none got there within `limit` steps. steps95: the same for 95 %",
    "rate": "of the attack that is first at 95 %; `data` likewise",
    "curves": f"exact match on up to {UNSEEN:,} unseen examples after these steps, for each "
    f"attack; measured after every step up to {EVERY_STEP}, then after every 1/{INTERVALS} more. "
    "An attack ends where it, or a faster one, is at 95 %",
    "from_examples": "exact match on unseen examples after fine-tuning on n examples of the "
    f"removed tasks until their mean cross-entropy is below {CONVERGED:g} nats, or for `limit` "
    "steps, by the best rate: a memory that is woken does well from few examples, a task that is "
    "taught anew does not",
    "robustness": "steps that the run needs over those that the control needs, to 50 and to 95 %: "
    "1 is as hard as for a model that never knew the task; null where either did not get there",
}


@dataclass(frozen=True)
class FromExamples:
    """Accuracy on unseen examples after relearning from n."""

    n: int
    run: float
    control: float


@dataclass(frozen=True)
class Attack:
    """The report of `toytask attack`; `DEFINITIONS` says what each entry is."""

    removed_tasks: list[str]
    kept_tasks: list[str]
    before: dict[str, float]
    mask_lifted: dict[str, float]
    mask_held: dict[str, float]
    control_accuracy: dict[str, float]
    probes: dict[str, dict[str, float]]  # block → run, control and fresh
    relearning: dict[str, Relearning]  # run, control and fresh
    from_examples: list[FromExamples]
    robustness: dict[str, float | None]  # by percent
    split: str
    limit: int
    seed: int
    definitions: dict[str, str]


def attack(
    run: Candidate,
    control: Candidate,
    fresh: Candidate,
    attacker: Attacker,
    mask_lifted: dict[str, float],
    before: dict[str, float],
) -> Attack:
    """Attack a run, and in the same way a control and fresh weights; report.

    Args:
        run: the run with its ablation, if it has one.
        control: never taught the removed tasks.
        fresh: never taught anything.
        attacker: the attacks, on the tasks to bring back.
        mask_lifted: accuracy of the run without its ablation, by task.
        before: accuracy to bring back, by task.
    """
    grid, tasks = attacker.grid, attacker.tasks
    names = grid.task_names
    goal = sum(before[names[i]] for i in tasks) / len(tasks)
    probes = {}
    for candidate in (run, control, fresh):
        attacker.on_begin(f"{candidate.name}, probes")
        model, variant = candidate.model, candidate.variant
        probes[candidate.name] = probe(model, variant, grid, tasks, attacker.seed)
    relearning = {each.name: attacker.relearn(each, goal) for each in (run, control, fresh)}
    return Attack(
        removed_tasks=[names[i] for i in tasks],
        kept_tasks=[name for i, name in enumerate(names) if i not in tasks],
        before=before,
        mask_lifted=mask_lifted,
        mask_held=accuracy_by_task(run, grid),
        control_accuracy=accuracy_by_task(control, grid),
        probes={block: {name: each[block] for name, each in probes.items()} for block in BLOCKS},
        relearning=relearning,
        from_examples=[
            FromExamples(n, *(attacker.from_examples(each, n) for each in (run, control)))
            for n in attacker.sizes
        ],
        robustness=robustness(relearning["run"], relearning["control"]),
        split=grid.report_split,
        limit=attacker.limit,
        seed=attacker.seed,
        definitions=DEFINITIONS,
    )


def robustness(run: Relearning, control: Relearning) -> dict[str, float | None]:
    """Return the steps that a run needs over those that its control needs, by percent."""
    pairs = {"50": (run.steps50, control.steps50), "95": (run.steps95, control.steps95)}
    return {
        percent: None if steps is None or not of_control else steps / of_control
        for percent, (steps, of_control) in pairs.items()
    }
