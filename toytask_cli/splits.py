"""Who sees which examples: the train, validation and test splits, drawn from a seed."""

import numpy as np
import torch
from torch import Tensor

from toytask_cli.errors import UsageError
from toytask_cli.recipe import DataSpec
from toytask_cli.rng import generator
from toytask_cli.tokenizer import PAD

SPLITS = ("train", "validation", "test")


def draw_splits(spec: DataSpec, answers: Tensor) -> Tensor:
    """Return [task, pair] the split of every example: a random order, cut at the fractions."""
    n_tasks, n_pairs, _ = answers.shape
    n = n_pairs if spec.split_by == "pair" else n_tasks * n_pairs
    n_train = round(n * spec.train_fraction)
    n_validation = min(round(n * spec.validation_fraction), n - n_train)
    order = torch.randperm(n, generator=generator(spec.split_seed, "split"))
    if spec.split_by == "pair":
        order = _cover_tokens_first(order, answers)
    splits = torch.full((n,), SPLITS.index("test"), dtype=torch.uint8)
    splits[order[:n_train]] = SPLITS.index("train")
    splits[order[n_train : n_train + n_validation]] = SPLITS.index("validation")
    splits = splits.view(-1, n_pairs).expand(n_tasks, n_pairs).contiguous()
    for name in ("train", "validation"):
        for task, row in zip(spec.tasks, splits == SPLITS.index(name), strict=True):
            if not row.any():
                raise UsageError(
                    f"no example of {task} is left for the {name} split: change its fraction"
                )
    return splits


def _cover_tokens_first(order: Tensor, answers: Tensor) -> Tensor:
    """Return the pairs of a random order, those first that are the first to show an answer token.

    The train split then shows every token wherever an answer has it, if it is large enough for
    these pairs. By chance alone, one test concatenation in 40 has a token never seen in training at
    this position and answer length; its accuracy would measure the draw, not what was learnt.
    """
    keys = token_keys(answers).transpose(0, 1)[order]  # [pair, task, position]
    _, first = np.unique(keys.numpy(), return_index=True)
    covers = torch.zeros(len(order), dtype=torch.bool)
    covers[first // keys[0].numel()] = True
    return torch.cat([order[covers], order[~covers]])


def token_keys(answers: Tensor) -> Tensor:
    """Return [task, pair, position] a number for each task, answer length, position and token."""
    n_tasks, _, width = answers.shape
    length = (answers != PAD).sum(dim=-1, keepdim=True)
    task = torch.arange(n_tasks)[:, None, None]
    key = (task * (width + 1) + length) * width + torch.arange(width)
    return key * (int(answers.max()) + 1) + answers
