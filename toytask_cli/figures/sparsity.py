"""What a prompt sets off, how activations are distributed, and how often neurons fire."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from toytask_cli.figures.pairs import pair_panels
from toytask_cli.figures.style import panels, style

Array = NDArray[np.float32]

DENSITY_BINS = 40


class Heatmap(NamedTuple):
    """One block's activations for one prompt."""

    title: str
    positions: Sequence[str]
    values: Array  # [position, width]


def draw_activations(title: str, maps: Sequence[Heatmap]) -> Figure:
    """One strip for each block, a row for each position: red above zero, blue below."""
    with style():
        heights = [len(block.positions) + 1.2 for block in maps]
        figure = Figure(figsize=(11, 0.34 * sum(heights) + 0.6), layout="constrained")
        axes = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, block in zip(axes, maps, strict=True):
            top = float(np.abs(block.values).max()) or 1.0
            image = axis.imshow(
                block.values,
                aspect="auto",
                interpolation="nearest",
                cmap="RdBu_r",
                vmin=-top,
                vmax=top,
            )
            axis.set_title(block.title, fontsize=10, loc="left")
            axis.set_yticks(range(len(block.positions)), labels=list(block.positions))
            axis.grid(False)
            figure.colorbar(image, ax=axis, pad=0.01, aspect=8)
        figure.suptitle(title, fontsize=12)
        figure.supxlabel(
            "dimension (encoder, decoder, recon) or neuron (sae-pre, sae)", fontsize=10
        )
        return figure


def draw_histogram(edges: Array, before: NDArray[np.int64], after: NDArray[np.int64]) -> Figure:
    """Counts of all neurons' values before and after the ReLU."""
    with style():
        figure, (axis,) = panels(1, width=7)
        axis.stairs(before, edges, fill=True, alpha=0.5, label="before the ReLU")
        axis.stairs(after, edges, linewidth=1.6, label="after it")
        seen = edges[:-1][(before + after) > 0]
        axis.set(
            title="values of all neurons at all answer positions",
            xlabel="value",
            ylabel="count",
            yscale="log",
            xlim=(seen.min(), seen.max() + edges[1] - edges[0]),
        )
        axis.legend()
        sns.despine(figure)
        return figure


def draw_density(names: Sequence[str], density: Array) -> Figure:
    """For each task, how many neurons fire at which share of its positions, [task, d_sae]."""
    with style():
        figure, (axis,) = panels(1, width=7)
        bins = np.linspace(np.log10(_smallest(density)), 0, DENSITY_BINS + 1)
        for name, row in zip(names, density, strict=True):
            counts, _ = np.histogram(np.log10(row[row > 0]), bins)
            silent = f"{int((row == 0).sum()):,} never fire"
            axis.stairs(counts, bins, linewidth=1.6, label=f"{name} ({silent})")
        axis.set(
            title="how often neurons fire",
            xlabel="log10 of density (share of the task's positions)",
            ylabel="neurons",
        )
        axis.legend()
        sns.despine(figure)
        return figure


def draw_density_pairs(names: Sequence[str], density: Array) -> Figure:
    """Every neuron's density for one task against another, [task, d_sae]; 0 has its own line."""
    with style():
        zero = _smallest(density) / 3
        figure, found = pair_panels(len(names))
        shown = np.where(density > 0, density, zero)[:, (density > 0).any(axis=0)]
        for x, y, axis in found:
            axis.scatter(shown[x], shown[y], s=14, alpha=0.5, linewidth=0)
            axis.plot([zero, 1], [zero, 1], color="0.6", linewidth=0.8, linestyle=":")
            axis.set(xscale="log", yscale="log", xlabel=names[x], ylabel=names[y])
            for scale in (axis.xaxis, axis.yaxis):
                powers = 10.0 ** np.arange(np.ceil(np.log10(_smallest(density))), 1)
                scale.set_ticks([zero, *powers], labels=["0", *(f"{p:g}" for p in powers)])
                scale.set_minor_locator(NullLocator())
        figure.suptitle("share of each task's positions where a neuron fires", fontsize=11)
        return figure


def _smallest(density: Array) -> float:
    """The smallest density other than zero; 0.1 where no neuron fires at all."""
    return float(density[density > 0].min(initial=0.1))
