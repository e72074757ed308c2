"""The model: an encoder-decoder transformer of one layer each, with an SAE on its output.

As in "Attention is all you need" (Vaswani et al., 2017), post-norm, with learned positions and a
final norm after encoder and decoder. With x the decoder's output at an answer position:

    logits = W_u x + b_u

The SAE reads x as well (see `sae`), but the logits come from x, not from its reconstruction.

In the shapes below n is the number of examples and d is d_model.
"""

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn

from toytask_cli.dataset import padded_length
from toytask_cli.errors import UsageError
from toytask_cli.recipe import Recipe
from toytask_cli.rng import generator
from toytask_cli.sae import SAE_CLASSES, SparseAutoencoder

# Larger models are almost certainly a typo: 400 MB of weights, and four times that to train.
MAX_WEIGHTS = 10**8


class Attention(nn.Module):
    """Multi-head attention from every position of x to the positions of a source.

        softmax(Q Kᵀ / √d_head) V      Q = W_q x      K = W_k source      V = W_v source

    Each head attends within its own d_head = d / n_heads columns; the heads are joined and
    projected by W_o. In self-attention the source is x itself.
    """

    def __init__(self, d_model: int, n_heads: int):
        super().__init__()
        self.n_heads = n_heads
        self.query = nn.Linear(d_model, d_model)
        self.key = nn.Linear(d_model, d_model)
        self.value = nn.Linear(d_model, d_model)
        self.softmax = nn.Softmax(dim=-1)  # a module, so that hooks can read the pattern
        self.out = nn.Linear(d_model, d_model)

    def forward(self, x: Tensor, source: Tensor, causal: bool = False) -> Tensor:
        """Attend from x [n, queries, d] to source [n, keys, d] → [n, queries, d].

        Args:
            x: the positions that attend.
            source: the positions attended to.
            causal: whether a position is kept from attending to later ones.
        """
        query = self._split_heads(self.query(x))
        key = self._split_heads(self.key(source))
        value = self._split_heads(self.value(source))
        scores = query @ key.mT / math.sqrt(query.shape[-1])
        if causal:
            future = scores.new_ones(scores.shape[-2:], dtype=torch.bool).triu(1)
            scores = scores.masked_fill(future, -math.inf)
        pattern = self.softmax(scores)  # [n, heads, queries, keys]
        return self.out((pattern @ value).transpose(1, 2).flatten(2))

    def _split_heads(self, x: Tensor) -> Tensor:
        """[n, length, d] → [n, heads, length, d_head]."""
        return x.unflatten(-1, (self.n_heads, -1)).transpose(1, 2)


class FeedForward(nn.Sequential):
    """Linear, ReLU, linear, at each position by itself."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__(nn.Linear(d_model, d_ff), nn.ReLU(), nn.Linear(d_ff, d_model))


class Encoder(nn.Module):
    """One encoder layer and the final norm."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int):
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.attention_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor) -> Tensor:
        """Encode embedded prompts [n, prompt length, d] → [n, prompt length, d]."""
        x = self.attention_norm(x + self.attention(x, x))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return self.norm(x)


