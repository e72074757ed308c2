"""All tasks at the same operand pairs, and what a model makes of them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from toytask_cli.analysis.prediction import BATCH, all_residuals
from toytask_cli.dataset import Examples, Grid
from toytask_cli.model import Transformer

# Bytes of x that are kept: those of 20,000 pairs of two tasks, where 2,000 and 5,000 are usual.
KEPT = 2**27


class Matched:
    """All tasks at the same operand pairs, and a model's x at their answers.

    Every question about neurons is one about x. It is made at the first question and kept for the
    next ones; where it would take more than `KEPT` bytes, it is made anew for each.

    Args:
        model: whose weights stay as they are meanwhile.
        grid: the examples.
        pairs: [n] operand pairs.
    """

    def __init__(self, model: Transformer, grid: Grid, pairs: Tensor):
        self.model, self.grid, self.pairs = model, grid, pairs
        positions = len(grid.tasks) * len(pairs) * (grid.answers.shape[-1] - 1)
        self._keeps = 4 * positions * model.readout.in_features <= KEPT
        self._kept: dict[int, Tensor] = {}

    def batches(self, task: int, rows: Tensor | None = None) -> Iterator[tuple[Examples, Tensor]]:
        """`look` at all pairs, or at these rows [n] of them, batch by batch."""
        rows = torch.arange(len(self.pairs)) if rows is None else rows
        return (self.look(task, part) for part in rows.split(BATCH))

    @torch.no_grad()
    def look(self, task: int, rows: Tensor) -> tuple[Examples, Tensor]:
        """One task at these rows [n] of `pairs`.

        Returns:
            The examples, answers cut to the longest, and x [n, length, d_model], anything at pads;
            both on the model's device.
        """
        device = self.model.readout.weight.device
        examples = self._examples(task, self.pairs[rows]).cut().to(device)
        read = examples.answers[:, :-1]
        if not self._keeps:
            return examples, self.model.residual(examples.prompts, read)
        if task not in self._kept:
            self._kept[task] = all_residuals(self.model, self._examples(task, self.pairs))
        return examples, self._kept[task][rows.to(device), : read.shape[1]]

    def _examples(self, task: int, pairs: Tensor) -> Examples:
        return self.grid.examples(torch.full_like(pairs, task), pairs)
