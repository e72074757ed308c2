"""Who sees which examples: the train, validation and test splits, drawn from a seed."""

from collections.abc import Iterable

import numpy as np
import torch
from torch import Tensor

from toytask_cli.errors import UsageError
from toytask_cli.folds import Fold, parse_fold
from toytask_cli.recipe import DataSpec
from toytask_cli.rng import generator
from toytask_cli.tokenizer import PAD

SPLITS = ("train", "validation", "test")


def draw_splits(spec: DataSpec, answers: Tensor) -> Tensor:
    """Return [task, pair] the split of every example: a random order, cut at the fractions.

    A fold is the test split whatever tokens it shows. The other pairs are divided between train and
    validation in the proportion of their fractions.
    """
    n_tasks, n_pairs, _ = answers.shape
    n = n_tasks * n_pairs if spec.split_by == "example" else n_pairs
    order = torch.randperm(n, generator=generator(spec.split_seed, "split"))
    fold = parse_fold(spec.split_by)
    if fold:
        order = _without(order, fold)
    if spec.split_by != "example":
        order = _cover_tokens_first(order, answers)
    n_train, n_validation = _sizes(spec, len(order), fold is not None)
    splits = torch.full((n,), SPLITS.index("test"), dtype=torch.uint8)
    splits[order[:n_train]] = SPLITS.index("train")
    splits[order[n_train : n_train + n_validation]] = SPLITS.index("validation")
    splits = splits.view(-1, n_pairs).expand(n_tasks, n_pairs).contiguous()
    _check_not_empty(spec, splits, SPLITS if fold else ("train", "validation"))
    return splits


def _without(order: Tensor, fold: Fold) -> Tensor:
    """Return the order without the fold's pairs."""
    start, end = (len(order) * number // fold.total for number in (fold.number - 1, fold.number))
    return torch.cat([order[:start], order[end:]])


def _sizes(spec: DataSpec, n: int, all_used: bool) -> tuple[int, int]:
    """Return how many of n go to train and to validation; `all_used` leaves none for test."""
    train, validation = spec.train_fraction, spec.validation_fraction
    if all_used:
        n_train = round(n * train / (train + validation))
        return n_train, n - n_train
    n_train = round(n * train)
    return n_train, min(round(n * validation), n - n_train)


def _check_not_empty(spec: DataSpec, splits: Tensor, names: Iterable[str]) -> None:
    for name in names:
        for task, row in zip(spec.tasks, splits == SPLITS.index(name), strict=True):
            if not row.any():
                raise UsageError(
                    f"no example of {task} is left for the {name} split: change its fraction"
                )


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
