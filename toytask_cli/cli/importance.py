"""`toytask importance`: which neurons matter to which task."""

from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.console import err, out, plain_table, print_json, say_next
from toytask_cli.cli.options import (
    DeviceOption,
    FiguresOption,
    JsonOption,
    RunArgument,
    SeedOption,
)

if TYPE_CHECKING:
    from rich.text import Text

    from toytask_cli.analysis.importance import ImportanceTensors
    from toytask_cli.runs.run import Run

TOP_SHOWN = 6
ROOM = 9, 23  # columns of a terminal: for a neuron's number, for a task with its interval


def importance(
    run: RunArgument = None,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Judge on a random sample of this many pairs. Default: all."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(help="closed: all neurons at once; hooks: one removal at a time, far slower."),
    ] = "closed",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
) -> None:
    """Score every neuron for every task by what removing it costs.

    Example: toytask importance runs/01 --pairs 50
    """
    from toytask_cli.analysis.importance import report_importance, score_neurons
    from toytask_cli.device import find_device
    from toytask_cli.runs.run import Run

    place = find_device(device)
    opened = Run.open(run)
    grid = opened.grid()
    model = opened.model(grid, place)
    if method == "hooks":
        err().print("one neuron at a time: this takes minutes", style="dim")
    scores = score_neurons(model, grid, seed=seed, pairs=pairs, method=method)
    found = report_importance(scores)
    name = "importance" if pairs is None else "importance-sample"
    opened.write_tensors(name, scores.tensors._asdict())
    report = opened.write_report(name, {"seed": seed, **asdict(found)})
    tasks = grid.task_names
    if figures:
        _draw(opened, name, tasks, scores.tensors)
    if json:
        print_json(report)
        return
    _print_top(report)
    _print_pairs(report["pairs"])
    _print_agreement(report)
    _print_joint(report["joint"])
    err().print(f"wrote {opened.path}/reports/{name}.json and .safetensors", soft_wrap=True)
    say_next("ablate", opened.path, "--remove", tasks[-1])


def _draw(run: "Run", name: str, tasks: list[str], tensors: "ImportanceTensors") -> None:
    from toytask_cli.figures.importance import draw_importance_curve, draw_importance_pairs
    from toytask_cli.figures.style import png

    found, low, high = (t.numpy() for t in (tensors.importance, tensors.low, tensors.high))
    run.write_figure(f"{name}-by-task", png(draw_importance_pairs(tasks, found)))
    run.write_figure(f"{name}-curve", png(draw_importance_curve(tasks, found, low, high)))


def _print_top(report: dict[str, Any]) -> None:
    has_room = out().width >= ROOM[0] + ROOM[1] * len(report["top"])
    interval = ", with its 95 % interval" if has_room else ""
    cell = _with_interval if has_room else _alone
    out().print(
        f"rise of the loss when a neuron is removed, in nats{interval}; "
        f"{report['n_live']:,} of {report['d_sae']:,} neurons in {report['run']} are live"
    )
    for task, rows in report["top"].items():
        table = plain_table("neuron", *report["top"], title=f"most important to {task}")
        for row in rows[:TOP_SHOWN]:
            table.add_row(str(row["neuron"]), *map(cell, row["tasks"].values()))
        out().print(table)


def _alone(found: dict[str, Any]) -> "Text":
    from rich.text import Text

    return Text(f"{found['importance']:z.4f}")


def _with_interval(found: dict[str, Any]) -> "Text":
    from rich.text import Text

    low, high = found["ci95"]
    return Text.assemble(f"{found['importance']:z.4f} ", (f"{low:z.4f}…{high:z.4f}", "dim"))


def _print_pairs(counts: dict[str, Any]) -> None:
    """Which pairs were dropped, and why."""
    wrong = ", ".join(f"{n:,} wrong for {task}" for task, n in counts["wrong"].items())
    right, used = counts["right"], counts["used"]
    out().print(
        f"of {counts['candidates']:,} validation pairs, {wrong}; {right:,} are right for every "
        f"task, and {'all were' if used == right else f'a sample of {used:,} was'} used"
    )
    if counts["twin_elsewhere"]:
        out().print(f"{counts['twin_elsewhere']:,} more were dropped: a twin is in another part")


def _print_agreement(report: dict[str, Any]) -> None:
    kinds = {"split_half": "two halves of the pairs", "zero_and_mean": "removal and mean ablation"}
    table = plain_table("rank correlation", *report["top"])
    for key, label in kinds.items():
        cells = (report[key][task] for task in report["top"])
        table.add_row(label, *("-" if cell is None else f"{cell:.3f}" for cell in cells))
    out().print(table)


def _print_joint(joint: dict[str, Any]) -> None:
    for task, found in joint.items():
        n = len(found["neurons"])
        if not n:
            out().print(f"no neuron is important to {task}")
            continue
        together, singles = found["together"][task], found["sum_of_singles"][task]
        out().print(
            f"removing the {n} most important to {task} together raises its loss by "
            f"{together:.4f}, {together / singles:.2f} times the {singles:.4f} that single "
            "removals add up to"
        )
