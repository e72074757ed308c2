"""Sparsity and reconstruction of the SAE, and the tasks that its neurons fire for.

Every number is over the answer positions that are not padding, worked out from sums that add up
over batches: memory does not grow with the data, and the batch size changes nothing.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.analysis.generate import BATCH, teacher_forced
from toytask_cli.dataset import Examples, Grid
from toytask_cli.errors import ToytaskError
from toytask_cli.model import Output, Transformer
from toytask_cli.tokenizer import PAD

# A neuron fires for a task when its density there is above one of these.
THRESHOLDS = (0.0, 0.01)

# Bins of the histogram; the first and the last also hold what lies beyond. Zero is an edge.
BINS, REACH = 200, 10.0

DEFINITIONS = {
    "n": "answer positions that are not padding, `E` included",
    "n_examples": "examples that these positions belong to",
    "l0": "mean over positions of the number of neurons that fire (f > 0); lower is sparser",
    "l1": "mean over positions of the sum of the activations f; lower is sparser",
    "fraction_nonzero_pre": "share of the pre-activations p that are not zero, 0 to 1",
    "fraction_nonzero": "share of the activations f that are not zero, 0 to 1; lower is sparser",
    "dead_neurons": "neurons that fire at none of the n positions; lower is better",
    "density_floor": "1 / n, the smallest density other than zero that n positions can show",
    "explained_variance": "1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², x̄ the mean over these positions in each "
    "dimension; 1 is perfect, 0 is what the mean alone would give, higher is better; null where "
    "x does not vary",
    "mse": "mean over positions and dimensions of (x − x̂)²; lower is better",
    "ce_loss": "mean over positions of the cross-entropy, nats; lower is better",
    "ce_loss_with_sae": "the same with the SAE's reconstruction x̂ in place of x; lower is better",
    "neurons_by_tasks": "neurons by the number of tasks that they fire for: a neuron fires for a "
    "task when its density, the share of the task's positions where f > 0, is above the threshold",
    "histogram": f"counts of values in bins of width {2 * REACH / BINS:g} from {-REACH:g} to "
    f"{REACH:g}, the outermost bins holding what lies beyond",
}


@dataclass(frozen=True)
class SparsityNumbers:
    """The numbers of one task, or of all tasks; `DEFINITIONS` says what each one is."""

    n: int
    n_examples: int
    l0: float
    l1: float
    fraction_nonzero_pre: float
    fraction_nonzero: float
    dead_neurons: int
    density_floor: float
    explained_variance: float | None
    mse: float
    ce_loss: float
    ce_loss_with_sae: float


@dataclass(frozen=True)
class NeuronsByTasks:
    """The number of neurons that fire for one task only, for several, for none."""

    threshold: float
    one: int
    several: int
    none: int
    only: dict[str, int]  # task → neurons that fire for it alone


@dataclass(frozen=True)
class Sparsity:
    """The report of `toytask sparsity`."""

    split: str
    d_sae: int
    all: SparsityNumbers
    tasks: dict[str, SparsityNumbers]
    neurons_by_tasks: list[NeuronsByTasks]
    definitions: dict[str, str]


class SparsityTensors(NamedTuple):
    """The data of the figures."""

    density: Tensor  # [task, d_sae] share of the task's positions where the neuron fires
    mean_acts: Tensor  # [task, d_sae] mean activation over the task's positions
    edges: Tensor  # [BINS + 1] of the histograms
    histogram_pre: Tensor  # [BINS] int64 pre-activations of all tasks
    histogram: Tensor  # [BINS] int64 activations; those of zero are in the bin that begins there


class SparsitySums(NamedTuple):
    """Sums over answer positions, float64 on the CPU."""

    positions: Tensor  # []
    examples: Tensor  # []
    ce: Tensor  # [] cross-entropy, nats
    ce_with_sae: Tensor  # [] the same with x̂ in place of x
    squared_error: Tensor  # [] ‖x − x̂‖²
    resid: Tensor  # [d_model] x
    resid_squared: Tensor  # [] ‖x‖²
    nonzero_pre: Tensor  # [] pre-activations that are not zero
    acts: Tensor  # [d_sae] f
    fired: Tensor  # [d_sae] positions with f > 0
    histogram_pre: Tensor  # [BINS] pre-activations
    histogram: Tensor  # [BINS] activations


def measure_sparsity(
    model: Transformer, grid: Grid, split: str, batch_size: int = BATCH
) -> tuple[Sparsity, SparsityTensors]:
    """Measure the SAE on one split of the data.

    Memory is bounded by the activations of one batch.

    Raises:
        UsageError: a split that does not exist.
        ToytaskError: a split in which some task has no example.
    """
    examples = grid.split(split)
    if len(examples.tasks.unique()) < len(grid.tasks):
        raise ToytaskError(f"the {split} split has no example of some task: enlarge its fraction")
    by_task = [
        sparsity_sums(model, examples[examples.tasks == task], batch_size)
        for task in range(len(grid.tasks))
    ]
    total = add_up(by_task)
    density = torch.stack([sums.fired / sums.positions for sums in by_task])
    mean_acts = torch.stack([sums.acts / sums.positions for sums in by_task])
    names = grid.task_names
    report = Sparsity(
        split=split,
        d_sae=model.sae.d_sae,
        all=numbers(total),
        tasks={name: numbers(sums) for name, sums in zip(names, by_task, strict=True)},
        neurons_by_tasks=[neurons_by_tasks(density, names, t) for t in THRESHOLDS],
        definitions=DEFINITIONS,
    )
    edges = torch.linspace(-REACH, REACH, BINS + 1)
    before, after = total.histogram_pre.long(), total.histogram.long()
    return report, SparsityTensors(density, mean_acts, edges, before, after)


@torch.no_grad()
def sparsity_sums(model: Transformer, examples: Examples, batch_size: int = BATCH) -> SparsitySums:
    """Return the sums over all examples, of which there must be some."""
    passes = teacher_forced(model, examples, batch_size)
    return add_up([_batch_sums(model, batch.answers[:, 1:], output) for batch, output in passes])


def _batch_sums(model: Transformer, targets: Tensor, output: Output) -> SparsitySums:
    real = targets != PAD
    logits, resid, recon, pre_acts, acts, _ = (tensor[real] for tensor in output)
    sums = SparsitySums(
        positions=real.sum(),
        examples=torch.tensor(len(targets)),
        ce=F.cross_entropy(logits, targets[real], reduction="sum"),
        ce_with_sae=F.cross_entropy(model.readout(recon), targets[real], reduction="sum"),
        squared_error=(resid - recon).square().sum(),
        resid=resid.sum(dim=0),
        resid_squared=resid.square().sum(),
        nonzero_pre=pre_acts.count_nonzero(),
        acts=acts.sum(dim=0),
        fired=(acts > 0).sum(dim=0),
        histogram_pre=_histogram(pre_acts),
        histogram=_histogram(acts),
    )
    return SparsitySums(*(value.cpu().double() for value in sums))


def _histogram(values: Tensor) -> Tensor:
    return values.cpu().clamp(-REACH, REACH).histc(BINS, -REACH, REACH)


def add_up(parts: Sequence[SparsitySums]) -> SparsitySums:
    """Return the sums over all parts together."""
    return SparsitySums(*(torch.stack(values).sum(dim=0) for values in zip(*parts, strict=True)))


def numbers(sums: SparsitySums) -> SparsityNumbers:
    """Return the report's numbers from sums over at least one position."""
    n, d_sae = float(sums.positions), len(sums.fired)
    l0 = float(sums.fired.sum()) / n
    return SparsityNumbers(
        n=int(n),
        n_examples=int(sums.examples),
        l0=l0,
        l1=float(sums.acts.sum()) / n,
        fraction_nonzero_pre=float(sums.nonzero_pre) / (n * d_sae),
        fraction_nonzero=l0 / d_sae,
        dead_neurons=int((sums.fired == 0).sum()),
        density_floor=1 / n,
        explained_variance=explained_variance(sums),
        mse=float(sums.squared_error) / (n * len(sums.resid)),
        ce_loss=float(sums.ce) / n,
        ce_loss_with_sae=float(sums.ce_with_sae) / n,
    )


def explained_variance(sums: SparsitySums) -> float | None:
    """Return 1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², or None if x is constant.

    Σ‖x − x̄‖² = Σ‖x‖² − ‖Σx‖² / n.
    """
    variance = float(sums.resid_squared - sums.resid.square().sum() / sums.positions)
    # Float32 sums resolve no variance below this share of Σ‖x‖².
    if variance <= 1e-6 * float(sums.resid_squared):
        return None
    return 1 - float(sums.squared_error) / variance


def neurons_by_tasks(density: Tensor, names: Sequence[str], threshold: float) -> NeuronsByTasks:
    """Count neurons by the tasks for which their density [task, d_sae] is above the threshold."""
    fires = density > threshold
    n_tasks = fires.sum(dim=0)
    return NeuronsByTasks(
        threshold=threshold,
        one=int((n_tasks == 1).sum()),
        several=int((n_tasks > 1).sum()),
        none=int((n_tasks == 0).sum()),
        only={name: int((fires[i] & (n_tasks == 1)).sum()) for i, name in enumerate(names)},
    )
