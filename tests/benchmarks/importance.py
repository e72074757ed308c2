"""Importance of every neuron in closed form against one removal at a time.

    python tests/benchmarks/importance.py [THREADS]

The default recipe's sizes, all validation pairs, both tasks, and fresh weights of which all but a
few neurons are silenced, since a trained SAE is as sparse. One removal at a time is timed on a few
neurons: each costs one forward pass over all pairs, whichever it is, so the rest is multiplied.
"""

import sys
import time
from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.removal_costs import closed_form, one_by_one
from toytask_cli.analysis.survey import survey
from toytask_cli.analysis.tally import tally
from toytask_cli.dataset import build_grid
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import resolve
from toytask_cli.rng import generator

SAMPLE = 4  # neurons that are removed one at a time
LIVE = 80  # neurons, after the others' biases are lowered; about half of them fire at a position
REPEATS = 3


def make_sparse(model: Transformer, mean_acts: Tensor) -> None:
    """Silences all but the first `LIVE` neurons that fire."""
    firing = mean_acts.nonzero().squeeze(-1)[:LIVE]
    with torch.no_grad():
        silent = torch.ones_like(mean_acts, dtype=torch.bool)
        silent[firing] = False
        model.sae.encoder.bias[silent] = -1000.0


def best(run: Callable[[], None]) -> float:
    """Seconds of the fastest of a few runs."""
    times = []
    for _ in range(REPEATS):
        start = time.perf_counter()
        run()
        times.append(time.perf_counter() - start)
    return min(times)


class Times(NamedTuple):
    """Seconds for all neurons, all validation pairs and both tasks."""

    neurons: int
    pairs: int
    slow: float  # one removal at a time, from a few neurons
    fast: float  # closed form
    whole: float  # and mean ablation, places, bootstrap


def measure() -> Times:
    """Times both ways on the same model and pairs."""
    recipe = resolve("default")
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer))
    pairs, _ = grid.matched_pairs()

    make_sparse(model, survey(model, grid, pairs).mean_acts)
    batches = [batch for chunk in pairs.split(512) for batch in grid.matched(chunk)]

    def all_at_once() -> None:
        for batch in batches:
            closed_form(model, batch, [torch.zeros(recipe.d_sae)])

    def one_at_a_time() -> None:
        for batch in batches:
            one_by_one(model, batch, [torch.zeros(SAMPLE)])

    def everything() -> None:
        means = survey(model, grid, pairs).mean_acts
        tally(model, grid, pairs, means, closed_form, generator(0, "benchmark"))

    # Each call also runs the model once with nothing removed.
    slow = best(one_at_a_time) / (SAMPLE + 1) * recipe.d_sae
    return Times(recipe.d_sae, len(pairs), slow, best(all_at_once), best(everything))


def main() -> None:
    """Prints one line for each way."""
    torch.set_num_threads(int(sys.argv[1]) if len(sys.argv) > 1 else 4)
    found = measure()
    print(f"{found.neurons} neurons, {found.pairs} pairs, both tasks, seconds")
    print(f"one removal at a time, from {SAMPLE} neurons   {found.slow:8.1f}")
    ratio = found.slow / found.fast
    print(f"closed form                             {found.fast:8.2f}   {ratio:.0f} times faster")
    print(f"and mean ablation, places, bootstrap    {found.whole:8.2f}")


if __name__ == "__main__":
    main()
