"""The report of an ablation, and how it is read. Figures are drawn from it without torch."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import TYPE_CHECKING, Any

from toytask_cli.analysis.error_types import WrongAnswer

if TYPE_CHECKING:
    from toytask_cli.analysis.effects import JointEffect
    from toytask_cli.analysis.generate import Answer
    from toytask_cli.analysis.stats import Accuracy


GONE = 0.01  # a task that keeps less than this share of its accuracy is called gone
DAMAGED = 0.95  # and one that keeps less than this share is called damaged


@dataclass(frozen=True)
class Accuracies:
    """Task → accuracy on some pairs."""

    before: "dict[str, Accuracy]"
    reconstructed: "dict[str, Accuracy] | None"
    after: "dict[str, Accuracy]"


@dataclass(frozen=True)
class Control:
    """One task's accuracy over the random draws."""

    mean: float
    min: float
    max: float
    draws: list[float]


@dataclass(frozen=True)
class ReportedAccuracies(Accuracies):
    """Accuracies on the pairs that are reported on, with the random control."""

    random_control: dict[str, Control]


@dataclass(frozen=True)
class WrongAnswers:
    """One task's wrong answers after the removal."""

    n_wrong: int
    n_sampled: int
    error_types: dict[str, int]  # type → number in the sample
    examples: list[WrongAnswer]  # the first few of the sample


@dataclass(frozen=True)
class PromptAnswers:
    """What the model writes for one prompt."""

    task: str
    prompt: str
    target: str
    before: "Answer"
    after: "Answer"


@dataclass(frozen=True)
class CurvePoint:
    """One removal; task → accuracy."""

    tolerance: float
    n_neurons: int
    validation: dict[str, float]
    test: dict[str, float]


@dataclass(frozen=True)
class Ablation:
    """The report of `toytask ablate`; `ablate.DEFINITIONS` says what each entry is."""

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
    test: ReportedAccuracies
    validation: Accuracies
    overlap: float | None  # null where no live neuron is removed
    selectivity_gap: float
    joint: "JointEffect"
    wrong_answers: dict[str, WrongAnswers]
    prompts: list[PromptAnswers]
    curve: list[CurvePoint]
    definitions: dict[str, str]

    @property
    def default_name(self) -> str:
        """`remove-concat-tol0.1`."""
        chosen_by, neurons = self.chosen_by, self.neurons
        return ablation_name(self.removed_tasks, chosen_by, self.tolerance, self.error, neurons)


def ablation_name(
    removed: Sequence[str],
    chosen_by: str,
    tolerance: float | None,
    error: str = "keep",
    neurons: Sequence[int] = (),
) -> str:
    """Return `remove-concat-tol0.1`, or how the neurons were chosen if not by a tolerance.

    Given sets are told apart by the start of their sha256.
    """
    how = f"tol{tolerance:.15g}" if chosen_by == "tolerance" else chosen_by
    if chosen_by == "given":
        how += f"-{sha256(','.join(map(str, neurons)).encode()).hexdigest()[:6]}"
    return f"remove-{'+'.join(removed)}-{how}{'' if error == 'keep' else f'-{error}'}"


def measured_on(report: Mapping[str, Any], section: str = "test") -> str:
    """Return in words what the pairs in the section `test` or `validation` are."""
    if report["split"] == "test":
        return section
    return "other validation pairs" if section == "test" else "half of the validation pairs"


def left_and_kept(
    report: Mapping[str, Any], section: str, accuracy: Mapping[str, float]
) -> tuple[float, float]:
    """Return what is left of the removed tasks and what the others keep, as shares.

    Args:
        report: of an ablation.
        section: `test` or `validation`.
        accuracy: by task, on the pairs of that section.

    Returns:
        The largest accuracy of a removed task, and the smallest share of its accuracy before that
        a kept task has; 0 where no kept task had any.
    """
    before = {task: report[section]["before"][task]["accuracy"] for task in report["kept_tasks"]}
    shares = [accuracy[task] / share for task, share in before.items() if share]
    return max(accuracy[task] for task in report["removed_tasks"]), min(shares, default=0.0)


def removal_in_words(report: Mapping[str, Any]) -> str:
    """Return how the neurons were chosen, and where it was measured."""
    n, error = len(report["neurons"]), f"error {report['error']}"
    pairs = measured_on(report)
    if report["chosen_by"] == "given":
        return f"{n} neurons removed (a given set, {error}), measured on {pairs}"
    return (
        f"{n} of {report['n_live']} live neurons removed (tolerance {report['tolerance']:g} nats, "
        f"{error}), chosen on validation, measured on {pairs}"
    )


def effect_in_words(report: Mapping[str, Any]) -> str:
    """Return `concat is gone (0.0 % right, 95 % interval 0.00 to 0.08), sum keeps 99.8 % of …`."""
    test = report["test"]
    removed = (
        f"{task} {_loss_in_words(test, task)} ({100 * test['after'][task]['accuracy']:.1f} % right,"
        f" 95 % interval {_interval(test['after'][task]['ci95'])})"
        for task in report["removed_tasks"]
    )
    return ", ".join([*removed, *(_kept_in_words(test, task) for task in report["kept_tasks"])])


def _loss_in_words(test: Mapping[str, Any], task: str) -> str:
    share = _share_left(test, task)
    if share is None:
        return "had no accuracy to lose"
    if share < GONE:
        return "is gone"
    return "is damaged" if share < DAMAGED else "is still there"


def _kept_in_words(test: Mapping[str, Any], task: str) -> str:
    share = _share_left(test, task)
    if share is None:
        return f"{task} had no accuracy to keep"
    return f"{task} keeps {100 * share:.1f} % of its accuracy"


def _share_left(test: Mapping[str, Any], task: str) -> float | None:
    """Return accuracy after over accuracy before; None if it was 0 before."""
    before, after = (test[when][task]["accuracy"] for when in ("before", "after"))
    return after / before if before else None


def _interval(ci95: Sequence[float]) -> str:
    return f"{100 * ci95[0]:.2f} to {100 * ci95[1]:.2f}"
