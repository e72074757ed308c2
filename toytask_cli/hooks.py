"""Forward hooks: cache activations of a model, and ablate neurons of its SAE.

Both are context managers. They remove their hooks at the end, also after an exception, and change
no weight.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from toytask_cli.errors import UsageError, short_repr, unknown_choice
from toytask_cli.model import Transformer


class HookPoint(NamedTuple):
    """A module whose output can be cached."""

    module: str  # its path in the model
    meaning: str


# Names as on the command line. Patterns are [n, heads, queries, keys], the rest [n, length, width].
HOOK_POINTS = {
    "encoder-attention": HookPoint(
        "encoder.attention.softmax", "attention among the prompt's tokens"
    ),
    "encoder": HookPoint("encoder", "the encoder's output, at each prompt token"),
    "decoder-attention": HookPoint(
        "decoder.attention.softmax", "attention among the answer's tokens"
    ),
    "cross-attention": HookPoint(
        "decoder.cross_attention.softmax", "attention from answer tokens to prompt tokens"
    ),
    "decoder": HookPoint("decoder", "x, the decoder's output, at each answer token"),
    "sae-pre": HookPoint("sae.encoder", "p = W_e x + b_e, the neurons' pre-activations"),
    "sae": HookPoint("sae.activation", "f = activation(p), the neurons' activations"),
    "recon": HookPoint("sae.decoder", "x̂ = W_d f + b_d, the SAE's reconstruction of x"),
}

# The reconstruction error x − x̂ is no neuron's: what becomes of it when neurons are ablated.
ERRORS = {
    "keep": "what the SAE does not reconstruct stays in",
    "drop": "the logits come from the SAE's reconstruction alone",
}


@contextmanager
def cache_activations(
    model: Transformer, names: Sequence[str] = tuple(HOOK_POINTS)
) -> Iterator[dict[str, Tensor]]:
    """Cache the outputs of hook points.

    Yields:
        Name → output in the latest forward pass; empty before the first.
    """
    cache: dict[str, Tensor] = {}

    def store(name: str) -> Any:
        return lambda module, args, output: cache.__setitem__(name, output.detach())

    with ExitStack() as hooks:
        for name in names:
            module = model.get_submodule(HOOK_POINTS[name].module)
            hooks.enter_context(module.register_forward_hook(store(name)))
        yield cache


@contextmanager
def ablate_neurons(
    model: Transformer,
    neurons: Sequence[int] | Tensor,
    error: str = "keep",
    replacement: Tensor | None = None,
) -> Iterator[None]:
    """Remove neurons of the SAE from the decoder's output x, all of them jointly.

    With f the activations at the whole x and d_i the decoder's column i, the readout then reads
    x − Σ_i f_i d_i over these neurons i, or x̂ − Σ_i f_i d_i with the error dropped. That vector is
    `Output.resid`, and `recon`, `pre_acts` and `acts` are what the SAE makes of it.

    Args:
        model: the model to hook.
        neurons: indices; may be empty, and a repeated index counts once.
        error: a key of `ERRORS`.
        replacement: [d_sae] activations to set the neurons to in place of zero (mean ablation).

    Raises:
        UsageError: a neuron that the SAE does not have, or an unknown `error`.
    """
    index = checked_neurons(neurons, model.sae.d_sae)
    check_error(error)
    index = index.to(model.readout.weight.device)

    def ablate(module: nn.Module, args: Any, x: Tensor) -> Tensor:
        acts = model.sae.encode(x)
        start = x if error == "keep" else model.sae.decode(acts)
        excess = acts[..., index]
        if replacement is not None:
            excess = excess - replacement[index]
        return start - excess @ model.sae.directions[index]

    with model.decoder.register_forward_hook(ablate):
        yield


def checked_neurons(neurons: Sequence[int] | Tensor, d_sae: int) -> Tensor:
    """Return the indices in ascending order, each once.

    Raises:
        UsageError: an index outside 0 … d_sae − 1.
    """
    chosen = sorted({int(i) for i in neurons})
    for i in chosen:
        if not 0 <= i < d_sae:
            valid = f"the SAE has neurons 0 to {d_sae - 1}"
            raise UsageError(f"there is no neuron {short_repr(i)}: {valid}")
    return torch.tensor(chosen, dtype=torch.int64)


def check_error(error: str) -> None:
    """Raise a UsageError for a name that is not in `ERRORS`."""
    if error not in ERRORS:
        raise unknown_choice("error treatment", error, ERRORS)
