"""What the benchmarks that question a run share: its arguments, its neurons and figures."""

import argparse
from pathlib import Path

import torch
from matplotlib.figure import Figure

from toytask_cli.analysis.importance import NeuronScores, score_neurons
from toytask_cli.analysis.select import select_neurons
from toytask_cli.dataset import Grid
from toytask_cli.figures.style import png
from toytask_cli.model import Transformer

CPU = torch.device("cpu")
TOLERANCE = 0.1  # of the removals, nats


def parser(doc: str | None, *, figure: bool = True) -> argparse.ArgumentParser:
    """A parser that takes a run, and where the figure goes; the script's docstring is the help."""
    made = argparse.ArgumentParser(
        description=doc, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    made.add_argument("run", type=Path, nargs="?", default=Path("runs/reference"))
    if figure:
        made.add_argument("--out", type=Path, help="directory for the figure; none without it")
    return made


def scores_of(model: Transformer, grid: Grid, seed: int) -> NeuronScores:
    """Every neuron's importance on validation pairs, without intervals, which need resamples."""
    return score_neurons(model, grid, seed=seed, resamples=1)


def neurons_by_task(model: Transformer, grid: Grid, seed: int) -> dict[str, torch.Tensor]:
    """Task → the neurons that are removed for it at `TOLERANCE`, chosen on validation pairs."""
    scores = scores_of(model, grid, seed)
    return {
        task.name: select_neurons(scores, [task.name], tolerance=TOLERANCE).neurons
        for task in grid.tasks
    }


def percent(share: float) -> str:
    """Share in percent, without the sign."""
    return f"{100 * share:.1f}"


def save(figure: Figure, out: Path, name: str) -> None:
    """Writes `<out>/<name>.png`."""
    out.mkdir(parents=True, exist_ok=True)
    (out / f"{name}.png").write_bytes(png(figure))
