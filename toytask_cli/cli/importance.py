"""`toytask importance`: which neurons matter to which task."""

from functools import partial
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.common import Report, keep_report, open_run, show_kept, write_figures
from toytask_cli.cli.completion import one_of
from toytask_cli.cli.console import out, print_message, print_result, print_table, task_texts
from toytask_cli.cli.neuron_maps import neuron_figures
from toytask_cli.cli.options import DeviceOption, FiguresOption, JsonOption, RunArgument, SeedOption

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.text import Text

    from toytask_cli.analysis.importance import ImportanceTensors
    from toytask_cli.analysis.matched_pairs import MatchedPairs

TOP_SHOWN = 6
NEURON_WIDTH, INTERVAL_WIDTH = 9, 23  # terminal columns of a neuron, of a task with its interval


def importance(
    run: RunArgument = None,
    pairs: Annotated[
        int | None,
        typer.Option(min=1, help="Measure on a random sample of this many pairs. Default: all."),
    ] = None,
    method: Annotated[
        str,
        typer.Option(
            help="closed: all neurons at once; hooks: one removal at a time, far slower.",
            autocompletion=one_of(("closed", "hooks")),
        ),
    ] = "closed",
    seed: SeedOption = 0,
    device: DeviceOption = "auto",
    figures: FiguresOption = True,
    unseen: Annotated[
        bool,
        typer.Option("--unseen", help="Leave pairs blank in neurons' maps that training saw."),
    ] = False,
    json: JsonOption = False,
) -> None:
    """Score every neuron for every task by how much removing it increases the loss.

    Describe every live neuron: its pattern over both operands, its tokens, its strongest prompts.

    Example: toytask importance runs/01 --pairs 50
    """
    from toytask_cli.analysis.atlas import importance_report
    from toytask_cli.analysis.importance import score_neurons
    from toytask_cli.analysis.operand_maps import at_all_operands

    opened, grid, model = open_run(run, device)
    if method == "hooks":
        print_message("one neuron at a time: this takes minutes", style="dim")
    scores = score_neurons(model, grid, seed=seed, pairs=pairs, method=method)
    name = "importance" if pairs is None else "importance-sample"
    matched = at_all_operands(model, grid)
    values, tensors = importance_report(scores, matched)
    kept = keep_report(opened, name, {"seed": seed, **values}, tensors)
    next_command = ("ablate", kept.run.path, "--remove", grid.task_names[-1])
    show_kept(kept, json, _print_report, next_command)
    if figures and not kept.refusal:
        write_figures(kept.run, partial(_figures, name, matched, scores.tensors, unseen))


def _figures(
    name: str, matched: "MatchedPairs", tensors: "ImportanceTensors", unseen: bool
) -> "dict[str, Figure]":
    from toytask_cli.figures.importance import draw_importance_curve, draw_importance_pairs

    tasks, prefix = matched.grid.task_names, name.replace("importance", "neurons")
    values, interval = tensors.importance.numpy(), None
    if tensors.low is not None and tensors.high is not None:
        interval = tensors.low.numpy(), tensors.high.numpy()
    return {
        f"{name}-by-task": draw_importance_pairs(tasks, values),
        f"{name}-curve": draw_importance_curve(tasks, values, interval),
        **neuron_figures(prefix, matched, tensors, unseen=unseen),
    }


def _print_report(report: Report) -> None:
    _print_top(report)
    _print_pairs(report["pairs"])
    _print_agreement(report)
    _print_joint(report["joint"])
    for sentence in report["summary"].values():
        print_result(sentence)


def _print_top(report: Report) -> None:
    from rich.text import Text

    is_wide = out().width >= NEURON_WIDTH + INTERVAL_WIDTH * len(report["top"])
    has_intervals = is_wide and report["pairs"]["used"] > 1
    print_result(
        f"mean loss increase when a neuron is removed, in nats"
        f"{', with its 95 % interval' if has_intervals else ''}; "
        f"{report['n_live']:,} of {report['d_sae']:,} neurons in {report['run']} are live"
    )
    for task, rows in report["top"].items():
        cells = (
            [Text(str(row["neuron"])), *(_score(s, has_intervals) for s in row["tasks"].values())]
            for row in rows[:TOP_SHOWN]
        )
        title = f"most important to {task}"
        print_table(["neuron", *task_texts(report["top"])], cells, title)


def _score(score: dict[str, Any], with_interval: bool) -> "Text":
    from rich.text import Text

    text = Text(f"{score['importance']:z.4f}")
    if with_interval:
        low, high = score["ci95"]
        text.append(f" {low:z.4f}…{high:z.4f}", "dim")
    return text


def _print_pairs(counts: dict[str, Any]) -> None:
    """Print how many pairs were left out, and why."""
    wrong = ", ".join(f"{n:,} wrong for {task}" for task, n in counts["wrong"].items())
    right, used = counts["right"], counts["used"]
    but = f" but {', '.join(counts['unknown'])}" if counts["unknown"] else ""
    print_result(
        f"of {counts['candidates']:,} validation pairs, {wrong}; {right:,} are right for every "
        f"task{but}, and {'all were' if used == right else f'a sample of {used:,} was'} used"
    )
    if used == 1:
        print_result("one pair says nothing about others: no intervals")
    if counts["twin_elsewhere"]:
        print_result(
            f"{counts['twin_elsewhere']:,} more were left out: another task has the pair in "
            "another split"
        )


def _print_agreement(report: Report) -> None:
    kinds = {"split_half": "two halves of the pairs", "zero_and_mean": "removal and mean ablation"}
    rows = (
        [label, *("-" if r is None else f"{r:.3f}" for r in report[key].values())]
        for key, label in kinds.items()
    )
    print_table(["rank correlation", *task_texts(report["top"])], rows)


def _print_joint(joint: dict[str, Any]) -> None:
    for task, effect in joint.items():
        n = len(effect["neurons"])
        if not n:
            print_result(f"no neuron is important to {task}")
            continue
        together, singles = effect["together"][task], effect["sum_of_singles"][task]
        print_result(
            f"removing the {n} most important to {task} together raises its loss by "
            f"{together:.4f}, {together / singles:.2f} times the {singles:.4f} that single "
            "removals add up to"
        )
