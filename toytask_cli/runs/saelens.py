"""A run's SAE as SAELens 6 reads it from a directory, and the vectors x to train another SAE on.

SAELens multiplies from the right, so its matrices are the transposes of ours:

    f = activation(x W_enc + b_enc)      x̂ = f W_dec + b_dec
"""

import json
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toytask_cli import __version__
from toytask_cli.analysis.generate import residuals
from toytask_cli.analysis.sparsity import Sparsity
from toytask_cli.dataset import Examples
from toytask_cli.model import Transformer
from toytask_cli.recipe import Recipe
from toytask_cli.runs import files, tensor_files
from toytask_cli.runs.run import Run
from toytask_cli.sae import SparseAutoencoder
from toytask_cli.tokenizer import PAD

WEIGHTS, CONFIG, ACTIVATIONS = "sae_weights.safetensors", "cfg.json", "activations.safetensors"
VERSION = "6.54.0"  # of SAELens, that these files were checked with
ARCHITECTURES = {"relu": "standard", "topk": "topk", "jumprelu": "jumprelu"}  # by kind of SAE


def write_sae(
    directory: Path, run: Run, sae: SparseAutoencoder, sparsity: Sparsity
) -> dict[str, Any]:
    """Write the SAE's weights and `cfg.json` into a directory; return what is in the latter."""
    tensor_files.write(directory / WEIGHTS, sae_tensors(sae))
    config = sae_config(run, sparsity)
    files.write_bytes(directory / CONFIG, json.dumps(config, indent=2).encode() + b"\n")
    return config


def sae_tensors(sae: SparseAutoencoder) -> dict[str, Tensor]:
    """Return the weights by SAELens' names; the thresholds of a JumpReLU are `threshold`."""
    return {
        "W_enc": sae.encoder.weight.T,  # [d_in, d_sae]
        "b_enc": sae.encoder.bias,
        "W_dec": sae.decoder.weight.T,  # [d_sae, d_in]
        "b_dec": sae.decoder.bias,
        **dict(sae.activation.named_parameters()),
    }


def sae_config(run: Run, sparsity: Sparsity) -> dict[str, Any]:
    """Return the contents of `cfg.json`."""
    recipe = run.config.recipe
    return {
        "architecture": ARCHITECTURES[recipe.sae],
        "d_in": recipe.d_model,
        "d_sae": recipe.d_sae,
        "dtype": "float32",
        "device": "cpu",
        # SAELens subtracts b_dec from x unless it is told not to.
        "apply_b_dec_to_input": False,
        "normalize_activations": "none",
        "reshape_activations": "none",
        **_own_settings(recipe),
        # Without a version of 6 or newer, SAELens drops the metadata.
        "metadata": {
            "sae_lens_version": VERSION,
            "sae_lens_training_version": None,
            "training_architecture": ARCHITECTURES[recipe.sae],
            "training_architecture_details": recipe.to_json(),
            "model_name": f"toytask {__version__}",
            "hook_name": "decoder",
            "weights_sha256": run.weights_sha256(),
            "trained_on": f"x at the answer positions of {', '.join(recipe.tasks)}, train split",
            "measured_on": f"{sparsity.split} split",
            "l0": sparsity.all.l0,
            "dead_neurons": sparsity.all.dead_neurons,
            "explained_variance": sparsity.all.explained_variance,
        },
    }


def _own_settings(recipe: Recipe) -> dict[str, Any]:
    """Return the settings that only one architecture has."""
    return {"k": recipe.k} if "k" in recipe.settings() else {}


def write_activations(directory: Path, model: Transformer, examples: Examples) -> int:
    """Write x at every answer position of the examples that is not padding; return their number.

    Beside `x` [n, d_model], each row has the index of its `task`, its operand `pair`
    a · 10^digits + b, and its `position` in the answer, [n] each.
    """
    columns = [_rows(batch, resid) for batch, resid in residuals(model, examples)]
    x, task, pair, position = (torch.cat(column).cpu() for column in zip(*columns, strict=True))
    tensors = {"x": x, "task": task, "pair": pair, "position": position}
    tensor_files.write(directory / ACTIVATIONS, tensors)
    return len(x)


def _rows(batch: Examples, resid: Tensor) -> tuple[Tensor, ...]:
    """Return x, task, pair and position of the positions that are not padding."""
    real = batch.answers[:, 1:] != PAD
    example, position = real.nonzero().unbind(dim=1)
    return resid[real], batch.tasks[example], batch.pairs[example], position
