"""`toytask sparsity`: how few neurons fire, for which tasks, and what a prompt sets off."""

from collections.abc import Callable
from dataclasses import asdict
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.console import err, out, percent, plain_table, print_json, say_next
from toytask_cli.cli.heatmap import cell_size, heatmap, largest
from toytask_cli.cli.options import DeviceOption, FiguresOption, JsonOption, RunArgument
from toytask_cli.errors import unknown_choice

if TYPE_CHECKING:
    from toytask_cli.analysis.neurons import PromptActivations
    from toytask_cli.analysis.sparsity import SparsityTensors
    from toytask_cli.dataset import Grid
    from toytask_cli.prompts import Prompt
    from toytask_cli.runs.run import Run

# Label → key in the report, and how to write the number.
ROWS: dict[str, tuple[str, Callable[..., str]]] = {
    "answer positions": ("n", "{:,}".format),
    "firing neurons (l0)": ("l0", "{:.2f}".format),
    "sum of f (l1)": ("l1", "{:.2f}".format),
    "non-zero pre-ReLU": ("fraction_nonzero_pre", percent),
    "non-zero post-ReLU": ("fraction_nonzero", percent),
    "dead neurons": ("dead_neurons", "{:,}".format),
    "density floor (1/n)": ("density_floor", "{:.2g}".format),
    "explained variance": ("explained_variance", "{:.4f}".format),
    "mse": ("mse", "{:.5f}".format),
    "CE loss (nats)": ("ce_loss", "{:.4f}".format),
    "CE with SAE (nats)": ("ce_loss_with_sae", "{:.4f}".format),
}


def sparsity(
    run: RunArgument = None,
    prompt: Annotated[
        str | None,
        typer.Option(help='Show what this prompt sets off. Default: "47+23", or its like.'),
    ] = None,
    block: Annotated[
        str,
        typer.Option(help="Block to show for the prompt: encoder, decoder, sae-pre, sae or recon."),
    ] = "sae",
    device: DeviceOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
) -> None:
    """Measure how sparse the neurons are and how well they reconstruct; show them for a prompt.

    Example: toytask sparsity runs/01 --prompt "47C23" --block sae
    """
    from toytask_cli.analysis.neurons import prompt_activations
    from toytask_cli.analysis.sparsity import measure_sparsity
    from toytask_cli.device import find_device
    from toytask_cli.hooks import BLOCKS
    from toytask_cli.runs.run import Run

    if block not in BLOCKS:
        raise unknown_choice("block", block, BLOCKS)
    place = find_device(device)
    opened = Run.open(run)
    grid = opened.grid()
    asked = _find_prompt(prompt, grid)
    model = opened.model(grid, place)
    snapshots = prompt_activations(model, grid, asked)
    measured, tensors = measure_sparsity(model, grid, grid.report_split)
    sample = _describe(grid, asked, block, snapshots[block])
    opened.write_tensors("sparsity", tensors._asdict())
    report = opened.write_report("sparsity", {**asdict(measured), "sample": sample})
    if figures:
        _draw(opened, grid, asked, snapshots, tensors)
    if json:
        print_json(report)
        return
    _print_numbers(report)
    _print_neurons_by_tasks(report)
    _print_sample(sample, BLOCKS[block], snapshots[block])
    err().print(f"wrote {opened.path}/reports/sparsity.json and .safetensors", soft_wrap=True)
    say_next("importance", opened.path)


def _find_prompt(text: str | None, grid: "Grid") -> "Prompt":
    """The prompt that is asked for, or 47 and 23, as far as operands go, for the first task."""
    from toytask_cli.prompts import Prompt, parse_prompt

    if text is not None:
        return parse_prompt(text, grid.tasks, grid.spec.digits)
    size = 10**grid.spec.digits
    return Prompt(grid.tasks[0], 47 % size, 23 % size)


def _describe(
    grid: "Grid", prompt: "Prompt", block: str, snapshot: "PromptActivations"
) -> dict[str, Any]:
    """The report's part on the prompt."""
    from toytask_cli.analysis.neurons import summarise_positions

    return {
        "prompt": prompt.text,
        "answer": prompt.target,
        "task": prompt.task.name,
        "split": grid.split_of(*prompt),
        "block": block,
        "positions": [asdict(position) for position in summarise_positions(snapshot)],
    }


def _draw(
    run: "Run",
    grid: "Grid",
    prompt: "Prompt",
    snapshots: "dict[str, PromptActivations]",
    tensors: "SparsityTensors",
) -> None:
    from toytask_cli.figures import sparsity as draw
    from toytask_cli.figures.style import png
    from toytask_cli.hooks import BLOCKS

    names = grid.task_names
    maps = [
        draw.Heatmap(f"{block}: {BLOCKS[block]}", shot.positions, shot.values.numpy())
        for block, shot in snapshots.items()
    ]
    edges, before, after = (
        t.numpy() for t in (tensors.edges, tensors.histogram_pre, tensors.histogram)
    )
    density = tensors.density.numpy()
    pictures = {
        "activations": draw.draw_activations(f"{prompt.text} → {prompt.target}", maps),
        "histogram": draw.draw_histogram(edges, before, after),
        "density": draw.draw_density(names, density),
        "density-by-task": draw.draw_density_pairs(names, density),
    }
    for name, figure in pictures.items():
        run.write_figure(f"sparsity-{name}", png(figure))


def _print_numbers(report: dict[str, Any]) -> None:
    columns = {"all": report["all"], **report["tasks"]}
    table = plain_table("", *columns)
    for label, (key, write) in ROWS.items():
        cells = (column[key] for column in columns.values())
        table.add_row(label, *("-" if cell is None else write(cell) for cell in cells))
    out().print(f"{report['d_sae']:,} neurons on the {report['split']} split of {report['run']}")
    out().print(table)


def _print_neurons_by_tasks(report: dict[str, Any]) -> None:
    only = [f"{name} only" for name in report["tasks"]]
    title = "neurons by the tasks that they fire for"
    table = plain_table("density above", *only, "several", "none", title=title)
    for row in report["neurons_by_tasks"]:
        counts = (*row["only"].values(), row["several"], row["none"])
        table.add_row(f"{100 * row['threshold']:g} %", *(f"{count:,}" for count in counts))
    out().print(table)


def _print_sample(sample: dict[str, Any], block: str, snapshot: "PromptActivations") -> None:
    rows = snapshot.values.tolist()
    labels, width = snapshot.positions, out().width
    out().print(
        f"{sample['prompt']} → {sample['answer']} ({sample['task']}, {sample['split']} split)"
    )
    out().print(f"{sample['block']}: {block}", style="bold")
    out().print(heatmap(labels, rows, width))
    size = cell_size(len(rows[0]), width - max(map(len, labels)) - 1)
    out().print(_legend(size, [value for row in rows for value in row]), style="dim")
    table = plain_table("position", "non-zero", "strongest: index (value)")
    for at in sample["positions"]:
        entries = (f"{entry['index']} ({entry['value']:.2f})" for entry in at["strongest"])
        table.add_row(at["position"], f"{at['nonzero']:,}", "  ".join(entries))
    out().print(table)


def _legend(size: int, values: list[float]) -> str:
    cell = "one value" if size == 1 else f"the largest of {size}"
    text = f"each cell is {cell}: · is 0, █ is near {abs(largest(values)):.2f}"
    if min(values) >= 0:
        return text
    coloured = out().is_terminal and not out().no_color
    return text + ("; orange above 0, blue below" if coloured else "; the sign is not shown")
