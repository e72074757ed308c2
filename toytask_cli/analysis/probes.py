"""Linear probes: can the answer's first token be read off a block of the model?

A probe is a ridge regression from a block's output to the one-hot first token. It is fitted on
training examples, its strength is chosen on validation, and its accuracy is measured on unseen
examples. An operand can be read off even fresh weights, so an accuracy means little without that of
a model that was never taught the task.
"""

from collections.abc import Iterator, Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.analysis.generate import Variant, teacher_forced
from toytask_cli.dataset import Examples, Grid
from toytask_cli.hooks import cache_activations
from toytask_cli.model import Transformer
from toytask_cli.rng import generator

# What a probe reads: all prompt tokens of the encoder's output, the rest where the answer begins.
BLOCKS = {
    "encoder": "the encoder's output at all prompt tokens",
    "decoder": "x, with the neurons removed",
    "sae": "the neurons' activations at that x",
    "recon": "the SAE's reconstruction of that x",
    "logits": "the logits, as log-probabilities",
}
STRENGTHS = [10.0**power for power in range(-2, 4)]  # of the ridge penalty
MAX_EXAMPLES = 5000  # of a split; more are sampled


def probe(
    model: Transformer, variant: Variant, grid: Grid, tasks: Sequence[int], seed: int
) -> dict[str, float]:
    """Return, for each of `BLOCKS`, the share of unseen first tokens that its probes name.

    Each task has a probe of its own; the share is over the examples of all of them.

    Args:
        model: to probe, with the variant applied.
        variant: the ablation in place.
        grid: the examples.
        tasks: indices of the tasks whose answers to look for.
        seed: of the samples of splits that are too large.
    """
    right: dict[str, list[Tensor]] = {block: [] for block in BLOCKS}
    for task in tasks:
        splits = ("train", "validation", grid.report_split)
        samples = [_sample(grid, split, task, seed) for split in splits]
        with variant.applied_to(model):
            inputs = [features(model, examples) for examples in samples]
        targets = [examples.answers[:, 1] for examples in samples]
        for block in BLOCKS:
            right[block].append(named_by_probe([each[block] for each in inputs], targets))
    return {block: float(torch.cat(rows).double().mean()) for block, rows in right.items()}


def features(model: Transformer, examples: Examples) -> dict[str, Tensor]:
    """Return block → [n, width] float64, what a probe reads of each example."""
    rows: dict[str, list[Tensor]] = {block: [] for block in BLOCKS}
    with cache_activations(model, [block for block in BLOCKS if block != "logits"]) as cache:
        for _, output in teacher_forced(model, examples):
            outputs = {**cache, "logits": output.logits.log_softmax(dim=-1)}
            for block, row in rows.items():
                values = outputs[block]
                row.append(values.flatten(1) if block == "encoder" else values[:, 0])
    return {block: torch.cat(row).double().cpu() for block, row in rows.items()}


def named_by_probe(inputs: Sequence[Tensor], targets: Sequence[Tensor]) -> Tensor:
    """Fit on the first of three samples, choose the strength on the second; measure on the third.

    Args:
        inputs: [n, width] of each sample.
        targets: [n] classes of each.

    Returns:
        [n] whether the probe names the class, for the third sample.
    """
    classes = F.one_hot(targets[0], int(max(map(torch.max, targets))) + 1).double()

    def right(fit: tuple[Tensor, Tensor], sample: int) -> Tensor:
        return (inputs[sample] @ fit[0] + fit[1]).argmax(dim=-1) == targets[sample]

    fits = ridge(inputs[0], classes, STRENGTHS)
    return right(max(fits, key=lambda fit: int(right(fit, 1).sum())), 2)


def ridge(
    inputs: Tensor, targets: Tensor, strengths: Sequence[float]
) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield weights and offset of a ridge regression of each strength; offsets are not penalised.

    With X and Y less their means and XᵀX = QΛQᵀ, the weights are Q (Λ + s)⁻¹ Qᵀ XᵀY.

    Args:
        inputs: [n, width] X.
        targets: [n, classes] Y.
        strengths: numbers s to add to the diagonal of XᵀX.
    """
    middle, offset = inputs.mean(dim=0), targets.mean(dim=0)
    inputs = inputs - middle
    values, vectors = torch.linalg.eigh(inputs.T @ inputs)
    rotated = vectors.T @ (inputs.T @ (targets - offset))
    for strength in strengths:
        weights = vectors @ (rotated / (values + strength)[:, None])
        yield weights, offset - middle @ weights


def _sample(grid: Grid, split: str, task: int, seed: int) -> Examples:
    examples = grid.split(split)
    examples = examples[examples.tasks == task]
    order = torch.randperm(len(examples), generator=generator(seed, f"probe {split}"))
    return examples[order[:MAX_EXAMPLES]]
