"""An encoder-decoder transformer of one layer each, and a sparse autoencoder on its output.

Post-norm, as in "Attention is all you need" (Vaswani et al., 2017), with learned positions and a
final norm after encoder and decoder. With x the decoder's output at an answer position:

    p = W_e x + b_e      f = ReLU(p)      x̂ = W_d f + b_d      logits = W_u x + b_u

The logits come from x, not from x̂.
"""

from typing import NamedTuple

import torch
from torch import Tensor, nn

from toytask_cli.attention import CrossAttention, SelfAttention
from toytask_cli.dataset import padded_length
from toytask_cli.embedding import Embedded, embed
from toytask_cli.errors import UsageError
from toytask_cli.recipe import Recipe
from toytask_cli.rng import generator

# Beyond this a recipe is a slip of the pen: 400 MB of weights, and four times that to train.
MAX_WEIGHTS = 10**8


class Output(NamedTuple):
    """What a forward pass gives, at every answer position."""

    logits: Tensor  # [n, length, vocabulary]
    resid: Tensor  # [n, length, d_model] x, the decoder's output
    recon: Tensor  # [n, length, d_model] x̂, the SAE's reconstruction of it
    pre_acts: Tensor  # [n, length, d_sae] p, before the ReLU
    acts: Tensor  # [n, length, d_sae] f, after the ReLU


class FeedForward(nn.Sequential):
    """Linear, ReLU, linear."""

    def __init__(self, d_model: int, d_ff: int):
        super().__init__(nn.Linear(d_model, d_ff), nn.ReLU(inplace=True), nn.Linear(d_ff, d_model))

    def forward(self, x: Tensor) -> Tensor:
        """[..., d] → the same shape."""
        up, relu, down = self
        # As rows: of more dimensions a linear layer gives a view, costly to change in place.
        return down(relu(up(x.flatten(0, -2)))).view_as(x)


