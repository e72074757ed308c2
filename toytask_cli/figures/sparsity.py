"""Activations for one prompt, their distribution over all, and how often neurons fire."""

from collections.abc import Sequence

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from matplotlib.ticker import NullLocator
from numpy.typing import NDArray

from toytask_cli.figures.colours import COLOURS, TASK_LINES
from toytask_cli.figures.data import ActivationMap
from toytask_cli.figures.pairs import pair_panels
from toytask_cli.figures.style import GUIDE, SIGNED_COLOURS, panels, style

Array = NDArray[np.float32]


def draw_activations(title: str, maps: Sequence[ActivationMap]) -> Figure:
    """Draw a strip for each hook point, a row for each position."""
    with style():
        heights = [len(strip.positions) + 1.2 for strip in maps]
        figure = Figure(figsize=(11, 0.34 * sum(heights) + 0.6), layout="constrained")
        axes = figure.subplots(len(maps), 1, squeeze=False, height_ratios=heights)[:, 0]
        for axis, strip in zip(axes, maps, strict=True):
            top = float(np.abs(strip.values).max()) or 1.0
            image = axis.imshow(
                strip.values,
                aspect="auto",
                interpolation="nearest",
                cmap=SIGNED_COLOURS,
                vmin=-top,
                vmax=top,
            )
            axis.set_title(strip.title, fontsize=10, loc="left")
            axis.set_yticks(range(len(strip.positions)), labels=list(strip.positions))
            axis.grid(False)
            figure.colorbar(image, ax=axis, pad=0.01, aspect=8)
        figure.suptitle(f"activations for {title}: purple above zero, green below", fontsize=12)
        figure.supxlabel(
            "dimension (encoder, decoder, recon) or neuron (sae-pre, sae)", fontsize=10
        )
        return figure


def draw_histogram(edges: Array, before: NDArray[np.int64], after: NDArray[np.int64]) -> Figure:
    """Draw the counts of all neurons' values before and after the activation function."""
    with style():
        figure, (axis,) = panels(1, width=7)
        colour = COLOURS["neurons"]
        axis.stairs(before, edges, fill=True, alpha=0.4, color=colour, label="pre-activations")
        axis.stairs(after, edges, linewidth=1.6, color=colour, label="activations")
        filled = edges[:-1][(before + after) > 0]
        axis.set(
            title="values of all neurons at all answer positions",
            xlabel="value",
            ylabel="count",
            yscale="log",
            xlim=(filled.min(), filled.max() + edges[1] - edges[0]),
        )
        axis.legend()
        sns.despine(figure)
        return figure


def draw_density(names: Sequence[str], density: Array) -> Figure:
    """Draw how many neurons fire at which share of each task's positions, [task, d_sae]."""
    with style():
        figure, (axis,) = panels(1, width=7)
        least = 0.75 * _smallest(density)  # with bins that double, none is between two densities
        bins = least * 2.0 ** np.arange(1 + np.ceil(-np.log2(least)))
        for name, row, line in zip(names, density, TASK_LINES, strict=False):
            counts, _ = np.histogram(row[row > 0], bins)
            silent = f"{int((row == 0).sum()):,} never fire"
            axis.stairs(counts, bins, linewidth=1.6, linestyle=line, label=f"{name} ({silent})")
        axis.set(
            title="neurons by how often they fire",
            xlabel="density: share of the task's positions at which a neuron fires",
            ylabel="neurons, in bins that double",
            xscale="log",
        )
        axis.legend()
        sns.despine(figure)
        return figure


def draw_density_pairs(names: Sequence[str], density: Array) -> Figure:
    """Draw every neuron's density for one task against another, [task, d_sae], 0 below the rest."""
    with style():
        zero = _smallest(density) / 3
        figure, task_pairs = pair_panels(len(names))
        shown = np.where(density > 0, density, zero)[:, (density > 0).any(axis=0)]
        for x, y, axis in task_pairs:
            points = shown[x], shown[y]
            axis.scatter(*points, s=14, alpha=0.5, linewidth=0, color=COLOURS["neurons"])
            axis.plot([zero, 1], [zero, 1], **GUIDE)
            axis.set(xscale="log", yscale="log")
            axis.set(xlabel=f"density in {names[x]}", ylabel=f"density in {names[y]}")
            for scale in (axis.xaxis, axis.yaxis):
                powers = 10.0 ** np.arange(np.ceil(np.log10(_smallest(density))), 1)
                scale.set_ticks([zero, *powers], labels=["0", *(f"{p:g}" for p in powers)])
                scale.set_minor_locator(NullLocator())
        figure.suptitle(
            "how often each neuron fires:\ndensity, the share of a task's answer positions",
            fontsize=11,
        )
        return figure


def _smallest(density: Array) -> float:
    """Return the smallest density other than zero; 0.1 if no neuron fires at all."""
    return float(density[density > 0].min(initial=0.1))
