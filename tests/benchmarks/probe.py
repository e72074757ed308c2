"""Is the ability deleted, or only suppressed? Where a linear probe still finds the answer.

    python tests/benchmarks/probe.py runs/reference

A ridge regression from one block's output to the answer's first token, fitted on the training
part, its strength chosen on validation, its accuracy on test. The encoder and x come before the
removal, so no removal changes them; fresh weights show what a probe finds where nothing was learnt.
Neurons are chosen at tolerance 0.1, and the probe is fitted anew after each removal.
"""

from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext

import torch
import torch.nn.functional as F
from shared import CPU, neurons_by_task, parser, percent
from tables import print_table
from torch import Tensor

from toytask_cli.analysis.generate import teacher_forced
from toytask_cli.dataset import SPLITS, Examples, Grid
from toytask_cli.hooks import ERRORS, recording, removing
from toytask_cli.model import Transformer, new_model
from toytask_cli.runs.run import Run

STRENGTHS = [10.0**power for power in range(-2, 4)]  # of the ridge


def features(model: Transformer, examples: Examples, block: str) -> Tensor:
    """[n, width] the encoder's output at all prompt tokens, or x where the answer begins."""
    with recording(model) as record:
        found = [
            record[block].flatten(1) if block == "encoder" else record[block][:, 0]
            for _ in teacher_forced(model, examples)
        ]
    return torch.cat(found).double()


def ridge(inputs: Tensor, targets: Tensor, strength: float) -> tuple[Tensor, Tensor]:
    """Weights and offset of the regression, nothing held back from the offset.

    Args:
        inputs: [n, width].
        targets: [n, classes].
        strength: what is added to the diagonal of the inputs' squares.
    """
    middle, offset = inputs.mean(dim=0), targets.mean(dim=0)
    inputs = inputs - middle
    squares = inputs.T @ inputs
    squares.diagonal().add_(strength)
    weights = torch.linalg.solve(squares, inputs.T @ (targets - offset))
    return weights, offset - middle @ weights


def probe(model: Transformer, grid: Grid, task: int, block: str) -> float:
    """Share of the task's test answers whose first token the probe names."""
    inputs, tokens = {}, {}
    for part in SPLITS:
        examples = grid.split(part)
        examples = examples.take(examples.tasks == task)
        inputs[part] = features(model, examples, block)
        tokens[part] = examples.answers[:, 1]
    classes = F.one_hot(tokens["train"], len(grid.tokenizer)).double()

    def accuracy(part: str, fit: tuple[Tensor, Tensor]) -> float:
        said = (inputs[part] @ fit[0] + fit[1]).argmax(dim=-1)
        return float((said == tokens[part]).double().mean())

    fits = [ridge(inputs["train"], classes, strength) for strength in STRENGTHS]
    return accuracy("test", max(fits, key=lambda fit: accuracy("validation", fit)))


def places(
    model: Transformer, fresh: Transformer, removed: dict[str, Tensor]
) -> Iterator[tuple[str, Transformer, str, AbstractContextManager[None]]]:
    """Where to look: a label, the model, its block, and the removal meanwhile."""
    for block, label in (("encoder", "the encoder's output"), ("decoder", "x")):
        yield f"{label}, fresh weights", fresh, block, nullcontext()
        yield label, model, block, nullcontext()
    for error in ERRORS:
        for task, neurons in removed.items():
            label = f"x, {task} removed, error {error}"
            yield label, model, "decoder", removing(model, neurons, error)


def main() -> None:
    """Prints one line a place, as Markdown."""
    run = Run.open(parser(__doc__, figure=False).parse_args().run)
    recipe, grid = run.config.recipe, run.grid()
    model, fresh = run.model(grid, CPU), new_model(recipe, len(grid.tokenizer))
    removed = neurons_by_task(model, grid, recipe.seed)
    rows = []
    for label, seen, block, removal in places(model, fresh, removed):
        with removal:
            shares = [probe(seen, grid, task, block) for task in range(len(grid.tasks))]
        rows.append([label, *map(percent, shares)])
    print_table(["probe on", *(f"{task} %" for task in removed)], rows)


if __name__ == "__main__":
    main()