class Encoder(nn.Module):
    """One post-norm encoder layer and the final norm."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, n_positions: int):
        super().__init__()
        self.attention = SelfAttention(d_model, n_heads, n_positions)
        self.attention_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, prompts: Embedded) -> Tensor:
        """Prompts → [n, prompt length, d]."""
        x = self.attention_norm(prompts.vectors + self.attention(prompts))
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return self.norm(x)


class Decoder(nn.Module):
    """One post-norm decoder layer and the final norm."""

    def __init__(self, d_model: int, n_heads: int, d_ff: int, n_positions: int):
        super().__init__()
        self.attention = SelfAttention(d_model, n_heads, n_positions, causal=True)
        self.attention_norm = nn.LayerNorm(d_model)
        self.cross_attention = CrossAttention(d_model, n_heads, n_positions)
        self.cross_attention_norm = nn.LayerNorm(d_model)
        self.feed_forward = FeedForward(d_model, d_ff)
        self.feed_forward_norm = nn.LayerNorm(d_model)
        self.norm = nn.LayerNorm(d_model)

    def forward(self, answers: Embedded, source: Tensor, kept: Tensor | None = None) -> Tensor:
        """Answers over source [n, prompt length, d] → [n, answer length, d], or [kept, d]."""
        # So far only the answers count: at places that have begun alike this is the same.
        x = self.attention_norm(answers.vectors + self.attention(answers))
        found = self.cross_attention(x, answers.begun, source)
        x = self.cross_attention_norm(answers.begun.look_up(x) + found)
        if kept is not None:  # from here on every place is for itself
            x = x.flatten(0, 1).index_select(0, kept)
        x = self.feed_forward_norm(x + self.feed_forward(x))
        return self.norm(x)


class SparseAutoencoder(nn.Module):
    """Up, ReLU, down: d_model → d_sae neurons → d_model."""

    def __init__(self, d_model: int, d_sae: int):
        super().__init__()
        self.encoder = nn.Linear(d_model, d_sae)
        self.relu = nn.ReLU()
        self.decoder = nn.Linear(d_sae, d_model)

    def forward(self, x: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        """x [..., d_model] → p [..., d_sae], f [..., d_sae], x̂ [..., d_model]."""
        pre_acts = self.encoder(x)
        acts = self.relu(pre_acts)
        return pre_acts, acts, self.decoder(acts)

    def encode(self, x: Tensor) -> Tensor:
        """Return f [..., d_sae] of x [..., d_model]."""
        return self.encoder(x).relu()

    def decode(self, acts: Tensor) -> Tensor:
        """Return x̂ [..., d_model] of f [..., d_sae]."""
        return self.decoder(acts)

    @property
    def d_sae(self) -> int:
        """Number of neurons."""
        return self.encoder.out_features

    @property
    def directions(self) -> Tensor:
        """[d_sae, d_model] d_i, what one unit of each neuron adds to x̂."""
        return self.decoder.weight.T


class Transformer(nn.Module):
    """The whole model.

    Args:
        recipe: gives the widths, and the scales of the initial weights.
        vocabulary: number of tokens.
    """

    def __init__(self, recipe: Recipe, vocabulary: int):
        super().__init__()
        d_model, n_heads, d_ff = recipe.d_model, recipe.n_heads, recipe.d_ff
        n_positions = padded_length(recipe.digits)
        self.token_embedding = nn.Embedding(vocabulary, d_model)
        self.prompt_positions = nn.Embedding(n_positions, d_model)
        self.answer_positions = nn.Embedding(n_positions, d_model)
        self.encoder = Encoder(d_model, n_heads, d_ff, n_positions)
        self.decoder = Decoder(d_model, n_heads, d_ff, n_positions)
        self.sae = SparseAutoencoder(d_model, recipe.d_sae)
        self.readout = nn.Linear(d_model, vocabulary)

    def forward(self, prompts: Tensor, answers: Tensor, kept: Tensor | None = None) -> Output:
        """Predicts, at every answer position, the token that follows.

        Args:
            prompts: [n, prompt length] token ids, without pads.
            answers: [n, length] token ids from `B` on; what follows them is predicted.
            kept: the positions that matter, as indices into [n · length]. The output is of these
                alone, [kept, ...] where it is [n, length, ...] otherwise.
        """
        resid = self.decode(answers, self.encode(prompts), kept)
        pre_acts, acts, recon = self.sae(resid)
        return Output(self.readout(resid), resid, recon, pre_acts, acts)

    def residual(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """[n, prompt length] and [n, length] token ids → [n, length, d_model] x, and no more."""
        return self.decode(answers, self.encode(prompts))

    def encode(self, prompts: Tensor) -> Tensor:
        """[n, prompt length] token ids → [n, prompt length, d_model]."""
        return self.encoder(self._embed(prompts, self.prompt_positions, causal=False))

    def decode(self, answers: Tensor, source: Tensor, kept: Tensor | None = None) -> Tensor:
        """[n, length] token ids, and what `encode` gave → x, as in `forward`."""
        embedded = self._embed(answers, self.answer_positions, causal=True)
        return self.decoder(embedded, source, kept)

    def _embed(self, tokens: Tensor, positions: nn.Embedding, causal: bool) -> Embedded:
        return embed(tokens, self.token_embedding, positions, self.readout.weight.dtype, causal)

    @torch.no_grad()
    def initialise(self, recipe: Recipe) -> None:
        """Draws the initial weights from the recipe's seed.

        Xavier-uniform matrices and zero biases as in PyTorch's own transformer; the scales of the
        embeddings come from the recipe.
        """
        draw = generator(recipe.seed, "weights")
        for module in self.modules():
            if isinstance(module, nn.Linear):
                nn.init.xavier_uniform_(module.weight, generator=draw)
                nn.init.zeros_(module.bias)
            elif isinstance(module, nn.LayerNorm):
                nn.init.ones_(module.weight)
                nn.init.zeros_(module.bias)
        nn.init.normal_(self.token_embedding.weight, std=recipe.token_scale, generator=draw)
        for positions in (self.prompt_positions, self.answer_positions):
            nn.init.normal_(positions.weight, std=recipe.position_scale, generator=draw)


def n_weights(recipe: Recipe, vocabulary: int) -> int:
    """How many numbers a model's weights are, without making any."""
    d_model, d_ff, d_sae = recipe.d_model, recipe.d_ff, recipe.d_sae
    embeddings = (vocabulary + 2 * padded_length(recipe.digits)) * d_model
    attention = 4 * (d_model + 1) * d_model
    feed_forward = 2 * d_model * d_ff + d_ff + d_model
    norms = 7 * 2 * d_model  # three in the encoder, four in the decoder
    sae = 2 * d_model * d_sae + d_sae + d_model
    readout = (d_model + 1) * vocabulary
    return embeddings + 3 * attention + 2 * feed_forward + norms + sae + readout


def empty_model(recipe: Recipe, vocabulary: int) -> Transformer:
    """A model on the CPU whose weights are yet to be filled.

    What PyTorch draws for them meanwhile leaves the global generator as it was. (Building on the
    `meta` device would draw nothing, but imports its compiler, a second's work.)

    Raises:
        UsageError: more weights than `MAX_WEIGHTS`.
    """
    n = n_weights(recipe, vocabulary)
    if n > MAX_WEIGHTS:
        raise UsageError(
            f"a model of {n:,} weights is too large ({MAX_WEIGHTS:,} at most): "
            "lower d_model, d_ff or d_sae"
        )
    with torch.random.fork_rng(devices=[]):
        return Transformer(recipe, vocabulary)


def new_model(recipe: Recipe, vocabulary: int) -> Transformer:
    """A model with fresh weights. The same seed gives the same weights on every machine."""
    model = empty_model(recipe, vocabulary)
    model.initialise(recipe)
    return model
