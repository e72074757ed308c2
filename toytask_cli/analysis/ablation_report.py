"""What an ablation found: the shape of its report."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Any

from toytask_cli.analysis.control import DRAWS, STRATA
from toytask_cli.analysis.error_types import ERROR_TYPES
from toytask_cli.analysis.evaluation import Accuracy, WrongAnswer
from toytask_cli.analysis.importance import Joint
from toytask_cli.analysis.rule import CURVE_FLOOR, CURVE_POINTS

# The automatic tolerance keeps at least this share of every kept task's validation accuracy.
KEPT_SHARE = 0.99

DEFINITIONS = {
    "neurons": "neurons of the SAE that are removed, jointly: x − Σ f_i d_i goes to the readout. "
    "Nothing is deleted from the weights",
    "tolerance": "a neuron that matters to the removed task is removed if its importance for each "
    "kept task is ≤ 0, or below the tolerance and below its importance for the removed task; "
    "mean rise of an example's loss, nats; null for a given set of neurons",
    "automatic_tolerance": "of the curve's points, the largest removal that keeps at least "
    f"{KEPT_SHARE:.0%} of every kept task's validation accuracy; null where none does",
    "error": "keep: what the SAE does not reconstruct stays in; drop: it goes",
    "accuracy": "share of the pairs whose answer matches exactly, by teacher forcing, 0 to 1",
    "ci95": "Wilson 95 % interval of the accuracy",
    "n": "number of operand pairs",
    "before": "the model as it was trained",
    "reconstructed": "the SAE's reconstruction in place and no neuron removed; null with the error "
    "kept, where it is the same as before",
    "after": "the neurons removed",
    "test": "on pairs that neither the neurons nor the weights were chosen on; in a split without "
    "a test part, on the half of the shared validation pairs that the neurons were not chosen on",
    "split": "the part that the pairs under `test` are from",
    "validation": "on the pairs that the neurons were chosen on",
    "random_control": f"accuracy with as many random live neurons removed, {DRAWS} draws, matched "
    f"in density within {STRATA} strata",
    "overlap": "mean share of the chosen live neurons that a random draw removes too",
    "selectivity_gap": "on test, the smallest drop of accuracy of a removed task less the largest "
    "drop of a kept task, −2 to 2; 1 where all is lost and nothing else changes",
    "joint": "rise of the loss on the pairs that importance was measured on, with all the neurons "
    "removed together and the error kept, against the sum of their importances, nats",
    "instead": "what the model writes, greedily, for a random sample of the test pairs that it "
    "gets wrong; the first kind that fits counts: "
    + "; ".join(f"{kind}: {meaning}" for kind, meaning in ERROR_TYPES.items()),
    "curve": "accuracy over tolerances; the neurons are always chosen on validation. At most "
    f"{CURVE_POINTS} points, beyond that log-spaced from {CURVE_FLOOR:g} nats up",
    "n_live": "neurons that fire at some answer position of some validation pair",
}


def ablation_name(
    removed: Sequence[str],
    chosen_by: str,
    tolerance: float | None,
    error: str = "keep",
    neurons: Sequence[int] = (),
) -> str:
    """`remove-concat-tol0.1`; says how the neurons were chosen if not by a tolerance.

    Given neurons are told apart by a part of their sha256: each set has a name of its own.
    """
    how = f"tol{tolerance:g}" if chosen_by == "tolerance" else chosen_by
    if chosen_by == "given":
        how += f"-{sha256(','.join(map(str, neurons)).encode()).hexdigest()[:6]}"
    return f"remove-{'+'.join(removed)}-{how}{'' if error == 'keep' else f'-{error}'}"


def measured_on(report: Mapping[str, Any], part: str = "test") -> str:
    """What the pairs under `test` or `validation` are, in words."""
    if report["split"] == "test":
        return part
    return "other validation pairs" if part == "test" else "half of the validation pairs"


def left_and_kept(
    report: Mapping[str, Any], part: str, accuracy: Mapping[str, float]
) -> tuple[float, float]:
    """What these accuracies leave of the removed tasks and keep of the others, as shares.

    Args:
        report: of an ablation.
        part: `test` or `validation`.
        accuracy: by task, on that part.

    Returns:
        The accuracy of the removed task that has most left, and the share of its accuracy before
        that the worst kept task has; 0 where no kept task had any.
    """
    before = {task: report[part]["before"][task]["accuracy"] for task in report["kept_tasks"]}
    kept = [accuracy[task] / had for task, had in before.items() if had]
    return max(accuracy[task] for task in report["removed_tasks"]), min(kept, default=0.0)


@dataclass(frozen=True)
class PartAccuracy:
    """Task → accuracy on one part."""

    before: dict[str, Accuracy]
    reconstructed: dict[str, Accuracy] | None
    after: dict[str, Accuracy]


@dataclass(frozen=True)
class Control:
    """One task's accuracy over the random draws."""

    mean: float
    min: float
    max: float
    draws: list[float]


@dataclass(frozen=True)
class ReportAccuracy(PartAccuracy):
    """The reported part, with its control."""

    random_control: dict[str, Control]


@dataclass(frozen=True)
class Instead:
    """What the model says on one task after the removal, where it is wrong."""

    wrong: int  # test pairs that are wrong
    looked_at: int  # the sample of them
    error_types: dict[str, int]  # kind → number in the sample
    examples: list[WrongAnswer]  # the first few of the sample


@dataclass(frozen=True)
class CurvePoint:
    """One removal; task → accuracy."""

    tolerance: float
    n_neurons: int
    validation: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True)
class Ablation:
    """The report of `toytask ablate`."""

    removed_task: str  # several are joined by +
    removed_tasks: list[str]
    kept_tasks: list[str]
    tolerance: float | None
    chosen_by: str  # tolerance, automatic or given
    automatic_tolerance: float | None
    error: str
    seed: int
    split: str
    neurons: list[int]
    n_live: int
    d_sae: int
    test: ReportAccuracy
    validation: PartAccuracy
    overlap: float | None  # null where no live neuron is removed
    selectivity_gap: float
    joint: Joint
    instead: dict[str, Instead]
    curve: list[CurvePoint]
    definitions: dict[str, str]

    @property
    def default_name(self) -> str:
        """`remove-concat-tol0.1`."""
        chosen_by, neurons = self.chosen_by, self.neurons
        return ablation_name(self.removed_tasks, chosen_by, self.tolerance, self.error, neurons)
