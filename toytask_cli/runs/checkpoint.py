"""The state for going on, bound to the configuration and the epochs that it goes on from."""

import math
from dataclasses import asdict

from torch import Tensor

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import json_files, tensor_files
from toytask_cli.runs.metrics import digest
from toytask_cli.runs.run import Run
from toytask_cli.runs.weights import n_bytes
from toytask_cli.training.loop import Progress, Trainer
from toytask_cli.training.schedule import LEARN, SEPARATE, Phase

COPIES = 4  # of each weight: itself, two moments of the optimiser, the best so far
HINT = "train anew with `toytask train`"


def write_checkpoint(
    run: Run, progress: Progress, state: dict[str, Tensor], metrics_sha256: str
) -> None:
    """Writes the state at the last finished epoch, bound to the epochs' `metrics.digest`."""
    metadata = {"progress": json_files.to_text(asdict(progress), indent=None)}
    tensor_files.write(run.checkpoint_file, state, metadata | _bonds(run, progress, metrics_sha256))


def read_checkpoint(run: Run) -> tuple[Progress, dict[str, Tensor]]:
    """What `write_checkpoint` wrote, if run's other files are still those that it was written with.

    Raises:
        ToytaskError: it is missing, cut, foreign or changed, or what it is bound to is.
    """
    path = run.checkpoint_file
    largest = COPIES * n_bytes(run.config.recipe) + tensor_files.LARGEST_HEADER
    state = tensor_files.read(path, HINT, largest)
    metadata = tensor_files.read_metadata(path, HINT)
    progress = _progress(metadata.get("progress", ""), f"{path}: progress")
    bonds = _bonds(run, progress, digest(run.read_metrics(progress.epoch)))
    if not bonds.keys() <= metadata.keys():
        raise ToytaskError(f"{path} was not written by this toytask: {HINT}")
    for name, ours in bonds.items():
        if metadata[name] != ours:
            raise ToytaskError(f"{run.path / name} was changed since {path} was written: {HINT}")
    return progress, state


def check_state(run: Run, progress: Progress, state: dict[str, Tensor], trainer: Trainer) -> None:
    """Refuses a state that is not of this trainer.

    Raises:
        ToytaskError: naming a tensor that is missing, too many, or of another shape or type.
    """
    expected = trainer.state()
    if progress.best_epoch is not None:
        expected |= {f"best.{name}": w for name, w in trainer.engine.weights.state_dict().items()}
    tensor_files.check_layout(run.checkpoint_file, state, expected, run.config_file, HINT)


def _bonds(run: Run, progress: Progress, metrics_sha256: str) -> dict[str, str]:
    """File name → sha256 of what going on takes from there. While learning, the limit is open."""
    with_epochs = progress.phase.name == SEPARATE
    return {
        run.config_file.name: run.config.sha256(with_epochs),
        run.metrics_file.name: metrics_sha256,
    }


def _progress(text: str, name: str) -> Progress:
    values = json_files.parse_object(text.encode(), name, HINT)
    try:
        progress = Progress(**{**values, "phase": Phase(**values["phase"])})
    except (TypeError, KeyError) as error:
        raise ToytaskError(f"{name} was not written by toytask: {HINT}") from error
    if not _is_possible(progress):
        raise ToytaskError(f"{name} cannot be: {HINT}")
    return progress


def _is_possible(progress: Progress) -> bool:
    """Whether these are epochs, a phase and a loss that a run can have got to."""
    epoch, phase, best, loss = vars(progress).values()
    return (
        type(epoch) is int
        and phase.name in (LEARN, SEPARATE)
        and type(phase.start) is int
        and 0 <= phase.start <= epoch
        and (best is None or (type(best) is int and 1 <= best <= epoch))
        and (loss is None or (type(loss) is float and math.isfinite(loss)))
    )
