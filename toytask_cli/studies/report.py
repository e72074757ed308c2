"""The report of a study: every run, each recipe over its runs, and recipes compared."""

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from toytask_cli.analysis import quantities
from toytask_cli.analysis.quantities import higher_is_better
from toytask_cli.folds import parse_fold
from toytask_cli.recipe import Recipe
from toytask_cli.studies.plan import Plan, PlannedRun
from toytask_cli.studies.statistics import (
    independent_runs,
    paired_difference,
    spread,
    worse_at_most,
)

Values = Mapping[str, float]

DEFINITIONS = {
    **quantities.DEFINITIONS,
    "recipe": "the fields that tell recipes apart; the others are in the runs' config.json",
    "status": "finished; failed in all attempts; or left to do",
    "n": "finished runs that have the quantity",
    "sd_seeds": "standard deviation over seeds; over seeds and splits together where every seed "
    "has a split of its own",
    "sd_splits": "standard deviation over splits, which are split seeds or folds",
    "sd_residual": "standard deviation of what seed and split do not add up to. Where seeds and "
    "splits are crossed, all three are components of variance by a two-way analysis; null where "
    "the runs cannot tell",
    "worst": "the worst value of any run, and worst_run its id: the lowest accuracy, share kept or "
    "explained variance, the highest of every other quantity",
    "worse_at_most": "at most this share of such runs is worse than the worst of these, at 95 %: "
    "1 − 0.05^(1/n), n the number of seeds (of splits, for a single seed). Failed runs do not "
    "count",
    "comparisons": "each recipe less the first one, over the runs of equal seed and split. ci95 of "
    "the mean difference by Student's t; between folds with the correction of Nadeau and Bengio "
    "(2003). share_won: of the pairs of runs, those in which it is better than the first; a tie "
    "counts half",
}


@dataclass(frozen=True)
class RecipeRuns:
    """The finished runs of one recipe, whatever their seeds and splits."""

    recipe: dict[str, Any]
    runs: list[PlannedRun]
    values: list[Values]

    def quantities(self) -> list[str]:
        """Return the names of all quantities that some run has, in order."""
        most_first = sorted(self.values, key=len, reverse=True)  # for a lasting order
        return list(dict.fromkeys(name for values in most_first for name in values))

    def table(self, quantity: str) -> dict[tuple[int, str], float]:
        """Return cell → value of one quantity."""
        pairs = zip(self.runs, self.values, strict=True)
        return {run.cell: values[quantity] for run, values in pairs if quantity in values}


def build_report(
    plan: Plan, path: Path, finished: Mapping[str, Values], failed: Mapping[str, str]
) -> dict[str, Any]:
    """Return the report of a study, finished or not.

    Args:
        path: of the study.
        finished: run id → what was measured.
        failed: run id → reason.
    """
    recipes = _by_recipe(plan, finished)
    return {
        "study": str(path),
        "n_runs": len(plan.runs),
        "n_finished": len(finished),
        "n_failed": len(failed),
        "varied": list(recipes[0].recipe) if recipes else [],
        "precision": plan.precision,
        "threads": plan.threads,
        "tolerances": list(plan.tolerances),
        "runs": [_run_row(plan, run, path, finished, failed) for run in plan.runs],
        "summary": [row for group in recipes for row in _summary_rows(group)],
        "comparisons": [row for group in recipes[1:] for row in _comparison(group, recipes[0])],
        "definitions": DEFINITIONS,
    }


def _run_row(
    plan: Plan,
    run: PlannedRun,
    path: Path,
    finished: Mapping[str, Values],
    failed: Mapping[str, str],
) -> dict[str, Any]:
    status = "finished" if run.id in finished else "failed" if run.id in failed else "left"
    return {
        "id": run.id,
        "path": str(path / run.id),
        "status": status,
        "seed": run.recipe.seed,
        "split_seed": run.recipe.split_seed,
        "split_by": run.recipe.split_by,
        "recipe": plan.recipe_of(run),
        "values": finished.get(run.id, {}),
        "reason": failed.get(run.id),
    }


def _by_recipe(plan: Plan, finished: Mapping[str, Values]) -> list[RecipeRuns]:
    """Return the finished runs of each recipe, in the order of the plan."""
    groups: dict[str, RecipeRuns] = {}
    for run in plan.runs:
        if run.id in finished:
            recipe = plan.recipe_of(run)
            group = groups.setdefault(str(recipe), RecipeRuns(recipe, [], []))
            group.runs.append(run)
            group.values.append(finished[run.id])
    return list(groups.values())


def _summary_rows(group: RecipeRuns) -> Iterable[dict[str, Any]]:
    for quantity in group.quantities():
        table = group.table(quantity)
        worst = (min if higher_is_better(quantity) else max)(table.values())
        spreads = spread(table)
        yield {
            "recipe": group.recipe,
            "quantity": quantity,
            "n": len(table),
            "mean": sum(table.values()) / len(table),
            "sd_seeds": spreads.seeds,
            "sd_splits": spreads.splits,
            "sd_residual": spreads.residual,
            "worst": worst,
            "worst_run": next(run.id for run in group.runs if table.get(run.cell) == worst),
            "worse_at_most": worse_at_most(independent_runs(table)),
        }


def _comparison(group: RecipeRuns, baseline: RecipeRuns) -> Iterable[dict[str, Any]]:
    ratio = _test_to_train(group.runs[0].recipe)
    for quantity in group.quantities():
        difference = paired_difference(
            group.table(quantity),
            baseline.table(quantity),
            higher_is_better=higher_is_better(quantity),
            test_to_train=ratio,
        )
        if difference is not None:
            names = {"recipe": group.recipe, "against": baseline.recipe, "quantity": quantity}
            yield names | {
                "n": difference.n,
                "difference": difference.mean,
                "ci95": difference.ci95,
                "share_won": difference.share_won,
            }


def _test_to_train(recipe: Recipe) -> float | None:
    """Return the size of a fold's test split over that of its train split; None without folds."""
    fold = parse_fold(recipe.split_by)
    if fold is None:
        return None
    train = recipe.train_fraction / (recipe.train_fraction + recipe.validation_fraction)
    return 1 / ((fold.total - 1) * train)
