"""Attention patterns of one prompt: name their tokens, and show them in the terminal."""

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from toytask_cli.cli.console import plain_table
from toytask_cli.cli.heatmap import shade

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.table import Table
    from torch import Tensor

    from toytask_cli.figures.data import AttentionPattern

# Hook point → what it is, and the sequences that its queries and its keys are from.
ATTENTION = {
    "encoder-attention": ("encoder self-attention", "prompt", "prompt"),
    "decoder-attention": ("decoder self-attention", "answer", "answer"),
    "cross-attention": ("cross-attention", "answer", "prompt"),
}


def attention_patterns(
    values: "Mapping[str, Tensor]", prompt_tokens: Sequence[str], answer_tokens: Sequence[str]
) -> "dict[str, AttentionPattern]":
    """Return the attention patterns among the activations of one prompt, with their tokens.

    Args:
        values: hook point → its values on the CPU, [heads, queries, keys] of attention weights;
            other hook points are left out.
        prompt_tokens: the tokens that the encoder read.
        answer_tokens: the tokens that the decoder read, which are the answer's but for the last.
    """
    from toytask_cli.figures.data import AttentionPattern

    tokens = {"prompt": list(prompt_tokens), "answer": list(answer_tokens)}
    return {
        name: AttentionPattern(title, tokens[queries], tokens[keys], values[name].numpy())
        for name, (title, queries, keys) in ATTENTION.items()
        if name in values
    }


def describe_attention(pattern: "AttentionPattern") -> dict[str, Any]:
    """Return the pattern for a JSON report; weights are [heads][queries][keys]."""
    return {
        "query_tokens": pattern.query_tokens,
        "key_tokens": pattern.key_tokens,
        "weights": pattern.values.tolist(),
    }


def attention_view(pattern: "AttentionPattern") -> "RenderableType":
    """Return a small heatmap for each head, as many side by side as the terminal has space for."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    tables = [_head_table(pattern, head) for head in range(len(pattern.values))]
    legend = "rows: the token that attends; columns: the token attended to; numbers in %"
    return Group(Columns(tables), Text(legend, "dim"))


def _head_table(pattern: "AttentionPattern", head: int) -> "Table":
    rows = (
        [token, *(f"{shade(weight, 1)}{100 * weight:3.0f}" for weight in weights)]
        for token, weights in zip(pattern.query_tokens, pattern.values[head].tolist(), strict=True)
    )
    return plain_table([f"head {head}", *pattern.key_tokens], rows)
