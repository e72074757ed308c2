"""`toytask export`: the SAE as another tool reads it, and the vectors that it was trained on."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from toytask_cli.cli.common import Report, open_run, show_report
from toytask_cli.cli.completion import one_of
from toytask_cli.cli.console import print_message, print_result
from toytask_cli.cli.options import DeviceOption, JsonOption, RunArgument
from toytask_cli.errors import ToytaskError, unknown_choice

if TYPE_CHECKING:
    from toytask_cli.dataset import Examples, Grid

FORMATS = ("saelens",)


def export(
    out_dir: Annotated[
        Path, typer.Option("--out", metavar="DIR", help="New directory to write to.")
    ],
    run: RunArgument = None,
    to: Annotated[
        str, typer.Option(help="Format: saelens, of SAELens 6.", autocompletion=one_of(FORMATS))
    ] = "saelens",
    activations: Annotated[
        str | None,
        typer.Option(
            metavar="SPLIT",
            help="Write x at every answer position of this split too: train, validation or test.",
            autocompletion=one_of(("train", "validation", "test")),
        ),
    ] = None,
    device: DeviceOption = "auto",
    json: JsonOption = False,
) -> None:
    """Write the sparse autoencoder for another tool; with --activations, what to train one on.

    Example: toytask export runs/01 --to saelens --out sae --activations train
    """
    from toytask_cli.analysis.sparsity import measure_sparsity
    from toytask_cli.runs import paths, saelens

    if to not in FORMATS:
        raise unknown_choice("format", to, FORMATS)
    opened, grid, model = open_run(run, device)
    examples = None if activations is None else _examples(grid, activations)
    paths.create_empty(out_dir)
    sparsity, _ = measure_sparsity(model, grid, grid.report_split)
    config = saelens.write_sae(out_dir, opened, model.sae, sparsity)
    positions = None
    if examples is not None:
        positions = saelens.write_activations(out_dir, model, examples)
    report = {"out": str(out_dir), "config": config, "split": activations, "positions": positions}
    show_report(report, json, _print_report, written=str(out_dir))
    print_message(f"load it in Python: sae_lens.SAE.load_from_disk({str(out_dir)!r})")


def _examples(grid: "Grid", split: str) -> "Examples":
    """Return the examples of a split, or raise an error where it has none."""
    examples = grid.split(split)
    if not len(examples):
        raise ToytaskError(f"the {split} split has no example: export another split")
    return examples


def _print_report(report: Report) -> None:
    config = report["config"]
    measured = config["metadata"]
    print_result(
        f"{config['architecture']} SAE, {config['d_sae']:,} neurons: {measured['l0']:.2f} fire at "
        f"a position, {measured['dead_neurons']:,} are dead ({measured['measured_on']})"
    )
    if report["positions"] is not None:
        shape = f"[{report['positions']:,}, {config['d_in']}]"
        print_result(f"x {shape} at the answer positions of the {report['split']} split")
