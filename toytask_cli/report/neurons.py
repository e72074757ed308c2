"""Sections on the neurons: sparsity, importance, and a table in which each neuron is a row."""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toytask_cli.report.accuracy import title_of
from toytask_cli.report.blocks import Block, Cell, Row, Table, Tiles, Words
from toytask_cli.report.charts import Dot, scatter_chart
from toytask_cli.report.run_data import Report

TILED = 16  # neurons of each task shown beside each other

Tensors = dict[str, NDArray[Any]]


def sparsity_blocks(report: Report) -> list[Block]:
    """Return the numbers of the report of `sparsity`, by task."""
    columns = {"all": report["all"], **report["tasks"]}
    rows = [
        [title_of(key), *(_number(column[key]) for column in columns.values())]
        for key in report["all"]
    ]
    by_tasks = [
        [
            f"{100 * row['threshold']:g} %", *(f"{n:,}" for n in row["only"].values()),
            f"{row['several']:,}", f"{row['none']:,}",
        ]
        for row in report["neurons_by_tasks"]
    ]  # fmt: skip
    only = [f"{name} only" for name in report["tasks"]]
    return [
        Table.of(
            f"{report['d_sae']:,} neurons on the {report['split']} split", ["", *columns], rows
        ),
        Table.of(
            "Neurons by the tasks that they fire for",
            ["density above", *only, "several", "none"],
            by_tasks,
        ),
    ]


def _number(value: float | None) -> str:
    if value is None:
        return "–"
    return f"{value:,}" if isinstance(value, int) else f"{value:.4g}"


def importance_blocks(report: Report, tensors: Tensors, tasks: Sequence[str]) -> list[Block]:
    """Return the neurons' maps, a scatter of their importance, and a table of them."""
    tiles = {int(neuron): tile for tile, neuron in enumerate(tensors["map_neurons"])}
    rows = [row for row in report["neurons"] if row["neuron"] in tiles]
    importance = tensors["importance"]
    left_out = len(report["neurons"]) - len(rows)
    note = f" The {left_out:,} least important ones are left out." if left_out else ""
    blocks: list[Block] = [
        Words(f"{sentence[:1].upper()}{sentence[1:]}.") for sentence in report["summary"].values()
    ]
    for task, values in zip(tasks, importance, strict=True):
        best = sorted((row["neuron"] for row in rows), key=lambda i: -values[i])[:TILED]
        label = (
            f"The {len(best)} neurons most important to {task}: activation over the first operand "
            "(down) and the second (to the right), each on a scale of its own"
        )
        blocks.append(Tiles(label, [(tiles[i], f"n{i}", f"{i}: {values[i]:.4f}") for i in best]))
    return [
        *blocks,
        _scatter(rows, importance, tasks),
        Table(
            f"{len(rows):,} of {report['n_live']:,} live neurons, the most important first. "
            "Importance in nats with its 95 % interval; density is the share of a task's answer "
            f"positions where the neuron fires.{note}",
            [
                "neuron", "over both operands", "fires most for",
                *(f"importance for {task}" for task in tasks),
                *(f"density in {task}" for task in tasks),
                "pattern", "explained", "raises", "lowers", "strongest prompts",
            ],
            [_row(row, tiles[row["neuron"]], tensors, len(tasks)) for row in rows],
            is_sortable=True,
            text_columns=(2, *range(3 + 2 * len(tasks), 8 + 2 * len(tasks))),
        ),
    ]  # fmt: skip


def _row(row: Report, tile: int, tensors: Tensors, n_tasks: int) -> Row:
    neuron = row["neuron"]
    pattern, explained = row["pattern"] or "–", float(row["explained"])
    return Row(
        [
            Cell(str(neuron)),
            Cell("", tile=tile),
            Cell(f"{row['task']}, token {row['position'] + 1}"),
            *(_importance_cell(tensors, task, neuron) for task in range(n_tasks)),
            *(_density_cell(tensors["density"][task, neuron]) for task in range(n_tasks)),
            Cell(pattern),
            Cell(f"{100 * explained:.0f} %", value=round(explained, 4)),
            Cell(str(row["raises"])),
            Cell(str(row["lowers"])),
            Cell(str(row["prompts"])),
        ],
        id=f"n{neuron}",
    )


def _importance_cell(tensors: Tensors, task: int, neuron: int) -> Cell:
    value = float(tensors["importance"][task, neuron])
    ends = [float(tensors[end][task, neuron]) for end in ("low", "high") if end in tensors]
    detail = "…".join(f"{end:z.4f}" for end in ends) if value else ""
    return Cell(f"{value:z.4f}" if value else "0", detail, value=float(f"{value:.3g}"))


def _density_cell(density: np.float32) -> Cell:
    return Cell(f"{100 * density:.2f} %" if density else "0", value=round(float(density), 5))


def _scatter(rows: Sequence[Report], importance: NDArray[Any], tasks: Sequence[str]) -> Block:
    """Return a point for each neuron: two tasks against each other, or its own against others."""
    if len(tasks) == 2:
        x, y = importance
        labels = f"importance for {tasks[0]} (nats)", f"importance for {tasks[1]} (nats)"
    else:
        ordered = np.sort(importance, axis=0)
        x, y = ordered[-1], ordered[-2]
        labels = "importance for its main task (nats)", "for the next task (nats)"
    main_task = importance.argmax(axis=0)
    dots = [
        Dot(float(x[i]), float(y[i]), f"t{main_task[i]}", f"neuron {i}", f"n{i}")
        for i in (row["neuron"] for row in rows)
    ]
    return scatter_chart(
        "Importance of each neuron",
        dots,
        description="Each point is a neuron of the table below. Points near an axis matter to one "
        "task only.",
        labels=labels,
        legend=[(f"t{i}", f"most for {task}") for i, task in enumerate(tasks)],
    )
