"""Print the report of `toytask sparsity`: numbers by task, and one prompt's activations."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

from toytask_cli.cli.common import Report
from toytask_cli.cli.console import out, percent, print_result, print_table, task_texts
from toytask_cli.cli.heatmap import cell_size, heatmap, largest

if TYPE_CHECKING:
    from rich.console import RenderableType
    from torch import Tensor

# Label → key in the report, and the format of the number.
ROWS: dict[str, tuple[str, Callable[..., str]]] = {
    "answer positions": ("n", "{:,}".format),
    "firing neurons (l0)": ("l0", "{:.2f}".format),
    "sum of f (l1)": ("l1", "{:.2f}".format),
    "non-zero pre-activations": ("fraction_nonzero_pre", percent),
    "non-zero activations": ("fraction_nonzero", percent),
    "dead neurons": ("dead_neurons", "{:,}".format),
    "density floor (1/n)": ("density_floor", "{:.2g}".format),
    "explained variance": ("explained_variance", "{:.4f}".format),
    "mse": ("mse", "{:.5f}".format),
    "CE loss (nats)": ("ce_loss", "{:.4f}".format),
    "CE with SAE (nats)": ("ce_loss_with_sae", "{:.4f}".format),
}


def print_sparsity(
    report: Report, block: str, view: "RenderableType", last: "RenderableType | None" = None
) -> None:
    """Print the whole report on stdout.

    Args:
        report: as it was written.
        block: what the block of the sample holds, in words.
        view: the block's values for the sample's prompt.
        last: what to show beside it, at the end.
    """
    _print_numbers(report)
    _print_neurons_by_tasks(report)
    sample = report["sample"]
    print_result(
        f"{sample['prompt']} → {sample['answer']} ({sample['task']}, {sample['split']} split)"
    )
    print_result(f"{sample['block']}: {block}", style="bold")
    out().print(view)
    if "positions" in sample:
        _print_strongest(sample["positions"])
    if last is not None:
        out().print(last)


def _print_numbers(report: Report) -> None:
    columns = {"all": report["all"], **report["tasks"]}
    rows = []
    for label, (key, format_number) in ROWS.items():
        numbers = (column[key] for column in columns.values())
        rows.append([label, *("-" if n is None else format_number(n) for n in numbers)])
    print_result(f"{report['d_sae']:,} neurons on the {report['split']} split of {report['run']}")
    print_table(["", "all", *task_texts(report["tasks"])], rows)


def _print_neurons_by_tasks(report: Report) -> None:
    only = [f"{name} only" for name in report["tasks"]]
    rows = []
    for row in report["neurons_by_tasks"]:
        counts = (*row["only"].values(), row["several"], row["none"])
        rows.append([f"{100 * row['threshold']:g} %", *(f"{count:,}" for count in counts)])
    title = "neurons by the tasks that they fire for"
    print_table(["density above", *only, "several", "none"], rows, title)


def activation_view(labels: Sequence[str], values: "Tensor") -> "RenderableType":
    """Return a heatmap of activations [position, width] and its legend."""
    from rich.console import Group
    from rich.text import Text

    rows = values.tolist()
    size = cell_size(len(rows[0]), out().width - max(map(len, labels)) - 1)
    legend = _legend(size, [value for row in rows for value in row])
    return Group(heatmap(labels, rows, out().width), Text(legend, "dim"))


def _legend(size: int, values: list[float]) -> str:
    cell = "one value" if size == 1 else f"the largest of {size}"
    text = f"each cell is {cell}: · is 0, █ is near {abs(largest(values)):.2f}"
    if min(values) >= 0:
        return text
    has_colour = out().is_terminal and not out().no_color
    return text + ("; purple above 0, green below" if has_colour else "; the sign is not shown")


def _print_strongest(positions: list[dict[str, Any]]) -> None:
    rows = []
    for row in positions:
        strongest = (f"{entry['index']} ({entry['value']:.2f})" for entry in row["strongest"])
        rows.append([row["position"], f"{row['nonzero']:,}", "  ".join(strongest)])
    print_table(["position", "non-zero", "strongest: index (value)"], rows)
