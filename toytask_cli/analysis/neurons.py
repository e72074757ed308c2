"""Single neurons: which ones write an answer, when one fires, what a prompt activates.

Neuron i adds f_i U_i to the logits, with U_i = W_u d_i. Its logit attribution to a token is that
addition less its mean over the vocabulary, which a softmax does not see. Summed over all neurons,
attributions give the SAE's contribution to the logit.
"""

from dataclasses import dataclass
from itertools import pairwise
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.effects import logit_weights
from toytask_cli.analysis.generate import BATCH, Variant, all_residuals, examples_for
from toytask_cli.dataset import Examples, Grid
from toytask_cli.hooks import HOOK_POINTS, cache_activations, checked_neurons
from toytask_cli.model import Transformer
from toytask_cli.prompts import Prompt
from toytask_cli.rng import generator
from toytask_cli.tokenizer import BOS, PAD

N_TOKENS = 3  # promoted and suppressed tokens listed for a neuron
N_PROMPTS = 5  # prompts listed for a neuron
N_EXAMPLES = 10_000  # examples that a neuron is summarised on
N_STRONGEST = 4  # entries listed for a position


class TopTokens(NamedTuple):
    """The tokens whose logits a neuron changes most, the strongest first."""

    promoted: list[str]
    suppressed: list[str]


@dataclass(frozen=True)
class FiringNeuron:
    """A neuron at one position."""

    neuron: int
    activation: float
    logit_attribution: float  # to the token that was written
    tokens: TopTokens


@dataclass(frozen=True)
class AnswerToken:
    """One token of an answer, and the neurons that fired when it was written."""

    token: str
    probability: float
    neurons: list[FiringNeuron]  # the largest attribution first


@torch.no_grad()
def explain(model: Transformer, grid: Grid, prompt: Prompt, variant: Variant) -> list[AnswerToken]:
    """Return the neurons that fire while a variant writes its answer, token by token.

    Ablated neurons still fire; only their contribution to x is subtracted.
    """
    examples = examples_for(grid, [prompt])
    model = variant.other_model or model
    ids, probabilities = variant.decode(model, grid, examples)
    inputs = torch.cat([torch.full_like(ids[:, :1], BOS), ids[:, :-1]], dim=1)
    device = model.readout.weight.device
    acts = model.sae.encode(model.residual(examples.prompts.to(device), inputs.to(device)))[0].cpu()
    weights = logit_weights(model).cpu()
    return [
        AnswerToken(
            grid.tokenizer.tokens[token], probability, _firing_neurons(grid, row, weights, token)
        )
        for token, probability, row in zip(
            ids[0].tolist(), probabilities[0].tolist(), acts, strict=True
        )
        if token != PAD
    ]


def _firing_neurons(grid: Grid, acts: Tensor, weights: Tensor, token: int) -> list[FiringNeuron]:
    """Return the neurons that fire at one position, from acts [d_sae]."""
    attributions = acts * (weights[:, token] - weights.mean(dim=1))
    order = [i for i in attributions.argsort(descending=True).tolist() if acts[i] > 0]
    return [
        FiringNeuron(i, float(acts[i]), float(attributions[i]), top_tokens(grid, weights[i]))
        for i in order
    ]


def top_tokens(grid: Grid, weights: Tensor) -> TopTokens:
    """Return the top tokens of one neuron's logit weights [vocabulary]; the pad is no answer."""
    order = weights.argsort(descending=True)
    names = [grid.tokenizer.tokens[i] for i in order.tolist() if i != PAD]
    return TopTokens(names[:N_TOKENS], names[-N_TOKENS:][::-1])


class ResidualSample(NamedTuple):
    """The decoder's output on some examples, from which any neuron's activations follow."""

    examples: Examples
    resid: Tensor  # [n, length, d_model] on the CPU; arbitrary at pads
    split: str


def sample_residuals(model: Transformer, grid: Grid, limit: int = N_EXAMPLES) -> ResidualSample:
    """Run the model on the split that accuracy is reported on, or on a random sample of it."""
    examples = grid.split(grid.report_split)
    order = torch.randperm(len(examples), generator=generator(grid.spec.split_seed, "see"))
    examples = examples[order[:limit].sort().values]
    return ResidualSample(examples, all_residuals(model, examples).cpu(), grid.report_split)


