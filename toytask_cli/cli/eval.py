"""`toytask eval`: accuracy on unseen examples, and how the wrong answers are wrong."""

from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from toytask_cli.cli.common import Report, keep_report, open_run, show_kept, write_figures
from toytask_cli.cli.completion import ablation_of_run, one_of
from toytask_cli.cli.console import (
    interval,
    percent,
    prediction_text,
    print_result,
    print_table,
    task_texts,
)
from toytask_cli.cli.options import DeviceOption, FiguresOption, JsonOption, RunArgument, SeedOption
from toytask_cli.errors import ToytaskError, unknown_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.text import Text
    from torch import Tensor

    from toytask_cli.dataset import Grid
    from toytask_cli.runs.run import Run

WRONG_SHOWN = 12
SLICES = {
    "carry": "a column of digits adds up to ten",
    "no_carry": "no column adds up to ten",
    "merged_tokens": "digits of two numbers merge in a token",
    "no_merged_tokens": "no digits merge",
    "unseen_token": "an answer token is new at its position",
    "no_unseen_token": "all tokens were seen in training",
}


def eval_(
    run: RunArgument = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="validation or test. Default: test where the run has such a split.",
            autocompletion=one_of(("validation", "test")),
        ),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Measure a random sample of this many examples.")
    ] = None,
    ablation: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Measure with this ablation applied.",
            autocompletion=ablation_of_run,
        ),
    ] = None,
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
) -> None:
    """Measure accuracy on examples that were not trained on.

    Example: toytask eval runs/01 --limit 1000
    """
    from toytask_cli.analysis.evaluate import evaluate
    from toytask_cli.analysis.generate import Variant

    opened, grid, model = open_run(run, device)
    split = _check_split(split, grid, opened)
    variant = Variant()
    if ablation is not None:
        variant = Variant.from_report(opened.read_ablation(ablation), opened.config.recipe.d_sae)
    with variant.applied_to(model):
        evaluation, correctness = evaluate(model, grid, split, limit, seed)
    name = _report_name(split, grid, ablation, limit)
    settings = {"ablation": ablation, "limit": limit, "seed": seed}
    kept = keep_report(opened, name, {**settings, **asdict(evaluation)})
    show_kept(kept, json, _print_report, ("sparsity", kept.run.path))
    if figures and not kept.refusal:
        write_figures(kept.run, partial(_figures, name, grid.task_names, correctness))


def _figures(name: str, tasks: list[str], correctness: "Tensor") -> "dict[str, Figure]":
    from toytask_cli.figures.evaluation import draw_correctness

    by_task = dict(zip(tasks, correctness.numpy(), strict=True))
    return {f"{name}-correctness": draw_correctness(by_task)}


def _check_split(split: str | None, grid: "Grid", run: "Run") -> str:
    if split is None:
        return grid.report_split
    if split not in ("validation", "test"):
        raise unknown_choice("split", split, ("validation", "test"))
    if split == "test" and grid.report_split != "test":
        raise ToytaskError(f"{run.path} has no test split: use --split validation")
    return split


def _report_name(split: str, grid: "Grid", ablation: str | None, limit: int | None) -> str:
    """Return `eval` for the whole report split, and a name of its own for anything else."""
    extra = ["" if split == grid.report_split else split, ablation, "sample" if limit else ""]
    return "-".join(["eval", *filter(None, extra)])


def _print_report(report: Report) -> None:
    sample = "" if report["limit"] is None else f"{report['n']:,} random examples of "
    ablation = f" with {report['ablation']}" if report["ablation"] else ""
    print_result(f"exact match on {sample}the {report['split']} split of {report['run']}{ablation}")
    _print_accuracy(report)
    if report["ablation"] and report["split"] == "validation":
        print_result("not a fair test: the ablation's neurons were chosen on pairs of this split")
    _print_slices(report)
    _print_error_types(report)
    greedy = report["greedy"]
    print_result(
        f"greedy decoding agrees with teacher forcing on {greedy['agree']:,} of {greedy['n']:,}"
    )


def _print_accuracy(report: Report) -> None:
    headings = ["task", "accuracy", "95 % interval", "wrong", "n", "CE loss (nats)"]
    rows: list[list[str | Text]] = []
    n_wrong = {name: sum(task["error_types"].values()) for name, task in report["tasks"].items()}
    names = task_texts(report["tasks"])
    for name, (key, task) in zip(names, report["tasks"].items(), strict=True):
        counts = f"{n_wrong[key]:,}", f"{task['n']:,}"
        rows.append([name, *_accuracy_cells(task), *counts, f"{task['ce_loss']:.4f}"])
    counts = f"{sum(n_wrong.values()):,}", f"{report['n']:,}"
    rows += [[], ["all", *_accuracy_cells(report), *counts]]
    print_table(headings, rows)


def _accuracy_cells(measured: Report) -> tuple[str, str]:
    return percent(measured["accuracy"]), interval(measured["ci95"])


def _print_slices(report: Report) -> None:
    rows = []
    for name, label in SLICES.items():
        slices = [task["slices"][name] for task in report["tasks"].values()]
        if any(slices):
            cells = (f"{percent(s['accuracy'])} of {s['n']:,}" if s else "-" for s in slices)
            rows.append([label, *cells])
    print_table(["accuracy where", *report["tasks"]], rows)


def _print_error_types(report: Report) -> None:
    """Print how many answers of each task are wrong in which way, and some of them."""
    from toytask_cli.analysis.error_types import ERROR_TYPES

    wrong = report["wrong"]
    if not wrong:
        return
    by_task = {name: task["error_types"] for name, task in report["tasks"].items()}
    shown = [kind for kind in ERROR_TYPES if any(counts[kind] for counts in by_task.values())]
    headings = ["wrong answers", *(kind.replace("_", " ") for kind in shown)]
    rows = ([name, *(str(counts[kind]) for kind in shown)] for name, counts in by_task.items())
    print_table(headings, rows)
    spaced = wrong[:: max(1, len(wrong) // WRONG_SHOWN)][:WRONG_SHOWN]
    rows = ([answer["prompt"], answer["target"], prediction_text(answer)] for answer in spaced)
    print_table(["prompt", "target", "prediction"], rows)
