"""Multi-head attention: of positions to each other, and to those of another sequence."""

import torch
from torch import Tensor, nn

from toytask_cli.alike import Alike, Places
from toytask_cli.embedding import Embedded


class Attention(nn.Module):
    """What self-attention and cross-attention have in common.

    Args:
        d_model: width of both sides.
        n_heads: they divide the width.
        n_positions: that either side can have.
        causal: whether a position looks at none after it.
    """

    visible: Tensor  # [n_positions · n_heads] squared: 0 where one sees the other, −∞ elsewhere

    def __init__(self, d_model: int, n_heads: int, n_positions: int, causal: bool):
        super().__init__()
        self.n_heads = n_heads
        self.out = nn.Linear(d_model, d_model)
        seen = torch.ones(n_positions, n_positions)
        seen = torch.kron(seen.tril() if causal else seen, torch.eye(n_heads))
        self.register_buffer("visible", seen.log(), persistent=False)

    def _attend(self, queries: Tensor, keys: Tensor, values: Tensor) -> Tensor:
        """[n, q, d] and twice [n, k, d] → [n, q, d]."""
        # A position's heads lie side by side in memory. All meet all others in one product, and
        # different heads are hidden from each other: at 3 to 5 positions that costs less than to
        # copy the heads apart, and less than the fused kernels.
        query, key, value = (self._heads(part) for part in (queries, keys, values))
        visible = self.visible[: query.shape[1], : key.shape[1]]
        scores = visible.add(query @ key.mT, alpha=query.shape[-1] ** -0.5)
        mixed = scores.softmax(dim=-1).to(value.dtype) @ value
        return mixed.view_as(queries)

    def _heads(self, x: Tensor) -> Tensor:
        """[n, length, d] → [n, length · heads, d / heads]."""
        return x.reshape(x.shape[0], x.shape[1] * self.n_heads, -1)


class SelfAttention(Attention):
    """Multi-head attention of positions to each other."""

    def __init__(self, d_model: int, n_heads: int, n_positions: int, causal: bool = False):
        super().__init__(d_model, n_heads, n_positions, causal)
        self.query_key_value = nn.Linear(d_model, 3 * d_model)

    def forward(self, x: Embedded) -> Tensor:
        """Tokens → [n, length, d], or [distinct, d] once for all that have begun alike."""
        parts = self.query_key_value(x.rows).chunk(3, dim=-1)
        mixed = self._attend(*(x.same.look_up(part) for part in parts))
        return self.out(x.begun.pick(mixed))


class CrossAttention(Attention):
    """Multi-head attention to the positions of another sequence."""

    def __init__(self, d_model: int, n_heads: int, n_positions: int):
        super().__init__(d_model, n_heads, n_positions, causal=False)
        self.query = nn.Linear(d_model, d_model)
        self.key_value = nn.Linear(d_model, 2 * d_model)

    def forward(self, x: Tensor, places: Places, source: Tensor) -> Tensor:
        """Every place looks at source [n, source length, d] → [n, length, d].

        Args:
            x: what is at the places, once for those that are alike.
        """
        queries = self.query(x)
        if isinstance(places, Alike):
            return self.out(self._fetch(queries, places, source))
        return self.out(self._attend(queries, *self.key_value(source).chunk(2, dim=-1)))

    def _fetch(self, queries: Tensor, places: Alike, source: Tensor) -> Tensor:
        """What `_attend` finds by keys and values of source, without making them.

        With s a position of source, q·(W_k s + b_k) = (W_kᵀ q)·s + q·b_k, whose last term is the
        same for all s and of no consequence; and Σ a (W_v s + b_v) = W_v Σ a s + b_v, as Σ a = 1.
        Few queries, alike at many places, are then multiplied where all of source would be.
        """
        n, _, d = source.shape
        to_key, to_value = self.key_value.weight.view(2, self.n_heads, -1, d)
        asked = self._by_head(queries * to_key.shape[1] ** -0.5) @ to_key  # [heads, distinct, d]
        asked = places.look_up(asked.transpose(0, 1).flatten(1)).view(n, -1, d)
        # With source first its gradient comes out as source lies in memory.
        weights = (source @ asked.mT).softmax(dim=1)  # [n, source length, length · heads]
        fetched = self._by_head((weights.mT @ source).view(-1, self.n_heads * d))
        mixed = (fetched @ to_value.mT).transpose(0, 1).reshape(n, -1, d)
        return mixed + self.key_value.bias[d:]

    def _by_head(self, x: Tensor) -> Tensor:
        """[rows, heads · width] → [heads, rows, width]."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(0, 1)
