"""Why the model writes what it writes: the neurons behind each token, and one neuron by itself.

Neuron i adds f_i U_i to the logits, with U_i = W_u d_i. Its push on a token is that addition less
its mean over the vocabulary, which a softmax does not see; over all neurons, pushes add up to the
SAE's part of the logit.
"""

from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.conversation import Variant, look_up, write_answers
from toytask_cli.analysis.prediction import all_residuals
from toytask_cli.analysis.removal_costs import readout_effects
from toytask_cli.dataset import Examples, Grid
from toytask_cli.hooks import checked_neurons
from toytask_cli.model import Transformer
from toytask_cli.prompts import Prompt
from toytask_cli.rng import generator
from toytask_cli.tokenizer import BOS, PAD

# Tokens named at either end, prompts listed for a neuron, and examples it is looked for on.
TOKENS, PROMPTS, EXAMPLES = 3, 5, 10_000


@dataclass(frozen=True)
class Ends:
    """The tokens whose logits a neuron moves most, the strongest first."""

    up: list[str]
    down: list[str]


@dataclass(frozen=True)
class Firing:
    """A neuron at one position."""

    neuron: int
    activation: float
    push: float  # on the token that was written, logits
    ends: Ends


@dataclass(frozen=True)
class Place:
    """One token of the answer, and what fired when it was written."""

    token: str
    probability: float
    firing: list[Firing]  # the largest push first


@torch.no_grad()
def explain(model: Transformer, grid: Grid, prompt: Prompt, variant: Variant) -> list[Place]:
    """The neurons that fire while a variant writes its answer, position by position.

    Removal takes place behind the SAE, so neurons that the variant removes fire as well; what
    they push goes missing.
    """
    examples = look_up(grid, [prompt])
    written, probabilities = write_answers(model, grid, examples, variant)
    start = torch.full_like(written[:, :1], BOS)
    read = torch.cat([start, written[:, :-1]], dim=1)
    device = model.readout.weight.device
    acts = model(examples.prompts.to(device), read.to(device)).acts[0].cpu()
    effects = readout_effects(model).cpu()
    return [
        Place(grid.tokenizer.tokens[token], chance, _firing(grid, row, effects, token))
        for token, chance, row in zip(
            written[0].tolist(), probabilities[0].tolist(), acts, strict=True
        )
        if token != PAD
    ]


def _firing(grid: Grid, acts: Tensor, effects: Tensor, token: int) -> list[Firing]:
    """Those that fire at one position, [d_sae] activations."""
    pushes = acts * (effects[:, token] - effects.mean(dim=1))
    order = [i for i in pushes.argsort(descending=True).tolist() if acts[i] > 0]
    return [Firing(i, float(acts[i]), float(pushes[i]), find_ends(grid, effects[i])) for i in order]


def find_ends(grid: Grid, effect: Tensor) -> Ends:
    """The ends of one neuron's effect [vocabulary] on the logits; the pad token is no answer."""
    order = effect.argsort(descending=True)
    names = [grid.tokenizer.tokens[i] for i in order.tolist() if i != PAD]
    return Ends(names[:TOKENS], names[-TOKENS:][::-1])


class Seen(NamedTuple):
    """The decoder's output on some examples, from which any neuron is worked out."""

    examples: Examples
    resid: Tensor  # [n, length, d_model] on the CPU; anything at pads
    split: str


def see(model: Transformer, grid: Grid, limit: int = EXAMPLES) -> Seen:
    """One pass over the part that accuracy is reported on, or a random sample of it."""
    examples = grid.split(grid.report_split)
    order = torch.randperm(len(examples), generator=generator(grid.spec.split_seed, "see"))
    examples = examples[order[:limit].sort().values]
    return Seen(examples, all_residuals(model, examples).cpu(), grid.report_split)


@dataclass(frozen=True)
class Excitement:
    """A prompt that makes a neuron fire, where its true answer is fed to the decoder."""

    prompt: str
    step: str  # the token read and the token to write: `B→70`
    activation: float


@dataclass(frozen=True)
class Neuron:
    """One neuron on `n` examples of a part."""

    neuron: int
    split: str
    n: int
    density: dict[str, float]  # task → share of its answer positions where the neuron fires
    excited: list[Excitement]  # one for each prompt, the largest activation first
    ends: Ends


@torch.no_grad()
def look_at_neuron(model: Transformer, grid: Grid, seen: Seen, neuron: int) -> Neuron:
    """One neuron: when it fires, and what it does then.

    Raises:
        UsageError: a neuron that the SAE does not have.
    """
    checked_neurons([neuron], model.sae.encoder.out_features)
    weight, bias = model.sae.encoder.weight[neuron].cpu(), model.sae.encoder.bias[neuron].cpu()
    real = seen.examples.answers[:, 1:] != PAD
    acts = (seen.resid @ weight + bias).relu() * real
    effect = model.readout.weight @ model.sae.decoder.weight[:, neuron]
    return Neuron(
        neuron=neuron,
        split=seen.split,
        n=len(acts),
        density={
            task.name: _density(acts, real, seen.examples.tasks == i)
            for i, task in enumerate(grid.tasks)
        },
        excited=_excited(grid, seen.examples, acts),
        ends=find_ends(grid, effect.cpu()),
    )


def _density(acts: Tensor, real: Tensor, rows: Tensor) -> float:
    return float((acts[rows] > 0).sum() / real[rows].sum())


def _excited(grid: Grid, examples: Examples, acts: Tensor) -> list[Excitement]:
    peaks, places = acts.max(dim=1)
    found = []
    for row in peaks.topk(min(PROMPTS, len(peaks))).indices.tolist():
        if peaks[row] > 0:
            place = int(places[row])
            read, write = examples.answers[row, place : place + 2].tolist()
            step = f"{grid.tokenizer.tokens[read]}→{grid.tokenizer.tokens[write]}"
            prompt = grid.tokenizer.decode(examples.prompts[row].tolist())[1:-1]
            found.append(Excitement(prompt, step, float(peaks[row])))
    return found
