"""Does an SAE that is trained afterwards, on a frozen model, separate the tasks?

    python tests/benchmarks/experiments/frozen.py runs/reference --out figures

Train a new SAE on the run's transformer, which is frozen, with the recipe's α and λ, without β and
with it, the rate falling to zero. A transformer that was trained with β is shaped by it, so compare
with a run of `--beta 0`. Neurons are chosen on validation. The accuracy left of the removed task
and the least of the others are exact match on test: at tolerance 0.1, at the automatic tolerance,
and at the point of the curve with the widest gap on validation.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import seaborn as sns
import torch
from matplotlib.figure import Figure
from shared import CPU, TOLERANCE, parser, percent, print_table, save, scores_of
from torch import Tensor, nn

from toytask_cli.analysis.effects import right_without
from toytask_cli.analysis.generate import AS_TRAINED
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.analysis.select import apply_rule, largest_that_keeps, removals
from toytask_cli.analysis.sparsity import measure_sparsity
from toytask_cli.dataset import Grid
from toytask_cli.figures.style import panels, style
from toytask_cli.hooks import ERRORS
from toytask_cli.model import Transformer
from toytask_cli.recipe import Recipe
from toytask_cli.rng import generator
from toytask_cli.runs.run import Run
from toytask_cli.training.loop import Trainer

JOINT = "trained with the model"


@dataclass(frozen=True)
class Effect:
    """The effect of removing one task on test accuracy."""

    sae: str
    removed: str
    error: str
    at_tolerance: tuple[float, float]  # accuracy left of the removed task, least of the kept
    automatic: tuple[float, float] | None  # None where no tolerance keeps enough
    widest: tuple[float, float]
    curve: list[tuple[float, float]]


@torch.no_grad()
def draw_sae(model: Transformer, seed: int) -> None:
    """Give the SAE new weights, drawn as at the start of training."""
    draw = generator(seed, "frozen SAE")
    for layer in (model.sae.encoder, model.sae.decoder):
        nn.init.xavier_uniform_(layer.weight, generator=draw)
        nn.init.zeros_(layer.bias)


def train_sae(run: Run, grid: Grid, beta: float, epochs: int) -> Transformer:
    """Return the run's model with an SAE trained afterwards."""
    recipe = replace(run.config.recipe, beta=beta, epochs=epochs, separate_epochs=epochs)
    model = run.model(grid, CPU)
    draw_sae(model, recipe.seed)
    model.requires_grad_(False).sae.requires_grad_(True)
    trainer = Trainer(recipe, grid, model, getattr(torch, run.config.precision))
    for _ in trainer.run():
        pass
    model.load_state_dict(trainer.best)
    return model


def effects_of(model: Transformer, grid: Grid, sae: str, seed: int) -> list[Effect]:
    """Return the effect of removing each task, with the error kept and dropped."""
    scores = scores_of(model, grid, seed)
    importance = scores.tensors.importance
    unseen = MatchedPairs(model, grid, grid.matched_pairs()[1])
    effects = []
    for task, row in enumerate(grid.tasks):
        points = [point.neurons for point in removals(importance, [task])]
        sets = [AS_TRAINED, apply_rule(importance, [task], TOLERANCE), *points]
        for error in ERRORS:
            choose, report = (
                right_without(matched, sets, error) for matched in (scores.matched, unseen)
            )
            automatic = largest_that_keeps(choose[0], choose[2:], [task])
            on_test = [left_and_kept(right, task) for right in report]
            gaps = [kept - left for left, kept in (left_and_kept(r, task) for r in choose[2:])]
            effects.append(
                Effect(
                    sae=sae,
                    removed=row.name,
                    error=error,
                    at_tolerance=on_test[1],
                    automatic=None if automatic is None else on_test[2 + automatic],
                    widest=on_test[2 + int(np.argmax(gaps))],
                    curve=on_test[2:],
                )
            )
    return effects


def left_and_kept(right: Tensor, removed: int) -> tuple[float, float]:
    """Return the removed task's accuracy and the least of the others', from [task, pair]."""
    shares = right.double().mean(dim=1).tolist()
    return shares[removed], min(share for i, share in enumerate(shares) if i != removed)


def quality(model: Transformer, grid: Grid, sae: str) -> list[str]:
    """Return a row of the first table: how good and how sparse an SAE is."""
    report, _ = measure_sparsity(model, grid, grid.report_split)
    by_tasks = report.neurons_by_tasks[-1]  # at the higher threshold
    variance = report.all.explained_variance
    return [
        sae,
        "–" if variance is None else f"{variance:.3f}",
        f"{report.all.l0:.1f}",
        f"{by_tasks.one} / {by_tasks.several}",
    ]


def cells(effect: Effect) -> list[str]:
    """Return a row of the second table."""
    shares = (effect.at_tolerance, effect.automatic, effect.widest)
    pairs = [f"{percent(s[0])} / {percent(s[1])}" if s else "–" for s in shares]
    return [effect.sae, effect.removed, effect.error, *pairs]


def draw(effects: Sequence[Effect]) -> Figure:
    """Draw accuracy left against kept over all tolerances, the error kept, one panel a task."""
    removed = list(dict.fromkeys(effect.removed for effect in effects))
    with style():
        figure, axes = panels(len(removed))
        for axis, task in zip(axes, removed, strict=True):
            for effect in effects:
                if (effect.removed, effect.error) == (task, "keep"):
                    curve = 100 * np.array(effect.curve)
                    axis.plot(*curve.T, marker="o", markersize=4, alpha=0.8, label=effect.sae)
            axis.set(title=f"{task} removed", xlabel=f"accuracy left of {task} (%)")
            axis.set(xlim=(-4, 104), ylim=(-4, 104))
        axes[0].set_ylabel("accuracy kept (%)")
        axes[0].legend(title="SAE", fontsize=8, loc="lower left")
        sns.despine(figure)
        return figure


def main() -> None:
    """Print how good each SAE is, and the effect of its removals."""
    options = parser(__doc__)
    options.add_argument("--epochs", type=int, default=60, help="to train each SAE for")
    args = options.parse_args()
    run = Run.open(args.run)
    recipe, grid = run.config.recipe, run.grid()
    models = {JOINT: run.model(grid, CPU)}
    for beta in (0.0, recipe.beta or Recipe.beta):
        models[f"trained afterwards, β {beta:g}"] = train_sae(run, grid, beta, args.epochs)
    header = ["SAE", "explained variance", "l0", "neurons: one task / several"]
    print_table(header, (quality(model, grid, sae) for sae, model in models.items()))
    print()
    effects = [
        effect
        for sae, model in models.items()
        for effect in effects_of(model, grid, sae, recipe.seed)
    ]
    points = [f"at {TOLERANCE:g}", "automatic", "widest gap"]
    header = ["SAE", "removed", "error", *(f"{point}: left / kept %" for point in points)]
    print_table(header, map(cells, effects))
    if args.out:
        save(draw(effects), args.out, "frozen")


if __name__ == "__main__":
    main()
