"""Sections on what the model learnt: accuracy, wrong answers, the course of training."""

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from toytask_cli.objective import LOSS_TERMS
from toytask_cli.report.blocks import Block, Chart, Charts, Heading, Table, Words
from toytask_cli.report.charts import Series, line_chart
from toytask_cli.report.run_data import Report
from toytask_cli.training.validation import EPOCH_METRICS

WRONG_SHOWN = 30


def percent(share: float) -> str:
    """Format a share: 0.9966 → 99.66 %."""
    return f"{100 * share:.2f} %"


def interval(ci95: Sequence[float]) -> str:
    """Format the 95 % interval of a share, in percent."""
    low, high = ci95
    return f"{100 * low:.2f} to {100 * high:.2f}"


def title_of(key: str) -> str:
    """Return the key of a report as words: `no_carry` → no carry."""
    return key.replace("_", " ")


def accuracy_blocks(report: Report) -> list[Block]:
    """Return accuracy by task and in slices, and the wrong answers, from the report of `eval`."""
    tasks = report["tasks"]
    rows = [
        [
            name, percent(task["accuracy"]), interval(task["ci95"]),
            f"{sum(task['error_types'].values()):,}", f"{task['n']:,}", f"{task['ce_loss']:.4f}",
        ]
        for name, task in tasks.items()
    ]  # fmt: skip
    headings = ["task", "accuracy", "95 % interval", "wrong", "n", "CE loss (nats)"]
    blocks: list[Block] = [
        Table.of(f"Exact match on the {report['split']} split", headings, rows),
        Table.of("Accuracy where", ["examples with", *tasks], list(_slice_rows(tasks))),
    ]
    if not report["wrong"]:
        return [*blocks, Words("No answer is wrong.")]
    kinds = list(next(iter(tasks.values()))["error_types"])
    shown = [kind for kind in kinds if any(t["error_types"][kind] for t in tasks.values())]
    counts = [
        [name, *(f"{task['error_types'][kind]:,}" for kind in shown)]
        for name, task in tasks.items()
    ]
    return [
        *blocks,
        Heading("Wrong answers"),
        Table.of("Wrong answers by type", ["task", *map(title_of, shown)], counts),
        wrong_table(f"Up to {WRONG_SHOWN} of them", report["wrong"][:WRONG_SHOWN]),
    ]


def _slice_rows(tasks: Mapping[str, Any]) -> Iterable[list[str]]:
    for key in next(iter(tasks.values()))["slices"]:
        slices = [task["slices"][key] for task in tasks.values()]
        if any(slices):
            cells = (f"{percent(s['accuracy'])} of {s['n']:,}" if s else "–" for s in slices)
            yield [title_of(key), *cells]


def wrong_table(caption: str, wrong: Sequence[Mapping[str, str]]) -> Table:
    """Return a table of prompts with target and prediction."""
    rows = [[w["prompt"], w["target"], w["prediction"] or "(nothing)"] for w in wrong]
    return Table.of(caption, ["prompt", "target", "prediction"], rows)


def training_blocks(metrics: Sequence[Mapping[str, Any]], tasks: Sequence[str]) -> list[Block]:
    """Return a small chart of every term of the loss and every metric, over the epochs."""
    validated = [record for record in metrics if record["validation"]]
    phases = [record["phase"] for record in metrics]
    separate = next((i for i, phase in enumerate(phases) if phase != phases[0]), None)
    marker = None if separate is None else (separate + 0.5, f"{phases[separate]} begins")
    terms = [_term_chart(name, metrics, validated, marker) for name in metrics[0]["train"]]
    others = [
        _metric_chart(name, validated, tasks, marker)
        for name in validated[0]["validation"]
        if name not in metrics[0]["train"]
    ]
    text = f"{len(metrics)} epochs."
    if separate is not None:
        text += f" The dotted line is where the phase “{phases[separate]}” begins."
    return [Words(text), Charts([*terms, *others])]


def _term_chart(
    name: str, metrics: Sequence[Any], validated: Sequence[Any], marker: tuple[float, str] | None
) -> Chart:
    series = [
        Series(split, split, [(record["epoch"], record[split][name]) for record in records])
        for split, records in (("train", metrics), ("validation", validated))
    ]
    values = [value for each in series for _, value in each.points]
    title = LOSS_TERMS[name].label if name in LOSS_TERMS else title_of(name)
    last = series[0].points[-1][1]
    return line_chart(
        title,
        series,
        description=f"From {values[0]:.3g} to {last:.3g} in {len(metrics)} epochs, in training.",
        labels=("epoch", ""),
        scales=("linear", "log" if min(values) > 0 else "symlog"),
        marker=marker,
    )


def _metric_chart(
    name: str, validated: Sequence[Any], tasks: Sequence[str], marker: tuple[float, str] | None
) -> Chart:
    title = EPOCH_METRICS[name].label if name in EPOCH_METRICS else title_of(name)
    points = [(record["epoch"], record["validation"][name]) for record in validated]
    if isinstance(points[0][1], Mapping):
        series = [
            Series(task, f"t{i}", [(epoch, 100 * value[task]) for epoch, value in points])
            for i, task in enumerate(tasks)
        ]
        last = ", ".join(f"{each.label} {each.points[-1][1]:.1f} %" for each in series)
        y_range, unit, description = (0.0, 100.0), "%", f"At the end {last}."
    else:
        series = [Series("validation", "validation", points)]
        y_range = (0.0, max(value for _, value in points))
        unit, description = "", f"{points[-1][1]:.3g} at the end."
    return line_chart(
        f"{title}, on validation", series, description=description, labels=("epoch", unit),
        y_range=y_range, marker=marker,
    )  # fmt: skip
