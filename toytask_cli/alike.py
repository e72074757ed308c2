"""Places of sequences that hold the same: what is made of them is made once, and looked up."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor


class Alike(NamedTuple):
    """Places [n, length] of which some are alike. Those share a row."""

    rows: Tensor  # [n, length] the row of each place
    firsts: Tensor  # [distinct] the first place of each row, all places counted through

    @classmethod
    def of(cls, numbers: Tensor) -> "Alike":
        """[n, length] places are alike that have the same number."""
        distinct, rows = numbers.unique(return_inverse=True)
        places = torch.arange(numbers.numel(), device=numbers.device)
        firsts = places.new_empty(len(distinct))
        firsts.scatter_reduce_(0, rows.flatten(), places, "amin", include_self=False)
        return cls(rows, firsts)

    def look_up(self, made: Tensor) -> Tensor:
        """What was made for each row, at each place: [distinct, width] → [n, length, width]."""
        return F.embedding(self.rows, made)

    def pick(self, held: Tensor) -> Tensor:
        """What places hold, once for each row: [n, length, ...] → [distinct, ...]."""
        return held.flatten(0, 1).index_select(0, self.firsts)


class Apart:
    """Places of which none is taken to be like another: each has its own, [n, length, ...]."""

    def look_up(self, made: Tensor) -> Tensor:
        """The same."""
        return made

    def pick(self, held: Tensor) -> Tensor:
        """The same."""
        return held


Places = Alike | Apart
