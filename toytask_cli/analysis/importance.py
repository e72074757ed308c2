"""Which neurons matter to which task, measured by removing each one alone.

The importance of neuron i for task t is the mean over pairs of (loss with f_i removed − loss),
the loss of an example being the mean cross-entropy over its answer's tokens, in nats. Positive
means that removing hurts. Pairs are validation pairs that the model answers correctly for every
task, so that tasks are compared on the same operands.
"""

from dataclasses import dataclass
from typing import NamedTuple

from torch import Tensor

from toytask_cli.analysis.removal import loss_increases
from toytask_cli.analysis.removal_costs import METHODS
from toytask_cli.analysis.statistics import spearman
from toytask_cli.analysis.survey import PairCounts, pairs_to_judge, survey
from toytask_cli.analysis.tally import RESAMPLES, Tally, tally
from toytask_cli.dataset import Grid
from toytask_cli.errors import unknown
from toytask_cli.model import Transformer
from toytask_cli.rng import generator

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
class Joint:
    """Several neurons removed together; task → nats."""

    neurons: list[int]
    together: dict[str, float]
    sum_of_singles: dict[str, float]


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


class ImportanceTensors(NamedTuple):
    """The full matrices, float32 on the CPU; nats where they are importances."""

    importance: Tensor  # [task, d_sae]
    low: Tensor  # [task, d_sae] lower end of the 95 % interval
    high: Tensor  # [task, d_sae] upper end
    mean_ablation: Tensor  # [task, d_sae]
    by_place: Tensor  # [task, place, d_sae]
    at_place: Tensor  # [task, place] int64, answers that have a token at this place
    density: Tensor  # [task, d_sae]
    mean_acts: Tensor  # [d_sae] what mean ablation sets activations to
    pairs: Tensor  # [n] int64, the operand pairs that were used

    @property
    def live(self) -> Tensor:
        """[d_sae] whether the neuron fires for some task."""
        return (self.density > 0).any(dim=0)


def score_neurons(
    model: Transformer,
    grid: Grid,
    *,
    seed: int,
    pairs: int | None = None,
    method: str = "closed",
    resamples: int = RESAMPLES,
) -> tuple[ImportanceTensors, PairCounts, Tally]:
    """Measures every neuron for every task; arguments and errors as of `measure_importance`."""
    if method not in METHODS:
        raise unknown("method", method, METHODS)
    candidates, _ = grid.matched_pairs()
    seen = survey(model, grid, candidates)
    used, counts = pairs_to_judge(grid, candidates, seen.right, pairs, generator(seed, "pairs"))
    found = tally(
        model, grid, used, seen.mean_acts, METHODS[method], generator(seed, "importance"), resamples
    )
    tensors = ImportanceTensors(
        importance=found.importance,
        low=found.low,
        high=found.high,
        mean_ablation=found.mean_ablation,
        by_place=found.by_place,
        at_place=found.at_place,
        density=seen.density,
        mean_acts=seen.mean_acts,
        pairs=used,
    )
    return tensors, counts, found


def measure_importance(
    model: Transformer,
    grid: Grid,
    *,
    seed: int,
    pairs: int | None = None,
    method: str = "closed",
    resamples: int = RESAMPLES,
) -> tuple[Importance, ImportanceTensors]:
    """Measures every neuron for every task, and reports.

    Memory is bounded by one chunk of `tally.CHUNK` pairs (their activations, `ENTRIES` rows of
    the vocabulary) and by [task, resamples, d_sae] sums, whatever the number of pairs.

    Args:
        seed: of the sample of pairs, of the halves and of the bootstrap.
        pairs: size of a random sample of the pairs to use, or None for all.
        method: `closed`, or `hooks` for one forward pass for each neuron.
        resamples: of the bootstrap.

    Raises:
        UsageError: an unknown method, or fewer than one pair asked for.
        ToytaskError: the model answers no candidate correctly for every task.
    """
    tensors, counts, found = score_neurons(
        model, grid, seed=seed, pairs=pairs, method=method, resamples=resamples
    )
    names = [task.name for task in grid.tasks]
    report = Importance(
        method=method,
        pairs=counts,
        resamples=resamples,
        d_sae=len(tensors.mean_acts),
        n_live=int(tensors.live.sum()),
        top={name: _top_rows(tensors, names, i) for i, name in enumerate(names)},
        **_agreement(found, tensors, names),
        joint=_joint_of_top(model, grid, tensors, names),
        definitions=DEFINITIONS,
    )
    return report, tensors


def top_neurons(importance: Tensor, n: int) -> Tensor:
    """Up to n neurons of positive importance [d_sae], the largest first."""
    best = importance.topk(min(n, len(importance)))
    return best.indices[best.values > 0]


def neuron_row(tensors: ImportanceTensors, names: list[str], neuron: int) -> NeuronRow:
    """One neuron's numbers for the report."""
    return NeuronRow(
        neuron, {name: _for_task(tensors, task, neuron) for task, name in enumerate(names)}
    )


def joint_effect(
    model: Transformer, grid: Grid, tensors: ImportanceTensors, sets: list[Tensor]
) -> list[Joint]:
    """Each set of neurons removed together, on the pairs that importance was measured on."""
    names = [task.name for task in grid.tasks]
    together = loss_increases(model, grid, tensors.pairs, sets)
    return [
        Joint(
            neurons=neurons.tolist(),
            together=dict(zip(names, row.tolist(), strict=True)),
            sum_of_singles=dict(
                zip(names, tensors.importance[:, neurons].sum(dim=1).tolist(), strict=True)
            ),
        )
        for neurons, row in zip(sets, together, strict=True)
    ]


def _joint_of_top(
    model: Transformer, grid: Grid, tensors: ImportanceTensors, names: list[str]
) -> dict[str, Joint]:
    sets = [top_neurons(row, TOP_JOINT) for row in tensors.importance]
    return dict(zip(names, joint_effect(model, grid, tensors, sets), strict=True))


def _top_rows(tensors: ImportanceTensors, names: list[str], task: int) -> list[NeuronRow]:
    best = top_neurons(tensors.importance[task], TOP)
    return [neuron_row(tensors, names, neuron) for neuron in best.tolist()]


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


def _agreement(
    found: Tally, tensors: ImportanceTensors, names: list[str]
) -> dict[str, dict[str, float | None]]:
    """Split halves, and zero against mean ablation. Over live neurons: the others all tie at 0."""
    live = tensors.live
    halves = {n: spearman(*found.halves[i, :, live]) for i, n in enumerate(names)}
    both = zip(names, tensors.importance, tensors.mean_ablation, strict=True)
    return {
        "split_half": halves,
        "zero_and_mean": {name: spearman(zero[live], mean[live]) for name, zero, mean in both},
    }
