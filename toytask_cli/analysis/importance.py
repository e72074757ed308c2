"""The importance of each neuron to each task.

The importance of neuron i for task t is the mean increase of the loss when i alone is removed:

    importance_ti = mean over pairs of (loss of t's example without f_i d_i in x − its loss)

where the loss of an example is the mean cross-entropy over its answer's tokens, in nats. Positive
means that removing hurts. The pairs are validation pairs that the model answers correctly for
every task, so that tasks are compared on the same operands. `effects` computes the increases.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.effects import METHODS, JointEffect, Method, joint_effects
from toytask_cli.analysis.matched_pairs import FiringStats, MatchedPairs, PairCounts, pairs_to_use
from toytask_cli.analysis.stats import FLOOR, percentile_interval, poisson_weights, spearman
from toytask_cli.dataset import Grid
from toytask_cli.errors import unknown_choice
from toytask_cli.model import Transformer
from toytask_cli.rng import generator
from toytask_cli.tokenizer import PAD

RESAMPLES = 1000  # of the bootstrap
CHUNK = 512  # pairs at once; it decides which random numbers a pair gets, so it is no option
TOP, TOP_JOINT = 20, 10  # neurons listed for each task, and removed together for the joint effect

DEFINITIONS = {
    "importance": "mean over pairs of (loss with the neuron removed − loss), the loss of an "
    "example being the mean cross-entropy over its answer's tokens, nats; positive: removing "
    f"hurts; at most {FLOOR:g}: counts as 0, since float32 resolves no less in a loss of 10 nats",
    "ci95": "95 % interval of it by a Poisson bootstrap over pairs, nats; null for a single pair",
    "mean_ablation": "as importance, the activation set to its mean over all candidates' positions",
    "by_position": "mean increase of the cross-entropy at each answer position, nats; the first "
    "predicts the token after `B`; null where no answer is that long",
    "density": "share of the task's answer positions, over all candidates, where the neuron fires",
    "split_half": "Spearman correlation of live neurons' importance between halves of the pairs",
    "zero_and_mean": "Spearman correlation of live neurons' importance with their mean ablation",
    "joint": "increase of the loss when a task's most important neurons are removed together, "
    "against the sum of their importances, nats: single effects do not add up",
    "n_live": "neurons that fire at some answer position of some candidate pair",
    "pairs": "candidates: validation pairs for every task; wrong: those that the model gets wrong, "
    "by task; right: those it gets right for every task; used: those that importance was measured "
    "on; twin_elsewhere: pairs left out because a twin is in another split",
}


class ImportanceTensors(NamedTuple):
    """Everything measured of all neurons, on the CPU; nats where not said otherwise."""

    importance: Tensor  # [task, d_sae]
    low: Tensor | None  # [task, d_sae] lower end of its 95 % interval; None for a single pair
    high: Tensor | None  # [task, d_sae] upper end
    halves: Tensor  # [task, 2, d_sae] importance over each random half of the pairs
    mean_ablation: Tensor  # [task, d_sae] the same as importance, the neuron set to its mean
    by_position: Tensor  # [task, position, d_sae] mean over the answers that are this long
    n_at_position: Tensor  # [task, position] int64, number of these answers
    density: Tensor  # [task, d_sae] share of the task's positions where the neuron fires
    mean_acts: Tensor  # [d_sae] activations that mean ablation sets neurons to
    pairs: Tensor  # [n] int64, the operand pairs that were used

    @property
    def live(self) -> Tensor:
        """[d_sae] whether the neuron fires for some task."""
        return (self.density > 0).any(dim=0)


class NeuronScores(NamedTuple):
    """The importance of a model's neurons, and what it was measured on."""

    matched: MatchedPairs  # the candidates: the pairs that neurons are chosen on
    tensors: ImportanceTensors
    pairs: PairCounts
    method: str
    resamples: int


@dataclass(frozen=True)
class NeuronForTask:
    """The measurements of one neuron for one task; `DEFINITIONS` defines each number."""

    importance: float
    ci95: tuple[float, float] | None
    mean_ablation: float
    by_position: list[float | None]
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
    joint: dict[str, JointEffect]  # task → its most important neurons together
    definitions: dict[str, str]


def score_neurons(
    model: Transformer,
    grid: Grid,
    *,
    seed: int,
    pairs: int | None = None,
    method: str = "closed",
    resamples: int = RESAMPLES,
) -> NeuronScores:
    """Measure the importance of every neuron for every task.

    Memory is bounded by the cache of `MatchedPairs`, by the activations and effects of `CHUNK`
    pairs and by [task, resamples, d_sae] sums, whatever the number of pairs.

    Args:
        seed: of the sample of pairs, of the halves and of the bootstrap.
        pairs: how many pairs to draw, or None for all.
        method: `closed`, or `hooks` for one forward pass for each neuron.
        resamples: of the bootstrap.

    Raises:
        UsageError: an unknown method, or fewer than one pair asked for.
        ToytaskError: the model answers no candidate correctly for every task.
    """
    if method not in METHODS:
        raise unknown_choice("method", method, METHODS)
    candidates, _ = grid.matched_pairs()
    matched = MatchedPairs(model, grid, candidates)
    firing = matched.firing_stats()
    rows, counts = pairs_to_use(grid, firing.right, pairs, generator(seed, "pairs"))
    tensors = importance_stats(matched, rows, firing, METHODS[method], seed, resamples)
    return NeuronScores(matched, tensors, counts, method, resamples)


