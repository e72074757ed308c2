"""Sections on removals: what is lost and kept, over tolerances, in prompts, and under attack."""

from collections.abc import Mapping, Sequence
from typing import Any

from toytask_cli.analysis.ablation_report import (
    effect_in_words,
    left_and_kept,
    measured_on,
    removal_in_words,
)
from toytask_cli.report.accuracy import interval, percent, title_of, wrong_table
from toytask_cli.report.blocks import Block, Cell, Chart, Row, Table, Words
from toytask_cli.report.charts import Series, line_chart
from toytask_cli.report.run_data import Report


def removal_blocks(report: Report, tasks: Sequence[str]) -> list[Block]:
    """Return what an ablation did, from its report."""
    blocks: list[Block] = [
        Words(f"{removal_in_words(report)}."),
        Words(f"{effect_in_words(report)}.", "verdict"),
        _accuracy_table(report),
    ]
    if report["curve"]:
        blocks.append(_curve(report, tasks))
    return [*blocks, *_wrong_blocks(report["wrong_answers"])]


def _accuracy_table(report: Report) -> Table:
    test = report["test"]
    rows = []
    for task in test["before"]:
        control = test["random_control"][task]
        measured = [test[when][task] for when in ("before", "after")]
        name = f"{task} (removed)" if task in report["removed_tasks"] else task
        cells = [Cell(percent(m["accuracy"]), interval(m["ci95"])) for m in measured]
        spread = interval((control["min"], control["max"]))
        rows.append(Row([Cell(name), *cells, Cell(percent(control["mean"]), spread)]))
    draws = max(len(control["draws"]) for control in test["random_control"].values())
    return Table(
        f"Exact match on {measured_on(report)}, with 95 % intervals; random: as many live neurons "
        f"of like density, mean and range of {draws} draws",
        ["task", "before", "after", "random neurons"],
        rows,
    )


def _curve(report: Report, tasks: Sequence[str]) -> Chart:
    """Return what is left and what is kept over the tolerance, on the reported pairs."""
    removed, kept = report["removed_tasks"], report["kept_tasks"]
    points = [
        (point["tolerance"], *left_and_kept(report, "test", point["test"]))
        for point in report["curve"]
    ]
    left = f"{removed[0]} left" if len(removed) == 1 else "most left of a removed task"
    least = f"{kept[0]} kept" if len(kept) == 1 else "least kept of a kept task"
    return line_chart(
        "Over all tolerances",
        [
            Series(left, f"t{tasks.index(removed[0])}", [(t, 100 * left) for t, left, _ in points]),
            Series(least, f"t{tasks.index(kept[0])}", [(t, 100 * kept) for t, _, kept in points]),
        ],
        description=f"At tolerance 0 {percent(points[0][1])} is left and {percent(points[0][2])} "
        f"kept; at the largest, {percent(points[-1][1])} and {percent(points[-1][2])}.",
        labels=("tolerance (nats)", "accuracy left, share kept (%)"),
        scales=("symlog", "linear"),
        y_range=(0, 100),
        size=(620, 300),
    )


def _wrong_blocks(wrong_answers: Mapping[str, Any]) -> list[Block]:
    """Return how wrong answers are wrong, with some examples."""
    samples = {task: sample for task, sample in wrong_answers.items() if sample["n_sampled"]}
    if not samples:
        return [Words("After the removal no answer is wrong.")]
    rows = []
    for kind in next(iter(samples.values()))["error_types"]:
        shares = [sample["error_types"][kind] / sample["n_sampled"] for sample in samples.values()]
        if any(shares):
            rows.append([title_of(kind), *map(percent, shares)])
    examples = [example for sample in samples.values() for example in sample["examples"]]
    return [
        Table.of("What it says instead: wrong answers by type", ["type", *samples], rows),
        wrong_table("Some of them", examples),
    ]


def prompt_blocks(prompts: Sequence[Mapping[str, Any]]) -> list[Block]:
    """Return a dozen prompts before and after, with the probability of each token."""
    rows = [
        [p["task"], p["prompt"], p["target"], _answer(p["before"]), _answer(p["after"])]
        for p in prompts
    ]
    caption = "Random test prompts: the answer, and the probability of each of its tokens"
    return [Table.of(caption, ["task", "prompt", "target", "before", "after"], rows)]


def _answer(answer: Mapping[str, Any]) -> str:
    tokens = zip(answer["tokens"], answer["probabilities"], strict=True)
    chances = ", ".join(f"{token} {100 * chance:.1f} %" for token, chance in tokens)
    return f"{answer['text'] or '(nothing)'} {'✓' if answer['correct'] else '✗'} ({chances})"


def attack_blocks(report: Report) -> list[Block]:
    """Return how hard it was to bring the removed task back, from the report of `attack`."""
    lifted = ", ".join(f"{task} {percent(a)}" for task, a in report["mask_lifted"].items())
    with_mask = "" if report["ablation"] is None else " with the mask lifted"
    steps = [
        [who, *(_steps(fastest[key], report) for key in ("steps50", "steps95"))]
        for who, fastest in report["relearning"].items()
    ]
    models = next(iter(report["probes"].values()))
    probes = [
        [block, *(percent(share[who]) for who in models)]
        for block, share in report["probes"].items()
    ]
    examples = [
        [f"{row['n']:,}", percent(row["run"]), percent(row["control"])]
        for row in report["from_examples"]
    ]
    hardness = ", ".join(
        f"{'–' if ratio is None else f'{ratio:.2f}'} to {share} %"
        for share, ratio in report["robustness"].items()
    )
    return [
        Words(f"Accuracy{with_mask}: {lifted}."),
        Table.of(
            "Steps of fine-tuning until the task is back, by the fastest attack",
            ["model", "to 50 %", "to 95 %"],
            steps,
        ),
        Words(f"Robustness, the steps needed over those that the control needs: {hardness}."),
        Table.of("First token named by a probe on", ["block", *models], probes),
        Table.of("Accuracy after relearning from", ["examples", "run", "control"], examples),
    ]


def _steps(steps: int | None, report: Report) -> str:
    return f"not in {report['limit']:,}" if steps is None else f"{steps:,}"
