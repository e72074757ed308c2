"""A training run over its epochs: every term of the loss, and every metric of validation."""

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

from toytask_cli.figures.colours import COLOURS, TASK_LINES
from toytask_cli.figures.style import legend_below, rows_of_panels, style

Record = Mapping[str, Any]


def draw_losses(metrics: Sequence[Record], labels: Mapping[str, str]) -> Figure:
    """Draw every term of the loss, on training and on validation examples.

    Args:
        metrics: one record for each epoch.
        labels: name of a term → title of its panel.
    """
    terms = list(metrics[0]["train"])
    with style():
        figure, axes = rows_of_panels(len(terms), width=3.4, height=2.6)
        for term, axis in zip(terms, axes, strict=True):
            values = []
            for split, line in (("train", "--"), ("validation", "-")):
                points = [(m["epoch"], m[split][term]) for m in metrics if m[split]]
                axis.plot(
                    *zip(*points, strict=True), line, label=split, color=COLOURS[split], lw=1.4
                )
                values += [value for _, value in points]
            axis.set(title=labels.get(term, term), xlabel="epoch")
            _use_log_scale(axis, values)
            _mark_epochs(axis, metrics)
        figure.suptitle("the loss and its terms in training, by epoch", fontsize=12)
        sns.despine(figure)
        legend_below(figure, axes[0])
        return figure


def _use_log_scale(axis: Axes, values: Sequence[float]) -> None:
    """Use a log scale, linear around zero if it is needed, with plain numbers at few ticks."""
    low, high = min(values), max(values)
    axis.set_yscale("log" if low > 0 else "symlog")
    steps = (1.0, 2.0, 5.0) if low > 0 and high / low < 1000 else (1.0,)
    locator: Locator = LogLocator(subs=steps)
    if low <= 0:
        locator = SymmetricalLogLocator(axis.yaxis.get_transform(), subs=steps)
    axis.yaxis.set_major_locator(locator)
    axis.yaxis.set_major_formatter("{x:g}")
    axis.yaxis.set_minor_formatter(NullFormatter())


def draw_metrics(metrics: Sequence[Record], labels: Mapping[str, str]) -> Figure:
    """Draw every metric that validation adds to the terms of the loss.

    Args:
        metrics: one record for each epoch. A metric by task holds shares, drawn in percent.
        labels: name of a metric → title of its panel.
    """
    validated = [m for m in metrics if m["validation"]]
    epochs = [m["epoch"] for m in validated]
    names = [name for name in validated[0]["validation"] if name not in metrics[0]["train"]]
    with style():
        figure, axes = rows_of_panels(len(names), width=3.4, height=2.9)
        for name, axis in zip(names, axes, strict=True):
            values = [m["validation"][name] for m in validated]
            axis.set(title=labels.get(name, name), xlabel="epoch")
            if isinstance(values[0], Mapping):
                for task, line in zip(values[0], TASK_LINES, strict=False):
                    shares = [100 * value[task] for value in values]
                    axis.plot(epochs, shares, linestyle=line, label=task)
                axis.set(ylabel="right answers (%)", ylim=(-2, 102))
            else:
                axis.plot(epochs, values, color=COLOURS["validation"])
                axis.set_ylim(bottom=0)
            _mark_epochs(axis, metrics)
        figure.suptitle("measured on validation examples, by epoch", fontsize=12)
        sns.despine(figure)
        legend_below(figure, axes[0])
        return figure


def _mark_epochs(axis: Axes, metrics: Sequence[Record]) -> None:
    """Mark whole epochs, and where the second phase begins."""
    axis.xaxis.set_major_locator(MaxNLocator(integer=True))
    second = [m["epoch"] for m in metrics if m["phase"] != metrics[0]["phase"]]
    if second:
        label = f"{metrics[-1]['phase']} begins"
        axis.axvline(second[0] - 0.5, color="0.5", linestyle=":", linewidth=1.2, label=label)