def importance_stats(
    matched: MatchedPairs, rows: Tensor, firing: FiringStats, method: Method, seed: int,
    resamples: int,
) -> ImportanceTensors:  # fmt: skip
    """Return the importance of every neuron over these rows [n] of the pairs.

    The means over all pairs, over halves and over bootstrap resamples are all weighted means, so
    each chunk of pairs adds one matrix product: weights [mean, pair] times effects [pair, neuron].
    Tasks share the weights of their pairs. Dead neurons have no effect and are left out.
    """
    device, n_tasks = matched.model.readout.weight.device, len(matched.grid.tasks)
    live = (firing.density > 0).any(dim=0).nonzero().squeeze(-1).to(device)
    mean_acts = firing.mean_acts.to(device)[live]
    sums = torch.zeros(n_tasks, 3 + resamples, len(live), device=device)
    weight_sums = torch.zeros(3 + resamples, device=device)
    mean_ablation = torch.zeros(n_tasks, len(live), device=device)
    by_position = torch.zeros(n_tasks, matched.grid.answers.shape[-1] - 1, len(live), device=device)
    n_at_position = torch.zeros(by_position.shape[:2], dtype=torch.int64, device=device)
    draw = generator(seed, "importance")
    halves = torch.randperm(len(rows), generator=draw) % 2
    for chunk, half in zip(rows.split(CHUNK), halves.split(CHUNK), strict=True):
        all_and_halves = torch.stack([torch.ones_like(half), 1 - half, half])
        bootstrap = poisson_weights(resamples, len(half), draw)
        weights = torch.cat([all_and_halves, bootstrap]).to(device)
        weight_sums += weights.sum(dim=1)
        for task in range(n_tasks):
            batch, resid = matched.batch(task, chunk)
            effects = method(matched.model, batch, resid, live, mean_acts)
            real = batch.answers[:, 1:] != PAD
            n_tokens, length = real.sum(dim=1, keepdim=True), real.shape[1]
            sums[task].addmm_(weights, effects.zero.sum(dim=1) / n_tokens)
            mean_ablation[task] += (effects.mean.sum(dim=1) / n_tokens).sum(dim=0)
            by_position[task, :length] += effects.zero.sum(dim=0)
            n_at_position[task, :length] += real.sum(dim=0)
    means = sums / weight_sums.clamp(min=1).unsqueeze(-1)
    # A resample of very few pairs can be empty: it counts as all pairs.
    resampled = torch.where(weight_sums[3:, None] > 0, means[:, 3:], means[:, :1])
    interval = percentile_interval(resampled, dim=1) if len(rows) > 1 else None

    def of_all(values: Tensor) -> Tensor:  # [..., live] → [..., d_sae] on the CPU
        zeros = values.new_zeros(*values.shape[:-1], len(firing.mean_acts))
        return zeros.index_copy_(-1, live, values).cpu()

    return ImportanceTensors(
        importance=of_all(means[:, 0]),
        low=of_all(interval[0]) if interval else None,
        high=of_all(interval[1]) if interval else None,
        halves=of_all(means[:, 1:3]),
        mean_ablation=of_all(mean_ablation / len(rows)),
        by_position=of_all(by_position / n_at_position.clamp(min=1).unsqueeze(-1)),
        n_at_position=n_at_position.cpu(),
        density=firing.density,
        mean_acts=firing.mean_acts,
        pairs=matched.pairs[rows],
    )


def report_importance(scores: NeuronScores) -> Importance:
    """Return the report: the most important neurons, alone and together, and how sure it all is."""
    tensors, names = scores.tensors, scores.matched.grid.task_names
    top = [top_neurons(row, TOP).tolist() for row in tensors.importance]
    sets = [top_neurons(row, TOP_JOINT) for row in tensors.importance]
    joint = joint_effects(scores.matched, tensors.pairs, sets, tensors.importance)
    live = tensors.live  # the others all tie at 0
    zero, mean = tensors.importance[:, live], tensors.mean_ablation[:, live]
    return Importance(
        method=scores.method,
        pairs=scores.pairs,
        resamples=scores.resamples,
        d_sae=len(live),
        n_live=int(live.sum()),
        top={name: [_row(tensors, names, i) for i in top[t]] for t, name in enumerate(names)},
        split_half={name: spearman(*tensors.halves[t, :, live]) for t, name in enumerate(names)},
        zero_and_mean={name: spearman(zero[t], mean[t]) for t, name in enumerate(names)},
        joint=dict(zip(names, joint, strict=True)),
        definitions=DEFINITIONS,
    )


def top_neurons(importance: Tensor, n: int) -> Tensor:
    """Return up to n neurons of an importance [d_sae] above `FLOOR`, the largest first."""
    best = importance.topk(min(n, len(importance)))
    return best.indices[best.values > FLOOR]


def _row(tensors: ImportanceTensors, names: list[str], neuron: int) -> NeuronRow:
    tasks, low, high = {}, tensors.low, tensors.high
    for task, name in enumerate(names):
        at = task, neuron
        means = zip(tensors.by_position[task, :, neuron], tensors.n_at_position[task], strict=True)
        tasks[name] = NeuronForTask(
            importance=float(tensors.importance[at]),
            ci95=None if low is None or high is None else (float(low[at]), float(high[at])),
            mean_ablation=float(tensors.mean_ablation[at]),
            by_position=[float(mean) if n else None for mean, n in means],
            density=float(tensors.density[at]),
        )
    return NeuronRow(neuron, tasks)
