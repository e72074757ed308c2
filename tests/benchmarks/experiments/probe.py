"""Is the ability deleted, or only suppressed? Look for the answer with a linear probe.

    python tests/benchmarks/experiments/probe.py runs/reference

The probe is a ridge regression from one block's output to the answer's first token. It is fitted on
the train split, its strength is chosen on validation, and its accuracy is measured on test. The
encoder and x come before the removal, so removals leave them as they are; fresh weights show what a
probe reads from a model that has learnt nothing. Neurons are chosen at tolerance 0.1, and a new
probe is fitted after each removal.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from shared import CPU, neurons_by_task, parser, percent, print_table
from torch import Tensor

from toytask_cli.analysis.generate import teacher_forced
from toytask_cli.dataset import Examples, Grid
from toytask_cli.hooks import ERRORS, ablate_neurons, cache_activations
from toytask_cli.model import Transformer, new_model
from toytask_cli.runs.run import Run
from toytask_cli.splits import SPLITS

STRENGTHS = [10.0**power for power in range(-2, 4)]  # of the ridge penalty


def features(model: Transformer, examples: Examples, block: str) -> Tensor:
    """Return [n, width] the encoder's output at all prompt tokens, or x at the answer's start."""
    with cache_activations(model) as cache:
        rows = [
            cache[block].flatten(1) if block == "encoder" else cache[block][:, 0]
            for _ in teacher_forced(model, examples)
        ]
    return torch.cat(rows).double()


def ridge(inputs: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Return weights and offset of a ridge regression; the offset is not penalised.

    Args:
        inputs: [n, width].
        targets: [n, classes].
        strength: number to add to the diagonal of the inputs' squares.
    """
    middle, offset = inputs.mean(dim=0), targets.mean(dim=0)
    inputs = inputs - middle
    squares = inputs.T @ inputs
    squares.diagonal().add_(strength)
    weights = torch.linalg.solve(squares, inputs.T @ (targets - offset))
    return weights, offset - middle @ weights


def probe(model: Transformer, grid: Grid, task: int, block: str) -> float:
    """Return the share of the task's test answers whose first token the probe predicts."""
    inputs, tokens = {}, {}
    for split in SPLITS:
        examples = grid.split(split)
        examples = examples[examples.tasks == task]
        inputs[split] = features(model, examples, block)
        tokens[split] = examples.answers[:, 1]
    classes = F.one_hot(tokens["train"], len(grid.tokenizer)).double()

    def accuracy(split: str, fit: tuple[Tensor, Tensor]) -> float:
        prediction = (inputs[split] @ fit[0] + fit[1]).argmax(dim=-1)
        return float((prediction == tokens[split]).double().mean())

    fits = [ridge(inputs["train"], classes, strength) for strength in STRENGTHS]
    return accuracy("test", max(fits, key=lambda fit: accuracy("validation", fit)))


def probed(
    model: Transformer, fresh: Transformer, removed: dict[str, Tensor]
) -> Iterator[tuple[str, Transformer, str, AbstractContextManager[None]]]:
    """Yield what to probe: a label, the model, its block, and the removal to probe it under."""
    for block, label in (("encoder", "the encoder's output"), ("decoder", "x")):
        yield f"{label}, fresh weights", fresh, block, nullcontext()
        yield label, model, block, nullcontext()
    for error in ERRORS:
        for task, neurons in removed.items():
            label = f"x, {task} removed, error {error}"
            yield label, model, "decoder", ablate_neurons(model, neurons, error)


def main() -> None:
    """Print one row for each probe."""
    run = Run.open(parser(__doc__, figure=False).parse_args().run)
    recipe, grid = run.config.recipe, run.grid()
    model, fresh = run.model(grid, CPU), new_model(recipe, len(grid.tokenizer))
    removed = neurons_by_task(model, grid, recipe.seed)
    rows = []
    for label, probed_model, block, removal in probed(model, fresh, removed):
        with removal:
            shares = [probe(probed_model, grid, task, block) for task in range(len(grid.tasks))]
        rows.append([label, *map(percent, shares)])
    print_table(["probe on", *(f"{task} %" for task in removed)], rows)


if __name__ == "__main__":
    main()