@dataclass(frozen=True)
class TopPrompt:
    """A prompt that a neuron fires for, its true answer given."""

    prompt: str
    step: str  # the token read and the token to write: `B→70`
    activation: float


@dataclass(frozen=True)
class NeuronSummary:
    """When one neuron fires on n examples of a split, and what it writes."""

    neuron: int
    split: str
    n: int
    density: dict[str, float]  # task → share of its answer positions where the neuron fires
    top_prompts: list[TopPrompt]  # one position of each, the largest activation first
    tokens: TopTokens


@torch.no_grad()
def neuron_summary(
    model: Transformer, grid: Grid, sample: ResidualSample, neuron: int
) -> NeuronSummary:
    """Summarise one neuron.

    Raises:
        UsageError: a neuron that the SAE does not have.
    """
    checked_neurons([neuron], model.sae.d_sae)
    examples, device = sample.examples, model.readout.weight.device
    real = examples.answers[:, 1:] != PAD
    batches = sample.resid.split(BATCH)
    acts = torch.cat([model.sae.encode(batch.to(device))[..., neuron].cpu() for batch in batches])
    acts *= real
    of_task = [examples.tasks == task for task in range(len(grid.tasks))]
    shares = [float((acts[rows] > 0).sum() / real[rows].sum()) for rows in of_task]
    return NeuronSummary(
        neuron=neuron,
        split=sample.split,
        n=len(acts),
        density=dict(zip(grid.task_names, shares, strict=True)),
        top_prompts=_top_prompts(grid, examples, acts),
        tokens=top_tokens(grid, logit_weights(model)[neuron].cpu()),
    )


def _top_prompts(grid: Grid, examples: Examples, acts: Tensor) -> list[TopPrompt]:
    """Return the examples of the largest activations [n, length]."""
    peaks, positions = acts.max(dim=1)
    rows = peaks.topk(min(N_PROMPTS, len(peaks))).indices.tolist()
    top = []
    for row in (row for row in rows if peaks[row] > 0):
        position = int(positions[row])
        read, write = examples.answers[row, position : position + 2].tolist()
        step = f"{grid.tokenizer.tokens[read]}→{grid.tokenizer.tokens[write]}"
        prompt = grid.tokenizer.decode(examples.prompts[row].tolist())[1:-1]
        top.append(TopPrompt(prompt, step, float(peaks[row])))
    return top


class PromptActivations(NamedTuple):
    """One block's output for one prompt, on the CPU."""

    positions: list[str]  # prompt tokens: `47`; answer tokens, with what they predict: `B→70`
    values: Tensor  # [position, width]; an attention pattern is [heads, queries, keys]


@dataclass(frozen=True)
class Entry:
    """One neuron of the SAE, or one dimension of the residual stream."""

    index: int
    value: float


@dataclass(frozen=True)
class PositionSummary:
    """A block's output at one position."""

    position: str
    nonzero: int
    strongest: list[Entry]  # the largest by size, without zeros


@torch.no_grad()
def prompt_activations(
    model: Transformer, grid: Grid, prompt: Prompt
) -> dict[str, PromptActivations]:
    """Return the output of every block of `hooks.HOOK_POINTS` for a prompt and its true answer."""
    device = model.readout.weight.device
    ids = [grid.tokenizer.encode(text) for text in (prompt.text, prompt.target)]
    with cache_activations(model) as cache:
        model(*(torch.tensor([row], device=device) for row in (ids[0], ids[1][:-1])))
    prompt_tokens, answer_tokens = ([grid.tokenizer.tokens[i] for i in row] for row in ids)
    steps = [f"{a}→{b}" for a, b in pairwise(answer_tokens)]
    return {
        block: PromptActivations(
            prompt_tokens if block.startswith("encoder") else steps, cache[block][0].cpu()
        )
        for block in HOOK_POINTS
    }


def summarise_positions(activations: PromptActivations) -> list[PositionSummary]:
    """Return a summary of each position."""
    return [
        PositionSummary(position, int(row.count_nonzero()), _strongest(row))
        for position, row in zip(*activations, strict=True)
    ]


def _strongest(row: Tensor) -> list[Entry]:
    best = row.abs().topk(min(N_STRONGEST, len(row))).indices.tolist()
    return [Entry(i, float(row[i])) for i in best if row[i] != 0]
