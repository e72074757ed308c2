"""All tasks at the same operand pairs, and what a model makes of them."""

from collections.abc import Iterator

import torch
from torch import Tensor

from toytask_cli.analysis.prediction import BATCH
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
        longest = grid.answers.shape[-1] - 1
        self._shape = (len(pairs), longest, model.readout.in_features)
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
        examples = self._examples(task, rows)
        if not self._is_kept():
            return examples, self._resid(examples)
        if task not in self._kept:
            self._kept[task] = self._all(task)
        length = examples.answers.shape[1] - 1
        return examples, self._kept[task][rows.to(self._kept[task].device), :length]

    def _is_kept(self) -> bool:
        n, length, d_model = self._shape
        return 4 * len(self.grid.tasks) * n * length * d_model <= KEPT

    def _all(self, task: int) -> Tensor:
        """[pair, length of the longest answer, d_model] x, and 0 beyond an answer's batch."""
        resid = torch.zeros(self._shape, device=self.model.readout.weight.device)
        for rows in torch.arange(len(self.pairs)).split(BATCH):
            made = self._resid(self._examples(task, rows))
            resid[rows[0] : rows[-1] + 1, : made.shape[1]] = made
        return resid

    def _examples(self, task: int, rows: Tensor) -> Examples:
        examples = self.grid.examples(torch.full_like(rows, task), self.pairs[rows])
        return examples.cut().to(self.model.readout.weight.device)

    def _resid(self, examples: Examples) -> Tensor:
        return self.model.residual(examples.prompts, examples.answers[:, :-1])
