"""`toytask eval`: accuracy on unseen examples, and how the wrong answers are wrong."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.console import (
    err,
    interval,
    out,
    percent,
    plain_table,
    print_json,
    said,
    say,
    say_next,
)
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    RunArgument,
    SeedOption,
)
from toytask_cli.errors import ToytaskError, unknown_choice

if TYPE_CHECKING:
    from torch import Tensor

    from toytask_cli.dataset import Grid
    from toytask_cli.runs.run import Run

WRONG_SHOWN = 12
SLICES = {
    "carry": "a column of digits adds up to ten",
    "no_carry": "none does",
    "merged_tokens": "digits of two numbers merge",
    "no_merged_tokens": "it does not",
    "unseen_token": "an answer token is new there",
    "no_unseen_token": "all were seen in training",
}


def eval_(
    run: RunArgument = None,
    split: Annotated[
        str | None,
        typer.Option(help="validation or test. Default: test where the run has such a split."),
    ] = None,
    limit: Annotated[
        int | None, typer.Option(min=1, help="Measure a random sample of this many examples.")
    ] = None,
    ablation: Annotated[
        str | None, typer.Option(metavar="NAME", help="Measure with this ablation in place.")
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
    from toytask_cli.device import find_device
    from toytask_cli.runs.run import Run

    opened = Run.open(run)
    place = find_device(device)
    grid = opened.grid()
    model = opened.model(grid, place)
    split = _check_split(split, grid, opened)
    variant = Variant()
    if ablation is not None:
        variant = Variant.from_report(opened.read_ablation(ablation), opened.config.recipe.d_sae)
    with variant.applied_to(model):
        evaluation, correctness = evaluate(model, grid, split, limit, seed)
    name = "eval" if split == grid.report_split else f"eval-{split}"
    name = name if ablation is None else f"{name}-{ablation}"
    name = name if limit is None else f"{name}-sample"
    settings = {"ablation": ablation, "limit": limit, "seed": seed}
    report = opened.write_report(name, {**settings, **asdict(evaluation)})
    if figures:
        _draw(opened, grid, name, correctness)
    if json:
        print_json(report)
        return
    _print_report(report)
    err().print(f"wrote {opened.path}/reports/{name}.json", soft_wrap=True)
    say_next("sparsity", opened.path)


def _check_split(split: str | None, grid: "Grid", run: "Run") -> str:
    if split is None:
        return grid.report_split
    if split not in ("validation", "test"):
        raise unknown_choice("split", split, ("validation", "test"))
    if split == "test" and grid.report_split != "test":
        raise ToytaskError(f"{run.path} was split without a test split: use --split validation")
    return split


def _draw(run: "Run", grid: "Grid", name: str, correctness: "Tensor") -> None:
    from toytask_cli.figures.evaluation import draw_correctness
    from toytask_cli.figures.style import png

    by_task = {t.name: row.numpy() for t, row in zip(grid.tasks, correctness, strict=True)}
    run.write_figure(f"{name}-correctness", png(draw_correctness(by_task)))


def _print_report(report: dict[str, Any]) -> None:
    table = plain_table("task", "accuracy", "95 % interval", "wrong", "n", "CE loss (nats)")
    n_wrong = {name: sum(task["error_types"].values()) for name, task in report["tasks"].items()}
    for name, task in report["tasks"].items():
        table.add_row(
            name, percent(task["accuracy"]), interval(task["ci95"]),
            f"{n_wrong[name]:,}", f"{task['n']:,}", f"{task['ce_loss']:.4f}",
        )  # fmt: skip
    table.add_section()
    table.add_row(
        "all", percent(report["accuracy"]), interval(report["ci95"]),
        f"{sum(n_wrong.values()):,}", f"{report['n']:,}", "",
    )  # fmt: skip
    cut = f" with {report['ablation']}" if report["ablation"] else ""
    sample = "" if report["limit"] is None else f"{report['n']:,} random examples of "
    out().print(f"exact match on {sample}the {report['split']} split of {report['run']}{cut}")
    out().print(table)
    if report["ablation"] and report["split"] == "validation":
        say("neurons are chosen on pairs of this split: no fair test of an ablation")
    _print_slices(report)
    _print_mistakes(report)
    greedy = report["greedy"]
    out().print(
        f"greedy decoding agrees with teacher forcing on {greedy['agree']:,} of {greedy['n']:,}"
    )


def _print_slices(report: dict[str, Any]) -> None:
    table = plain_table("accuracy where", *report["tasks"])
    for name, label in SLICES.items():
        cuts = [task["slices"][name] for task in report["tasks"].values()]
        cells = (f"{percent(cut['accuracy'])} of {cut['n']:,}" if cut else "-" for cut in cuts)
        if any(cuts):
            table.add_row(label, *cells)
    out().print(table)


def _print_mistakes(report: dict[str, Any]) -> None:
    from toytask_cli.analysis.error_types import ERROR_TYPES

    if not report["wrong"]:
        return
    found = {name: task["error_types"] for name, task in report["tasks"].items()}
    kinds = [kind for kind in ERROR_TYPES if any(counts[kind] for counts in found.values())]
    table = plain_table("wrong answers", *(kind.replace("_", " ") for kind in kinds))
    for name, counts in found.items():
        table.add_row(name, *(str(counts[kind]) for kind in kinds))
    out().print(table)
    shown = plain_table("prompt", "answer", "prediction")
    for wrong in report["wrong"][:: max(1, len(report["wrong"]) // WRONG_SHOWN)][:WRONG_SHOWN]:
        shown.add_row(wrong["prompt"], wrong["target"], said(wrong))
    out().print(shown)
