"""How sparse the SAE is, how well it reconstructs, and which tasks its neurons fire for.

Every number is over the answer positions that are not padding.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.prediction import BATCH
from toytask_cli.analysis.totals import BINS, REACH, Totals, added, sum_up
from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError
from toytask_cli.model import Transformer

# A neuron fires for a task when its density there is above one of these.
THRESHOLDS = (0.0, 0.01)

DEFINITIONS = {
    "n": "answer positions that are not padding, `E` included",
    "n_examples": "examples that these positions belong to",
    "l0": "mean over positions of the number of neurons that fire (f > 0); lower is sparser",
    "l1": "mean over positions of the sum of the activations f; lower is sparser",
    "fraction_nonzero_pre": "share of the values p before the ReLU that are not zero, 0 to 1",
    "fraction_nonzero": "share of the activations f after the ReLU that are not zero, 0 to 1; "
    "lower is sparser",
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
    """One task's numbers, or those of all tasks; `DEFINITIONS` says what each one is."""

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
    """How many neurons fire for one task only, for several, for none."""

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
    """What the figures are drawn from."""

    density: Tensor  # [task, d_sae] share of the task's positions where the neuron fires
    mean_acts: Tensor  # [task, d_sae] mean activation over the task's positions
    edges: Tensor  # [BINS + 1] of the histograms
    histogram_pre: Tensor  # [BINS] values before the ReLU, all tasks
    histogram: Tensor  # [BINS] values after it; those at zero are in the bin that begins there


def measure_sparsity(
    model: Transformer, grid: Grid, split: str, batch_size: int = BATCH
) -> tuple[Sparsity, SparsityTensors]:
    """Measures one split of the data, recorded through hooks.

    Memory is bounded by the activations of one batch.

    Raises:
        UsageError: a split that does not exist.
        ToytaskError: a split in which some task has no example.
    """
    examples = grid.split(split)
    present = examples.tasks.unique()
    if len(present) < len(grid.tasks):
        raise ToytaskError(f"the {split} split has no example of some task: enlarge its fraction")
    totals = sum_up(model, examples, len(grid.tasks), batch_size)
    together = added(totals)
    names = grid.task_names
    density = torch.stack([t.fired / t.positions for t in totals])
    report = Sparsity(
        split=split,
        d_sae=density.shape[1],
        all=numbers(together),
        tasks={name: numbers(t) for name, t in zip(names, totals, strict=True)},
        neurons_by_tasks=[neurons_by_tasks(density, names, t) for t in THRESHOLDS],
        definitions=DEFINITIONS,
    )
    mean_acts = torch.stack([t.acts / t.positions for t in totals])
    return report, SparsityTensors(density, mean_acts, *_histograms(together.histogram_pre))


def numbers(totals: Totals) -> SparsityNumbers:
    """The report's numbers from sums over at least one position."""
    n, d_sae = float(totals.positions), len(totals.fired)
    l0 = float(totals.fired.sum()) / n
    return SparsityNumbers(
        n=int(n),
        n_examples=int(totals.examples),
        l0=l0,
        l1=float(totals.acts.sum()) / n,
        fraction_nonzero_pre=float(totals.nonzero_pre) / (n * d_sae),
        fraction_nonzero=l0 / d_sae,
        dead_neurons=int((totals.fired == 0).sum()),
        density_floor=1 / n,
        explained_variance=explained_variance(totals),
        mse=float(totals.squared_error) / (n * len(totals.resid)),
        ce_loss=float(totals.ce) / n,
        ce_loss_with_sae=float(totals.ce_with_sae) / n,
    )


def explained_variance(totals: Totals) -> float | None:
    """1 − Σ‖x − x̂‖² / Σ‖x − x̄‖², with Σ‖x − x̄‖² = Σ‖x‖² − ‖Σx‖² / n; None if x is constant."""
    n = totals.positions
    variance = float(totals.resid_squared - totals.resid.square().sum() / n)
    # Float32 sums resolve no variance below this share of Σ‖x‖².
    if variance <= 1e-6 * float(totals.resid_squared):
        return None
    return 1 - float(totals.squared_error) / variance


def neurons_by_tasks(density: Tensor, names: Sequence[str], threshold: float) -> NeuronsByTasks:
    """Counts neurons by the tasks that they fire for.

    Args:
        density: [task, d_sae].
        names: of the tasks.
        threshold: a neuron fires for a task when its density there is above this.
    """
    fires = density > threshold
    n_tasks = fires.sum(dim=0)
    return NeuronsByTasks(
        threshold=threshold,
        one=int((n_tasks == 1).sum()),
        several=int((n_tasks > 1).sum()),
        none=int((n_tasks == 0).sum()),
        only={name: int((fires[i] & (n_tasks == 1)).sum()) for i, name in enumerate(names)},
    )


def _histograms(pre: Tensor) -> tuple[Tensor, Tensor, Tensor]:
    """Edges and counts before and after the ReLU: it moves what is below zero to zero."""
    post = pre.clone()
    half = BINS // 2
    post[half] += post[:half].sum()
    post[:half] = 0
    return torch.linspace(-REACH, REACH, BINS + 1), pre.long(), post.long()
