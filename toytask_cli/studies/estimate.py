"""How long a study takes, and how much disk: measured on a few steps of training."""

import time
from collections.abc import Iterable
from dataclasses import replace
from functools import cache

import torch

from toytask_cli.dataset import build_grid
from toytask_cli.model import n_weights, new_model
from toytask_cli.recipe import Recipe
from toytask_cli.tasks import find_tasks
from toytask_cli.tokenizer import Tokenizer
from toytask_cli.training.loop import Trainer

STEPS, WARMUP = 12, 4  # steps that are timed, and steps before them
FORWARD_SHARE = 1 / 3  # of a training step's time: validation takes no gradients
REPORT_BYTES = 2**19  # of one run


def estimate_seconds(
    recipes: Iterable[Recipe], device: torch.device, precision: torch.dtype
) -> float:
    """Return about how long training takes at most, one run after the other, in seconds.

    Runs that differ in their seeds alone are timed once. A run may end before its limit of epochs.
    """
    timed: dict[Recipe, float] = {}
    total = 0.0
    for recipe in recipes:
        kind = replace(recipe, seed=0, split_seed=0)
        if kind not in timed:
            timed[kind] = _time_epoch(kind, device, precision)
        total += timed[kind] * recipe.epochs
    return total


def _time_epoch(recipe: Recipe, device: torch.device, precision: torch.dtype) -> float:
    grid = build_grid(recipe)
    trainer = Trainer(recipe, grid, new_model(recipe, len(grid.tokenizer)).to(device), precision)
    finished: list[float] = []
    for _ in trainer.run(
        stop=lambda: len(finished) >= WARMUP + STEPS,
        on_step=lambda step: finished.append(time.perf_counter()),
    ):
        pass
    timed = finished[-STEPS - 1 :]
    step = (timed[-1] - timed[0]) / max(1, len(timed) - 1)
    validation_share = len(grid.split("validation")) / len(grid.split("train"))
    return step * trainer.steps_per_epoch * (1 + FORWARD_SHARE * validation_share)


def estimate_bytes(recipes: Iterable[Recipe]) -> int:
    """Return about how much disk the runs take, in bytes."""
    return sum(4 * n_weights(r, _n_tokens(r.tasks, r.digits)) + REPORT_BYTES for r in recipes)


@cache
def _n_tokens(tasks: tuple[str, ...], digits: int) -> int:
    return len(Tokenizer.for_tasks(find_tasks(tasks), digits))
