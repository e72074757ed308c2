"""Tokens at their positions: what the first layers of encoder and decoder get."""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from toytask_cli.alike import Alike, Apart, Places
from toytask_cli.device import products_are_dear


class Embedded(NamedTuple):
    """Sequences of tokens, and which of their places need be worked on only once."""

    rows: Tensor  # [distinct, d_model] a vector for all that are `same`, or [n, length, d_model]
    same: Places  # the same token at the same position
    begun: Places  # the same sequence so far, of which a causal layer makes the same

    @property
    def vectors(self) -> Tensor:
        """[n, length, d_model], or [distinct, d_model] once for all that have begun alike."""
        return self.begun.pick(self.same.look_up(self.rows))


def embed(
    tokens: Tensor, table: nn.Embedding, positions: nn.Embedding, dtype: torch.dtype, causal: bool
) -> Embedded:
    """The sum of a token's vector and its position's, as this type.

    Args:
        tokens: [n, length] ids.
        table: a vector for each token.
        positions: a vector for each position from 0 on, `length` of them or more.
        causal: whether the layer that gets them looks at none that follows.
    """
    at = torch.arange(tokens.shape[1], device=tokens.device)
    if not products_are_dear(dtype, tokens.device):
        return Embedded((table(tokens) + positions(at)).to(dtype), Apart(), Apart())
    same = Alike.of(tokens * len(at) + at)
    rows = table(same.pick(tokens)) + positions(same.firsts % len(at))
    begun = Alike.of(beginnings(tokens, table.num_embeddings)) if causal else Apart()
    return Embedded(rows, same, begun)


def beginnings(tokens: Tensor, vocabulary: int) -> Tensor:
    """[n, length] a number for each token with all before it: equal where those are."""
    n, length = tokens.shape
    number, numbers = tokens.new_zeros(n), []
    for at, column in enumerate(tokens.T):
        # Made small again at every position: of many tokens they would grow beyond 64 bits.
        number = (number * vocabulary + column).unique(return_inverse=True)[1]
        numbers.append(number * length + at)
    return torch.stack(numbers, dim=1)
