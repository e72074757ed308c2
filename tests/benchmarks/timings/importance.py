"""Time the importance of every neuron in closed form against one removal at a time.

    python tests/benchmarks/timings/importance.py runs/reference [--threads 4]

Score all neurons on all validation pairs and tasks of a finished run, in closed form, and one
removal at a time with our model and with the plain one. One removal at a time is timed on a few
neurons and multiplied, since every neuron costs one forward pass over all pairs.
"""

import argparse
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import NamedTuple

import baseline
import torch
from shared import seconds

from toytask_cli.analysis.effects import effects_closed_form, effects_with_hooks
from toytask_cli.analysis.importance import CHUNK, score_neurons
from toytask_cli.device import find_device
from toytask_cli.runs.run import Run

SAMPLE = 4  # neurons to remove one at a time
UNUSED = torch.empty(0)  # an argument that this way of scoring does not read


class Times(NamedTuple):
    """Median seconds for all neurons, validation pairs and tasks."""

    neurons: int
    pairs: int
    plain: float  # one removal at a time with the plain model, multiplied
    slow: float  # one removal at a time with our model, multiplied
    fast: float  # closed form
    whole: float  # `score_neurons`: with mean ablation, positions and bootstrap


def measure(run: Path, repeats: int) -> Times:
    """Time all ways on the same pairs, turn by turn."""
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
    """Print one line for each way."""
    parser = argparse.ArgumentParser(description="Closed form against one removal at a time.")
    parser.add_argument("run", type=Path)
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    times = measure(args.run, args.repeats)
    print(f"{times.neurons} neurons, {times.pairs} pairs, all tasks, seconds")
    print(f"one removal at a time, plain model      {times.plain:8.1f}")
    print(f"one removal at a time, our model        {times.slow:8.1f}")
    ratios = f"{times.plain / times.fast:.0f} and {times.slow / times.fast:.0f} times faster"
    print(f"closed form                             {times.fast:8.3f}   {ratios}")
    print(f"with mean ablation and bootstrap        {times.whole:8.3f}")


if __name__ == "__main__":
    main()
