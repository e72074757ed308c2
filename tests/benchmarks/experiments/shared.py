"""Shared by the experiments: their arguments, the removed neurons, tables and figures."""

import argparse
from collections.abc import Iterable, Sequence
from pathlib import Path

import torch
from matplotlib.figure import Figure

from toytask_cli.analysis.importance import NeuronScores, score_neurons
from toytask_cli.analysis.select import select_neurons
from toytask_cli.dataset import Grid
from toytask_cli.figures.style import png
from toytask_cli.model import Transformer

CPU = torch.device("cpu")
TOLERANCE = 0.1  # nats


def parser(doc: str | None) -> argparse.ArgumentParser:
    """Return a parser for a run and a figure's directory; the script's docstring is its help."""
    options = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("run", type=Path, nargs="?", default=Path("runs/reference"))
    options.add_argument("--out", type=Path, help="directory for the figure; none without it")
    return options


def scores_of(model: Transformer, grid: Grid, seed: int) -> NeuronScores:
    """Return every neuron's importance on validation pairs, without confidence intervals."""
    return score_neurons(model, grid, seed=seed, resamples=1)


def neurons_by_task(model: Transformer, grid: Grid, seed: int) -> dict[str, torch.Tensor]:
    """Return, for each task, the neurons that its removal at `TOLERANCE` removes."""
    scores = scores_of(model, grid, seed)
    return {
        task.name: select_neurons(scores, [task.name], tolerance=TOLERANCE).neurons
        for task in grid.tasks
    }


def percent(share: float) -> str:
    """Return a share in percent, without the sign."""
    return f"{100 * share:.1f}"


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Print a Markdown table, each row as soon as it is computed."""
    for heading in (header, ["---"] * len(header)):
        print_row(heading)
    for row in rows:
        print_row(row)


def print_row(cells: Sequence[object]) -> None:
    """Print one row of a Markdown table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def save(figure: Figure, out: Path, name: str) -> None:
    """Write `<out>/<name>.png`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.png").write_bytes(png(figure))
