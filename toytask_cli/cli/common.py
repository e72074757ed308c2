"""Steps that several commands share: open a run, keep a report, show it, write figures."""

import os
from collections.abc import Callable, Mapping
from contextlib import chdir
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from toytask_cli.cli.console import print_json, print_message, print_next
from toytask_cli.errors import ToytaskError, short_repr
from toytask_cli.runs.files import ReadOnlyError, WriteError

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from torch import Tensor

    from toytask_cli.dataset import Grid
    from toytask_cli.model import Transformer
    from toytask_cli.runs.run import Run
    from toytask_cli.runs.study_directory import StudyDirectory

Report = dict[str, Any]


class OpenRun(NamedTuple):
    """A run with its examples, and its model on a device."""

    run: "Run"
    grid: "Grid"
    model: "Transformer"


class Kept(NamedTuple):
    """A report, and where it was written; or why it was not."""

    run: "Run"  # the run that it belongs to, which may be a copy made for it
    report: Report
    written: str
    refusal: WriteError | None = None


def open_run(path: Path | None, device: str) -> OpenRun:
    """Open a run that has been trained; None opens the newest.

    Raises:
        UsageError: an unknown device.
        ToytaskError: there is no such run or device, or the run cannot be used.
    """
    from toytask_cli.device import find_device
    from toytask_cli.runs.run import Run

    torch_device = find_device(device)
    run = Run.open(path)
    grid = run.grid()
    return OpenRun(run, grid, run.model(grid, torch_device))


def tokens_of(grid: "Grid", text: str) -> list[str]:
    """Return the tokens of a prompt or an answer: `B47+23E` → B 47 + 23 E."""
    return [grid.tokenizer.tokens[i] for i in grid.tokenizer.encode(text)]


def keep_report(
    run: "Run", name: str, values: Report, tensors: "Mapping[str, Tensor] | None" = None
) -> Kept:
    """Write a report into the run, with its tensors if it has any."""

    def write(to: "Run") -> None:
        if tensors is not None:
            to.write_tensors(name, tensors)
        to.write_report(name, values)

    suffix = "" if tensors is None else " and .safetensors"
    return _keep(run, values, write, f"reports/{name}.json{suffix}")


def keep_ablation(run: "Run", name: str, values: Report) -> Kept:
    """Write an ablation into the run."""
    path = f"ablations/{name}.json"
    return _keep(run, values, lambda to: to.write_ablation(name, values), path)


def _keep(run: "Run", values: Report, write: Callable[["Run"], object], path: str) -> Kept:
    """Write into the run, or into a copy if it is protected; keep a refusal for `show_kept`."""
    refusal = None
    try:
        run = own_run(run)
        write(run)
    except WriteError as error:
        refusal = error
    return Kept(run, run.complete_report(values), f"{run.path}/{path}", refusal)


def own_run(run: "Run") -> "Run":
    """Return the run to write into: a copy, if it is protected.

    Raises:
        ToytaskError: it cannot be copied.
    """
    from toytask_cli.runs.copying import copy_run

    if not run.is_protected:
        return run
    copy = copy_run(run)
    print_message(f"{run.path} stays as it is: writing into a copy, {copy.path}")
    return copy


def show_kept(
    kept: Kept, json: bool, print_tables: Callable[[Report], None], next_command: tuple[object, ...]
) -> None:
    """Show a report, even if it could not be written.

    Raises:
        WriteError: it could not be written, and not because the run is read-only. What was asked
            for is shown, so a run that others own is worth a warning alone.
    """
    if kept.refusal is None:
        show_report(kept.report, json, print_tables, kept.written, next_command)
        return
    show_report(kept.report, json, print_tables)
    if not isinstance(kept.refusal, ReadOnlyError):
        raise kept.refusal
    print_message(f"warning: this was not kept: {kept.refusal}", style="yellow")


def show_report(
    report: Report,
    json: bool,
    print_tables: Callable[[Report], None],
    written: str | None = None,
    next_command: tuple[object, ...] = (),
) -> None:
    """Print a report as JSON; or as tables, with the files written and the command to run next."""
    if json:
        print_json(report)
        return
    print_tables(report)
    if written is not None:
        print_message(f"wrote {written}")
    if next_command:
        print_next(*next_command)


def write_figures(run: "Run | StudyDirectory", draw: Callable[[], Mapping[str, "Figure"]]) -> None:
    """Draw figures, and write each into the run as a PNG file of its name.

    Commands call it last, so that a failure hides no result.

    Args:
        run: where to write.
        draw: returns the figures by name; it imports what it draws with.

    Raises:
        ToytaskError: a figure cannot be drawn or written.
    """
    try:
        _import_matplotlib()
        from toytask_cli.figures.style import png

        for name, figure in draw().items():
            run.write_figure(name, png(figure))
    except (ToytaskError, MemoryError):
        raise
    except Exception as error:
        raise ToytaskError(
            f"cannot draw the figures of {run.path} ({short_repr(error)}): all else is done; "
            "--no-figures leaves them out"
        ) from error


def _import_matplotlib() -> None:
    """Import matplotlib without the user's settings, so that figures look the same everywhere.

    A user's backend may not be installed here, and a user's `matplotlibrc` may hold anything.
    matplotlib reads only the first that it finds and looks in the current directory first, so it is
    imported with `figures/`, which holds one without settings, as that directory.
    """
    os.environ.pop("MPLBACKEND", None)
    with chdir(Path(__file__).parents[1] / "figures"):
        import matplotlib  # noqa: F401
