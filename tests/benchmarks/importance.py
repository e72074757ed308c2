"""Importance of every neuron in closed form against one removal at a time.

    python tests/benchmarks/importance.py runs/reference [--threads 4]

All neurons, all validation pairs, all tasks of a finished run; one removal at a time by our model
and by the article's plain one. That is timed on a few neurons: each costs one forward pass over all
pairs, whichever it is, so the rest is multiplied.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import baseline
import torch
from timing import seconds

from toytask_cli.analysis.effects import effects_closed_form, effects_with_hooks
from toytask_cli.analysis.importance import CHUNK, score_neurons
from toytask_cli.device import find_device
from toytask_cli.runs.run import Run

SAMPLE = 4  # neurons that are removed one at a time
UNUSED = torch.empty(0)  # in place of x, which each removal makes anew


class Times(NamedTuple):
    """Seconds for all neurons, all validation pairs and all tasks, medians."""

    neurons: int
    pairs: int
    plain: float  # one removal at a time, the plain model, from a few neurons
    slow: float  # one removal at a time, our model, from a few neurons
    fast: float  # closed form
    whole: float  # with what goes before and after: survey, mean ablation, places, bootstrap


def measure(run: Path, repeats: int) -> Times:
    """Times both ways on the same pairs, turn by turn."""
    opened = Run.open(run)
    grid = opened.grid()
    model = opened.model(grid, find_device("cpu"))
    pairs, _ = grid.matched_pairs()
    batches = [batch.cut() for chunk in pairs.split(CHUNK) for batch in grid.matched(chunk)]
    every = torch.arange(opened.config.recipe.d_sae)

    @torch.no_grad()
    def all_at_once() -> None:
        for batch in batches:
            resid = model.residual(batch.prompts, batch.answers[:, :-1])
            effects_closed_form(model, batch, resid, every, torch.zeros(len(every)))

    def one_at_a_time() -> None:
        for batch in batches:
            effects_with_hooks(model, batch, UNUSED, every[:SAMPLE], torch.zeros(SAMPLE))

    def everything() -> None:
        score_neurons(model, grid, seed=0)

    training = baseline.Training("cpu")
    first, second = (operand.tolist() for operand in grid.operands(pairs))
    examples = baseline.both_tasks(list(zip(first, second, strict=True)))

    def plainly() -> None:
        training.loss_without(0, examples)

    ways: tuple[Callable[[], None], ...] = (plainly, one_at_a_time, all_at_once, everything)
    times = [[seconds(way) for way in ways] for _ in range(repeats)]
    plain, slow, fast, whole = (median(column) for column in zip(*times, strict=True))
    # Our way of one at a time also sets each neuron to a mean, and runs the model once as it is.
    slow /= 2 * SAMPLE + 1
    return Times(len(every), len(pairs), plain * len(every), slow * len(every), fast, whole)


def main() -> None:
    """Prints one line for each way."""
    parser = argparse.ArgumentParser(description="Closed form against one removal at a time.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    found = measure(args.run, args.repeats)
    print(f"{found.neurons} neurons, {found.pairs} pairs, all tasks, seconds")
    print(f"one removal at a time, plain model      {found.plain:8.1f}")
    print(f"one removal at a time, our model        {found.slow:8.1f}")
    ratios = f"{found.plain / found.fast:.0f} and {found.slow / found.fast:.0f} times faster"
    print(f"closed form                             {found.fast:8.3f}   {ratios}")
    print(f"and survey, mean ablation, bootstrap    {found.whole:8.3f}")


if __name__ == "__main__":
    main()
