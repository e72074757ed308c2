"""Do the tasks come apart with every kind of SAE, at equal L0, with the penalty and without?

    seeds="--seeds 0-4 --jobs 1"
    toytask study --vary lambda=0.0031,0.0012,0.00046 --vary beta=0.2 $seeds --out kinds/relu
    toytask study --vary lambda=0.0019,0.00082,0.00044 --vary beta=0 $seeds --out kinds/relu-0
    toytask study --sae topk --vary k=8,16,32 --vary beta=0,0.2 $seeds --out kinds/topk
    toytask study --sae jumprelu --vary target_l0=8,16,32 --vary beta=0,0.2 $seeds \
        --out kinds/jumprelu
    python tests/benchmarks/experiments/kinds.py kinds/* --out figures

These λ give an L0 of about 8, 16 and 32, which the other kinds can be set to. Neurons are chosen at
tolerance 0.1, and the error is kept; what is left of the removed task and kept of the other is
measured on test pairs.
"""

import argparse
from collections.abc import Iterator, Sequence
from math import nan
from pathlib import Path
from statistics import fmean
from typing import Any, NamedTuple

import numpy as np
import seaborn as sns
from matplotlib.figure import Figure
from shared import TOLERANCE, print_table, save

from toytask_cli.figures.style import GUIDE, panels, style
from toytask_cli.runs.run import Run
from toytask_cli.runs.study_directory import StudyDirectory

TASKS = ("concat", "sum")  # that are removed, the other one kept
MARKERS = ("o", "s", "^")
TICKS = (4, 8, 16, 32, 64)


class Setting(NamedTuple):
    """The finished runs of one kind of SAE with the same recipe but for the seed."""

    kind: str
    sparsity: str  # what sets it: `k 16`
    beta: float
    values: list[dict[str, float]]  # of each run, by quantity

    def of(self, quantity: str) -> list[float]:
        """Return a quantity of each run that has it: a task that is never right cannot be kept."""
        return [values[quantity] for values in self.values if quantity in values]

    def after(self, removed: str, what: str) -> list[tuple[float, float]]:
        """Return each run's L0, and in % what is `left` of a removed task or kept of another."""
        quantity = f"removed.{removed}.tol{TOLERANCE:g}.keep.{what}"
        found = [values for values in self.values if quantity in values]
        return [(values["l0"], 100 * values[quantity]) for values in found]


def settings_of(study: Path) -> Iterator[Setting]:
    """Yield the settings of a study, in its order."""
    report = StudyDirectory(study).read_report()
    groups: dict[tuple[tuple[str, Any], ...], list[dict[str, Any]]] = {}
    for run in report["runs"]:
        if run["status"] == "finished":
            groups.setdefault(tuple(run["recipe"].items()), []).append(run)
    for recipe, runs in groups.items():
        beta = dict(recipe)["beta"]
        sparsity = ", ".join(f"{key} {value:g}" for key, value in recipe if key != "beta")
        kind = Run.open(Path(runs[0]["path"])).config.recipe.sae
        yield Setting(kind, sparsity, beta, [run["values"] for run in runs])


def row_of(setting: Setting) -> list[object]:
    """Return a row of the table: means, and the least or the most where that is the worst."""
    accuracy = min(min(setting.of(f"accuracy.{task}")) for task in TASKS)
    row: list[object] = [
        setting.kind,
        setting.sparsity,
        f"{setting.beta:g}",
        len(setting.values),
        f"{fmean(setting.of('l0')):.1f}",
        f"{100 * accuracy:.2f}",
        f"{min(setting.of('explained_variance')):.4f}",
        f"{fmean(setting.of('dead')):.0f}",
    ]
    for removed, kept in (TASKS, TASKS[::-1]):
        left = max((value for _, value in setting.after(removed, "left")), default=nan)
        least = min((value for _, value in setting.after(removed, f"kept.{kept}")), default=nan)
        row.append(f"{left:.1f} / {least:.1f}")
    return row


def draw(settings: Sequence[Setting]) -> Figure:
    """Draw left and kept of every run over its L0: filled with the penalty, hollow without."""
    kinds = list(dict.fromkeys(setting.kind for setting in settings))
    with style():
        figure, axes = panels(2, 2, width=4.2, height=3.2)
        colours = dict(zip(kinds, sns.color_palette(n_colors=len(kinds)), strict=True))
        markers = dict(zip(kinds, MARKERS, strict=False))
        for column, (removed, other) in enumerate((TASKS, TASKS[::-1])):
            for row, what in enumerate(("left", f"kept.{other}")):
                axis = axes[2 * row + column]
                axis.axhline(0 if row == 0 else 100, **GUIDE)
                for setting in settings:
                    colour, with_penalty = colours[setting.kind], setting.beta > 0
                    axis.scatter(
                        *np.reshape(setting.after(removed, what), (-1, 2)).T,
                        marker=markers[setting.kind],
                        edgecolor=colour,
                        facecolor=colour if with_penalty else "none",
                        s=22,
                        clip_on=False,
                        label=f"{setting.kind}, β {setting.beta:g}",
                    )
                axis.set_xscale("log", base=2)
                axis.set(xticks=TICKS, xticklabels=TICKS, ylim=(-3, 103), xlabel="L0")
                axis.set(ylabel=f"% left of {removed}" if row == 0 else f"% kept of {other}")
                axis.set_title(f"{removed} removed")
        handles = dict(zip(*axes[0].get_legend_handles_labels()[::-1], strict=True))
        figure.legend(handles.values(), handles.keys(), loc="outside right center")
        sns.despine(figure)
        return figure


def main() -> None:
    """Print the table; draw the figure if a directory for it is given."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("studies", type=Path, nargs="+")
    options.add_argument("--out", type=Path, help="directory for the figure; none without it")
    args = options.parse_args()
    settings = [setting for study in args.studies for setting in settings_of(study)]
    header = ["kind", "set by", "β", "runs", "L0", "accuracy %, least", "explained variance, least"]
    header += ["dead", *(f"{task} removed: left, most / kept, least" for task in TASKS)]
    print_table(header, map(row_of, settings))
    if args.out is not None:
        save(draw(settings), args.out, "kinds")


if __name__ == "__main__":
    main()