class Decoder(nn.Module):
    """One decoder layer and the final norm."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int):
        super().__init__()
        self.attention = Attention(d_model, n_heads)
        self.attention_norm = nn.LayerNorm(d_model)
        self.cross_attention = Attention(d_model, n_heads)
        self.cross_attention_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, x: Tensor, source: Tensor) -> Tensor:
        """Decode embedded answers [n, length, d] → [n, length, d], none from a later one.

        Args:
            x: the embedded answers.
            source: the encoder's output, [n, prompt length, d].
        """
        x = self.attention_norm(x + self.attention(x, x, causal=True))
        x = self.cross_attention_norm(x + self.cross_attention(x, source))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return self.norm(x)


class Output(NamedTuple):
    """The results of a forward pass, at every answer position."""

    logits: Tensor  # [n, length, vocabulary]
    resid: Tensor  # [n, length, d] x, the decoder's output
    recon: Tensor  # [n, length, d] x̂, the SAE's reconstruction of x
    pre_acts: Tensor  # [n, length, d_sae] p, the neurons before their activation function
    acts: Tensor  # [n, length, d_sae] f, the neurons' activations
    l0: Tensor  # [n, length] number of neurons that fire


class Transformer(nn.Module):
    """Encoder, decoder, SAE and readout.

    Args:
        recipe: the widths and the kind of SAE.
        vocabulary: number of tokens.
    """

    def __init__(self, recipe: Recipe, vocabulary: int):
        super().__init__()
        d_model, n_heads, d_ff = recipe.d_model, recipe.n_heads, recipe.d_ff
        n_positions = padded_length(recipe.digits)
        self.token_embedding = nn.Embedding(vocabulary, d_model)
        self.prompt_positions = nn.Parameter(torch.empty(n_positions, d_model))
        self.answer_positions = nn.Parameter(torch.empty(n_positions, d_model))
        self.encoder = Encoder(d_model, n_heads, d_ff)
        self.decoder = Decoder(d_model, n_heads, d_ff)
        self.sae: SparseAutoencoder = SAE_CLASSES[recipe.sae](recipe)
        self.readout = nn.Linear(d_model, vocabulary)

    def forward(self, prompts: Tensor, answers: Tensor) -> Output:
        """Predict, at every answer position, the token that follows.

        Args:
            prompts: [n, prompt length] token ids, without pads.
            answers: [n, length] token ids, `B` first.
        """
        resid = self.residual(prompts, answers)
        pre_acts, acts, recon, l0 = self.sae(resid)
        return Output(self.readout(resid), resid, recon, pre_acts, acts, l0)

    def residual(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Compute x [n, length, d] from token ids as in `forward`."""
        return self.decode(answers, self.encode(prompts))

    def encode(self, prompts: Tensor) -> Tensor:
        """Encode [n, prompt length] token ids → [n, prompt length, d]."""
        return self.encoder(self._embed(prompts, self.prompt_positions))

    def decode(self, answers: Tensor, source: Tensor) -> Tensor:
        """Decode [n, length] token ids, and the output of `encode` → x [n, length, d]."""
        return self.decoder(self._embed(answers, self.answer_positions), source)

    def _embed(self, tokens: Tensor, positions: Tensor) -> Tensor:
        """[n, length] token ids → [n, length, d], in the type of the layers' weights."""
        embedded = self.token_embedding(tokens) + positions[: tokens.shape[1]]
        return embedded.to(self.readout.weight.dtype)

    @torch.no_grad()
    def initialise(self, recipe: Recipe) -> None:
        """Draw the initial weights from the recipe's seed.

        Matrices are Xavier-uniform and biases zero, as in PyTorch's own transformer; the scales of
        the embeddings are the recipe's.
        """
        draw = generator(recipe.seed, "weights")
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=draw)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.token_embedding.weight, std=recipe.token_scale, generator=draw)
        for positions in (self.prompt_positions, self.answer_positions):
            nn.init.normal_(positions, std=recipe.position_scale, generator=draw)


def n_weights(recipe: Recipe, vocabulary: int) -> int:
    """Return the number of weights of a model without building it."""
    d_model, d_ff = recipe.d_model, recipe.d_ff
    embeddings = (vocabulary + 2 * padded_length(recipe.digits)) * d_model
    attention = 4 * (d_model + 1) * d_model
    feed_forward = 2 * d_model * d_ff + d_ff + d_model
    norms = 7 * 2 * d_model  # three in the encoder, four in the decoder
    sae = SAE_CLASSES[recipe.sae].n_weights(recipe)
    readout = (d_model + 1) * vocabulary
    return embeddings + 3 * attention + 2 * feed_forward + norms + sae + readout


def empty_model(recipe: Recipe, vocabulary: int) -> Transformer:
    """Return a model on the CPU whose weights are to be loaded; the global generator is untouched.

    Raises:
        UsageError: more weights than `MAX_WEIGHTS`.
    """
    n = n_weights(recipe, vocabulary)
    if n > MAX_WEIGHTS:
        raise UsageError(
            f"a model of {n:,} weights is too large ({MAX_WEIGHTS:,} at most): "
            "lower d_model, d_ff or d_sae"
        )
    # Not on the `meta` device, which draws nothing but takes a second to import its compiler.
    with torch.random.fork_rng(devices=[]):
        return Transformer(recipe, vocabulary)


def new_model(recipe: Recipe, vocabulary: int) -> Transformer:
    """Return a model with fresh weights; the same seed gives the same weights on every machine."""
    model = empty_model(recipe, vocabulary)
    model.initialise(recipe)
    return model
