"""Forward hooks on a model: to record what its blocks give, and to remove neurons from it.

Both are context managers. They take their hooks away at the end, after an exception too, and
change no weight.
"""

from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from toytask_cli.errors import UsageError, short_repr, unknown_choice
from toytask_cli.model import Transformer

# The blocks that can be recorded; names as on the command line.
BLOCKS = {
    "encoder": "the encoder's output, at each prompt token",
    "decoder": "x, the decoder's output, at each answer token",
    "sae-pre": "p = W_e x + b_e, the neurons before the ReLU",
    "sae": "f = ReLU(p), the neurons' activations",
    "recon": "x̂ = W_d f + b_d, the SAE's reconstruction of x",
}

# What becomes of x − x̂, which no neuron accounts for, when neurons are removed.
ERRORS = {
    "keep": "what the SAE does not reconstruct stays in",
    "drop": "the logits come from the SAE's reconstruction alone",
}


@contextmanager
def recording(model: Transformer) -> Iterator[dict[str, Tensor]]:
    """Records the output of every block of `BLOCKS`.

    Yields:
        Block name → tensor [n, length, width] of the last forward pass; empty before the first.
    """
    modules: dict[str, nn.Module] = {
        "encoder": model.encoder,
        "decoder": model.decoder,
        "sae-pre": model.sae.encoder,
        "sae": model.sae.relu,
        "recon": model.sae.decoder,
    }
    record: dict[str, Tensor] = {}

    def keep(name: str) -> Any:
        return lambda module, args, output: record.__setitem__(name, output.detach())

    with ExitStack() as hooks:
        for name, module in modules.items():
            hooks.enter_context(module.register_forward_hook(keep(name)))
        yield record


@contextmanager
def removing(
    model: Transformer,
    neurons: Sequence[int] | Tensor,
    error: str = "keep",
    replacement: Tensor | None = None,
) -> Iterator[None]:
    """Removes neurons of the SAE from the decoder's output x, all of them at once.

    The readout then sees x − Σ_i f_i d_i over the chosen neurons i, where f is what the SAE makes
    of the whole x and d_i is column i of its decoder; with the error dropped, it sees
    x̂ − Σ_i f_i d_i. The order of the neurons is of no consequence. The rest of the forward pass
    runs on the changed vector: `Output.resid`, `recon`, `pre_acts` and `acts` are then of that.

    Args:
        neurons: indices; none at all is allowed, and a repeated one counts once.
        error: a key of `ERRORS`.
        replacement: [d_sae] values that the removed neurons get in place of zero.

    Raises:
        UsageError: a neuron that the SAE does not have, or an unknown `error`.
    """
    index = checked_neurons(neurons, model.sae.encoder.out_features)
    check_error(error)
    index = index.to(model.readout.weight.device)

    def remove(module: nn.Module, args: Any, x: Tensor) -> Tensor:
        _, acts, recon = model.sae(x)
        excess = acts[..., index]
        if replacement is not None:
            excess = excess - replacement[index]
        start = x if error == "keep" else recon
        return start - excess @ model.sae.decoder.weight[:, index].T

    with model.decoder.register_forward_hook(remove):
        yield


def checked_neurons(neurons: Sequence[int] | Tensor, d_sae: int) -> Tensor:
    """The indices in ascending order, each once.

    Raises:
        UsageError: an index outside 0 … d_sae − 1.
    """
    chosen = sorted({int(i) for i in neurons})
    for i in chosen:
        if not 0 <= i < d_sae:
            raise UsageError(
                f"there is no neuron {short_repr(i)}: the SAE has neurons 0 to {d_sae - 1}"
            )
    return torch.tensor(chosen, dtype=torch.int64)


def check_error(error: str) -> None:
    """Raises a UsageError for a name that is not in `ERRORS`."""
    if error not in ERRORS:
        raise unknown_choice("error treatment", error, ERRORS)
