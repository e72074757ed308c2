"""What it costs to grow: more examples, more neurons, more tasks. A table, and a figure.

    python tests/benchmarks/growth.py --threads 4 --repeats 5 --figure growth.png

Every case runs in a process of its own, for its peak of memory, and in turn with the others;
medians. The weights are fresh, and the model's own answers stand in for the true ones, so that
every pair is judged, as after training. Biases are lowered so that 2 % of the neurons fire at a
position, about as many as in a trained model.
"""

import argparse
import json
import math
import os
import resource
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from statistics import median, median_low
from typing import Any

import torch
from tables import print_table
from timing import seconds

from toytask_cli.analysis.ablate import ablate
from toytask_cli.analysis.generate import decode_greedily
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.dataset import Grid, build_grid
from toytask_cli.device import find_precision
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import resolve
from toytask_cli.rng import generator
from toytask_cli.tokenizer import BOS
from toytask_cli.training.engine import Engine
from toytask_cli.training.schedule import SEPARATE, Phase

STEPS = 12
TICKS = (0.1, 0.2, 0.5, 1, 1.2, 1.5, 2, 5, 10, 20, 50)  # multiples of the smallest case's cost
SMALL = {"d_model": 64, "d_ff": 256}  # so that the axes of growth weigh more than the rest
AXES: dict[str, list[dict[str, Any]]] = {
    "examples": [{"digits": digits} for digits in (1, 2, 3)],
    "neurons": [{"d_sae": 4**power} for power in (4, 5, 6, 7)],
    "tasks": [
        {"tasks": ("sum", "concat", "diff", "max")[:number], "validation_fraction": 0.1}
        for number in (2, 3, 4)
    ],
}
COLUMNS = {
    "examples": "examples",
    "neurons": "neurons",
    "tasks": "tasks",
    "step": "training, µs an example",
    "importance": "importance, ms a pair",
    "ablate": "ablate, ms a pair",
    "memory": "peak memory, GB",
}


def recipe_of(case: dict[str, Any]) -> Any:
    """A small model; with three digits few of the many pairs, since the cost is by the pair."""
    few = {"train_fraction": 0.99, "validation_fraction": 0.005} if case.get("digits") == 3 else {}
    return resolve("default", {**SMALL, **few, **case})


@torch.no_grad()
def make_like_trained(model: Transformer, grid: Grid) -> None:
    """Few neurons fire, and nothing but numbers is written."""
    d_sae, d_model = model.sae.encoder.weight.shape
    # x has variance 1 in every dimension, a Xavier-uniform weight 2 / (d_model + d_sae).
    model.sae.encoder.bias -= 2 * math.sqrt(d_model * 2 / (d_model + d_sae))
    model.readout.bias[: grid.tokenizer.first_number] = -1000.0


def answered_by(model: Transformer, grid: Grid) -> Grid:
    """The grid with what the model itself writes as the right answers of the pairs to judge."""
    answers = grid.answers.clone()
    answers[..., 0] = BOS
    for pairs in grid.matched_pairs():
        for task, examples in enumerate(grid.matched(pairs)):
            said, _ = decode_greedily(model, examples.prompts, answers.shape[-1] - 1)
            answers[task, pairs, 1:] = said.to(answers.dtype)
    return replace(grid, answers=answers)


def measure(case: dict[str, Any]) -> dict[str, float]:
    """The costs of one case, in this process."""
    recipe = recipe_of(case)
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer))
    precision = find_precision("auto", torch.device("cpu"))
    part = grid.split("train")
    drawn = torch.randperm(len(part), generator=generator(recipe.seed, "batches"))
    examples = part.take(drawn[: recipe.batch_size])
    engine = Engine(replace(recipe, lr=1e-9), model, len(grid.tasks), precision)
    coefficients = Phase(SEPARATE, 0).coefficients(recipe)
    steps = [seconds(lambda: engine.step(examples, 1e-9, coefficients)) for _ in range(STEPS)]

    make_like_trained(model, grid)
    known = answered_by(model, grid)
    choose, report = known.matched_pairs()
    importance = seconds(lambda: score_neurons(model, known, seed=0))
    scores = score_neurons(model, known, seed=0, resamples=1)
    first = [known.tasks[0].name]
    ablation = seconds(lambda: ablate(scores, remove=first))
    return {
        "examples": grid.splits.numel(),
        "neurons": recipe.d_sae,
        "tasks": len(grid.tasks),
        "step": median(steps[2:]) / len(examples) * 1e6,
        "importance": importance / len(choose) * 1e3,
        "ablate": ablation / (len(choose) + len(report)) * 1e3,
        "memory": resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e6,
    }


def measured_in_turn(repeats: int, threads: int) -> dict[str, list[dict[str, float]]]:
    """Axis → the costs of each of its cases, medians of so many turns."""
    cases = [(axis, case) for axis, cases in AXES.items() for case in cases]
    turns = [[measured_apart(case, threads) for _, case in cases] for _ in range(repeats)]
    found: dict[str, list[dict[str, float]]] = {axis: [] for axis in AXES}
    for (axis, _), rows in zip(cases, zip(*turns, strict=True), strict=True):
        found[axis].append({name: median_low(row[name] for row in rows) for name in COLUMNS})
    return found


def measured_apart(case: dict[str, Any], threads: int) -> dict[str, float]:
    """`measure` in a process of its own."""
    call = [sys.executable, __file__, "--threads", str(threads), "--case", json.dumps(case)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True, env=environment)
    found: dict[str, float] = json.loads(done.stdout)
    return found


def number(value: float) -> str:
    """Whole numbers in full, measurements to three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def draw(found: dict[str, list[dict[str, float]]], path: Path) -> None:
    """One panel an axis of growth: each cost, as a multiple of that of the first case."""
    from toytask_cli.figures.style import panels, png, style

    with style():
        figure, axes = panels(len(found))
        for (axis, rows), panel in zip(found.items(), axes, strict=True):
            for cost in ("step", "importance", "ablate", "memory"):
                values = [row[cost] / rows[0][cost] for row in rows]
                panel.plot([row[axis] for row in rows], values, "o-", label=COLUMNS[cost])
            panel.set(xscale="log", yscale="log", xlabel=axis, ylabel="cost, smallest case = 1")
            sizes = [row[axis] for row in rows]
            panel.set_xticks(sizes, [f"{size:,.0f}" for size in sizes])
            low, high = panel.get_ylim()
            ticks = [tick for tick in TICKS if low <= tick <= high]
            panel.set_yticks(ticks, [f"{tick:g}" for tick in ticks])
            panel.minorticks_off()
        axes[1].legend()
        path.write_bytes(png(figure))


def main() -> None:
    """Measures every case and shows the costs."""
    parser = argparse.ArgumentParser(description="What it costs to grow.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=1, help="turns to take medians of")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.case is not None:
        print(json.dumps(measure(args.case)))
        return
    found = measured_in_turn(args.repeats, args.threads)
    rows = [row for rows in found.values() for row in rows]
    print_table(list(COLUMNS.values()), ([number(row[name]) for name in COLUMNS] for row in rows))
    if args.figure:
        draw(found, args.figure)


if __name__ == "__main__":
    main()
