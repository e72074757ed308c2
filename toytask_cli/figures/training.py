"""A training run over its epochs."""

from collections.abc import Mapping, Sequence
from typing import Any

import seaborn as sns
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import (
    Locator,
    LogLocator,
    MaxNLocator,
    NullFormatter,
    SymmetricalLogLocator,
)

from toytask_cli.figures.style import panels, style

TERMS = {
    "loss": "loss",
    "ce": "cross-entropy (nats)",
    "mse": "SAE reconstruction error",
    "l1": "L1 of activations",
    "overlap": "overlap between tasks",
}


def draw_losses(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Every term of the loss, on training and on validation examples."""
    with style():
        figure, axes = panels(3, 2, width=4.4, height=3.2)
        for (term, label), axis in zip(TERMS.items(), axes, strict=False):
            for part in ("train", "validation"):
                found = [(m["epoch"], m[part][term]) for m in metrics if m[part]]
                axis.plot(*zip(*found, strict=True), label=part, linewidth=1.4)
            axis.set(title=label, xlabel="epoch", yscale="symlog" if term == "overlap" else "log")
            axis.yaxis.set_major_locator(_ticks(axis))
            axis.yaxis.set_major_formatter("{x:g}")
            axis.yaxis.set_minor_formatter(NullFormatter())
            _mark_epochs(axis, metrics)
        axes[0].legend()
        axes[-1].axis("off")
        sns.despine(figure)
        return figure


def _ticks(axis: Axes) -> Locator:
    """Ticks at 1, 2 and 5, so that an axis within one power of ten has some."""
    if axis.get_yscale() == "log":
        return LogLocator(subs=(1, 2, 5))
    return SymmetricalLogLocator(axis.yaxis.get_transform(), subs=(1, 2, 5))


def draw_accuracy(metrics: Sequence[Mapping[str, Any]]) -> Figure:
    """Exact match on validation for each task, and how many neurons fire."""
    with style():
        figure, (accuracy, neurons) = panels(2)
        validated = [m for m in metrics if m["validation"]]
        epochs = [m["epoch"] for m in validated]
        for task in validated[0]["validation"]["accuracy"]:
            values = [100 * m["validation"]["accuracy"][task] for m in validated]
            accuracy.plot(epochs, values, label=task)
        accuracy.set(title="exact match on validation", xlabel="epoch", ylabel="%", ylim=(-2, 102))
        neurons.plot(epochs, [m["validation"]["l0"] for m in validated], label="l0, per position")
        dead = [m["validation"]["dead_neurons"] for m in validated]
        neurons.plot(epochs, dead, label="dead neurons")
        neurons.set(title="SAE neurons", xlabel="epoch", ylabel="count", yscale="symlog")
        neurons.set_ylim(bottom=0)
        for axis in (accuracy, neurons):
            _mark_epochs(axis, metrics)
            axis.legend()
        sns.despine(figure)
        return figure


def _mark_epochs(axis: Axes, metrics: Sequence[Mapping[str, Any]]) -> None:
    """A line where the second phase begins; epochs are whole."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    second = [m["epoch"] for m in metrics if m["phase"] != metrics[0]["phase"]]
    if second:
        label = f"{metrics[-1]['phase']} begins"
        axis.axvline(second[0] - 0.5, color="0.5", linestyle=":", linewidth=1.2, label=label)
