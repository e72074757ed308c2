"""Time training and analysis for more examples, more neurons and more tasks.

    python tests/benchmarks/timings/growth.py --threads 4 --repeats 5 --figure growth.png

Run every case in a process of its own, which gives its peak of memory, in turn with the others, and
take medians. The weights are new. The model's own answers replace the true ones, so that all pairs
are right and used, as after training. Biases are lowered so that 2 % of the neurons fire at a
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
from shared import print_header, print_row, seconds

from toytask_cli.analysis.ablate import ablate
from toytask_cli.analysis.generate import decode_greedily
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.dataset import Grid, build_grid
from toytask_cli.device import find_precision
from toytask_cli.model import Transformer, new_model
from toytask_cli.recipe import resolve
from toytask_cli.rng import generator
from toytask_cli.tokenizer import BOS
from toytask_cli.training.schedule import SEPARATE, Phase
from toytask_cli.training.step import Engine

STEPS = 12
TICKS = (0.1, 0.2, 0.5, 1, 1.2, 1.5, 2, 5, 10, 20, 50)  # multiples of the smallest case's cost
SMALL = {"d_model": 64, "d_ff": 256}  # so that most of the cost grows with the axes
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
    """Return a small recipe; with three digits, costs per pair are measured on few pairs."""
    few = {"train_fraction": 0.99, "validation_fraction": 0.005} if case.get("digits") == 3 else {}
    return resolve("default", {**SMALL, **few, **case})


@torch.no_grad()
def make_like_trained(model: Transformer, grid: Grid) -> None:
    """Make few neurons fire, and the readout write numbers only."""
    d_sae, d_model = model.sae.encoder.weight.shape
    # x has variance 1 in every dimension, a Xavier-uniform weight 2 / (d_model + d_sae).
    model.sae.encoder.bias -= 2 * math.sqrt(d_model * 2 / (d_model + d_sae))
    model.readout.bias[: grid.tokenizer.first_number] = -1000.0


def answered_by(model: Transformer, grid: Grid) -> Grid:
    """Return the grid with the model's predictions as the answers of all matched pairs."""
    answers = grid.answers.clone()
    answers[..., 0] = BOS
    for pairs in grid.matched_pairs():
        for task, examples in enumerate(grid.matched(pairs)):
            predictions, _ = decode_greedily(model, examples.prompts, answers.shape[-1] - 1)
            answers[task, pairs, 1:] = predictions.to(answers.dtype)
    return replace(grid, answers=answers)


def measure(case: dict[str, Any]) -> dict[str, float]:
    """Return the costs of one case, measured in this process."""
    recipe = recipe_of(case)
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer))
    precision = find_precision("auto", torch.device("cpu"))
    train = grid.split("train")
    order = torch.randperm(len(train), generator=generator(recipe.seed, "batches"))
    examples = train[order[: recipe.batch_size]]
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


def measure_in_turn(repeats: int, threads: int) -> dict[str, list[dict[str, float]]]:
    """Return, for each axis, the costs of its cases, medians over the repeats."""
    cases = [(axis, case) for axis, cases in AXES.items() for case in cases]
    turns = [[measure_in_process(case, threads) for _, case in cases] for _ in range(repeats)]
    costs: dict[str, list[dict[str, float]]] = {axis: [] for axis in AXES}
    for (axis, _), rows in zip(cases, zip(*turns, strict=True), strict=True):
        costs[axis].append({name: median_low(row[name] for row in rows) for name in COLUMNS})
    return costs


def measure_in_process(case: dict[str, Any], threads: int) -> dict[str, float]:
    """Return the costs of one case, measured in a process of its own."""
    call = [sys.executable, __file__, "--threads", str(threads), "--case", json.dumps(case)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    done = subprocess.run(call, stdout=subprocess.PIPE, check=True, env=environment)
    costs: dict[str, float] = json.loads(done.stdout)
    return costs


def number(value: float) -> str:
    """Return whole numbers in full, measurements to three digits."""
    return f"{value:,}" if isinstance(value, int) else f"{value:.3g}"


def draw(costs: dict[str, list[dict[str, float]]], path: Path) -> None:
    """Draw one panel for each axis: the costs as multiples of the first case's."""
    from toytask_cli.figures.style import panels, png, style

    with style():
        figure, axes = panels(len(costs))
        for (axis, rows), panel in zip(costs.items(), axes, strict=True):
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
    """Measure every case, and print and draw the costs."""
    parser = argparse.ArgumentParser(description="Cost of growing.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=1, help="turns to take medians of")
    parser.add_argument("--figure", type=Path, help="PNG to draw")
    parser.add_argument("--case", type=json.loads, help=argparse.SUPPRESS)
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    if args.case is not None:
        print(json.dumps(measure(args.case)))
        return
    costs = measure_in_turn(args.repeats, args.threads)
    print_header(*COLUMNS.values())
    for row in (row for rows in costs.values() for row in rows):
        print_row(*(number(row[name]) for name in COLUMNS))
    if args.figure:
        draw(costs, args.figure)


if __name__ == "__main__":
    main()
