"""Tokens at their positions: what the first layers of encoder and decoder get."""

from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor, nn


class Embedded(NamedTuple):
    """Sequences of tokens. Those that are the same at the same position may share a row.

    What is made of rows one by one is then made once for all tokens that share one, and looked up.
    """

    rows: Tensor  # [distinct, d_model], or [n, length, d_model] where none is shared
    places: Tensor | None  # [n, length] the row of each token; None where none is shared

    @property
    def vectors(self) -> Tensor:
        """[n, length, d_model] each token's row."""
        return self.look_up(self.rows)

    def look_up(self, made: Tensor) -> Tensor:
        """What was made of the rows, at each token: [n, length, width]."""
        return made if self.places is None else F.embedding(self.places, made)


def embed(
    tokens: Tensor, table: nn.Embedding, positions: nn.Embedding, dtype: torch.dtype
) -> Embedded:
    """The sum of a token's vector and its position's, as this type.

    Args:
        tokens: [n, length] ids.
        table: a vector for each token.
        positions: a vector for each position from 0 on, `length` of them or more.
    """
    at, places = torch.arange(tokens.shape[1], device=tokens.device), None
    if sharing_pays(dtype, tokens.device):
        distinct, places = (tokens * len(at) + at).unique(return_inverse=True)
        tokens, at = distinct // len(at), distinct % len(at)
    return Embedded((table(tokens) + positions(at)).to(dtype), places)


def sharing_pays(dtype: torch.dtype, device: torch.device) -> bool:
    """Whether a product costs more than to look its rows up, as it does in float32 on a CPU.

    A GPU would also have to be waited for, to know how many rows there are.
    """
    return dtype == torch.float32 and device.type == "cpu"
