"""What the scores of a model's neurons say: the shape of the report, and how it is made."""

from dataclasses import dataclass

from torch import Tensor

from toytask_cli.analysis.importance import ImportanceTensors, Joint, NeuronScores, joint_effect
from toytask_cli.analysis.statistics import spearman
from toytask_cli.analysis.survey import PairCounts

# Neurons listed for each task, and how many of them are removed together for the joint effect.
TOP, TOP_JOINT = 20, 10

DEFINITIONS = {
    "importance": "mean over pairs of (loss with the neuron removed − loss), the loss of an "
    "example being the mean cross-entropy over its answer's tokens, nats; positive: removing hurts",
    "ci95": "95 % interval of the importance by a Poisson bootstrap over pairs, nats",
    "mean_ablation": "the same as importance with the activation set, at every answer position, "
    "to its mean over the answer positions of all tasks' candidate pairs, in place of zero",
    "by_place": "mean rise of the cross-entropy at each answer position, nats; the first predicts "
    "the token after `B`; null where no answer is that long",
    "density": "share of the task's answer positions, over all candidates, where the neuron fires",
    "split_half": "Spearman rank correlation of the live neurons' importance between two random "
    "halves of the pairs; 1 is perfect agreement",
    "zero_and_mean": "Spearman rank correlation of the live neurons' importance by removal and by "
    "mean ablation",
    "joint": "rise of the loss when a task's most important neurons are removed together, against "
    "the sum of their importances, nats: single effects do not add up",
    "n_live": "neurons that fire at some answer position of some candidate pair",
    "pairs": "candidates: validation pairs of operands for every task; wrong: candidates that the "
    "model gets wrong, by task; right: those it gets right for every task; used: those that "
    "importance was measured on; twin_elsewhere: pairs left out because a twin is in another part",
}


@dataclass(frozen=True)
class NeuronForTask:
    """What one neuron is to one task."""

    importance: float
    ci95: tuple[float, float]
    mean_ablation: float
    by_place: list[float | None]
    density: float


@dataclass(frozen=True)
class NeuronRow:
    """One neuron, all tasks side by side."""

    neuron: int
    tasks: dict[str, NeuronForTask]


@dataclass(frozen=True)
class Importance:
    """The report of `toytask importance`."""

    method: str
    pairs: PairCounts
    resamples: int
    d_sae: int
    n_live: int
    top: dict[str, list[NeuronRow]]  # task → its most important neurons, first the largest
    split_half: dict[str, float | None]
    zero_and_mean: dict[str, float | None]
    joint: dict[str, Joint]  # task → its most important neurons together
    definitions: dict[str, str]


def report_importance(scores: NeuronScores) -> Importance:
    """Sums up what `score_neurons` found, and adds joint removals."""
    tensors, names = scores.tensors, scores.matched.grid.task_names
    return Importance(
        method=scores.method,
        pairs=scores.pairs,
        resamples=scores.resamples,
        d_sae=len(tensors.mean_acts),
        n_live=int(tensors.live.sum()),
        top={name: _top_rows(tensors, names, i) for i, name in enumerate(names)},
        **_agreement(scores, names),
        joint=_joint_of_top(scores, names),
        definitions=DEFINITIONS,
    )


def top_neurons(importance: Tensor, n: int) -> Tensor:
    """Up to n neurons of positive importance [d_sae], the largest first."""
    best = importance.topk(min(n, len(importance)))
    return best.indices[best.values > 0]


def _joint_of_top(scores: NeuronScores, names: list[str]) -> dict[str, Joint]:
    sets = [top_neurons(row, TOP_JOINT) for row in scores.tensors.importance]
    return dict(zip(names, joint_effect(scores, sets), strict=True))


def _top_rows(tensors: ImportanceTensors, names: list[str], task: int) -> list[NeuronRow]:
    best = top_neurons(tensors.importance[task], TOP)
    return [
        NeuronRow(neuron, {name: _for_task(tensors, i, neuron) for i, name in enumerate(names)})
        for neuron in best.tolist()
    ]


def _for_task(tensors: ImportanceTensors, task: int, neuron: int) -> NeuronForTask:
    at = (task, neuron)
    places = zip(tensors.by_place[task, :, neuron].tolist(), tensors.at_place[task], strict=True)
    return NeuronForTask(
        importance=float(tensors.importance[at]),
        ci95=(float(tensors.low[at]), float(tensors.high[at])),
        mean_ablation=float(tensors.mean_ablation[at]),
        by_place=[rise if n else None for rise, n in places],
        density=float(tensors.density[at]),
    )


def _agreement(scores: NeuronScores, names: list[str]) -> dict[str, dict[str, float | None]]:
    """Split halves, and zero against mean ablation. Over live neurons: the others all tie at 0."""
    tensors, live = scores.tensors, scores.tensors.live
    halves = {n: spearman(*scores.halves[i, :, live]) for i, n in enumerate(names)}
    both = zip(names, tensors.importance, tensors.mean_ablation, strict=True)
    return {
        "split_half": halves,
        "zero_and_mean": {name: spearman(zero[live], mean[live]) for name, zero, mean in both},
    }
