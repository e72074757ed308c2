"""The state to resume from, bound to the configuration and the epochs that led to it."""

import math
from contextlib import suppress
from dataclasses import asdict
from typing import Any

from torch import Tensor

from toytask_cli.errors import ToytaskError
from toytask_cli.model import MAX_WEIGHTS, n_weights
from toytask_cli.recipe import Recipe
from toytask_cli.runs import files, metrics, tensor_files
from toytask_cli.runs.run import Run
from toytask_cli.tasks import find_tasks
from toytask_cli.tokenizer import Tokenizer
from toytask_cli.training.loop import Progress
from toytask_cli.training.schedule import LEARN, SEPARATE, Phase

MAX_HEADER_BYTES = 2**20
COPIES = 4  # of each weight: itself, two moments of the optimiser, the best so far
HINT = "train anew with `toytask train`"


def write_checkpoint(
    run: Run, progress: Progress, state: dict[str, Tensor], metrics_sha256: str
) -> None:
    """Write the state at the last finished epoch, bound to the fingerprint of all epochs."""
    metadata = {"progress": asdict(progress), **_fingerprints(run, progress, metrics_sha256)}
    tensor_files.write(run.checkpoint_file, state, metadata)


def read_checkpoint(run: Run) -> tuple[Progress, dict[str, Tensor]]:
    """Read what `write_checkpoint` wrote.

    Raises:
        ToytaskError: it is missing, cut, foreign or changed, or the run's other files are not
            those that it was written with.
    """
    path = run.checkpoint_file
    with files.reading(path, HINT):
        state, metadata = tensor_files.read(path, _max_bytes(run.config.recipe))
        progress = _parse_progress(metadata.get("progress"))
    metrics_sha256 = metrics.fingerprint(run.read_metrics(progress.epoch))
    for name, expected in _fingerprints(run, progress, metrics_sha256).items():
        if metadata.get(name) != expected:
            raise ToytaskError(f"{run.path / name} was changed since {path} was written: {HINT}")
    return progress, state


def _max_bytes(recipe: Recipe) -> int:
    tokenizer = Tokenizer.for_tasks(find_tasks(recipe.tasks), recipe.digits)
    n = min(n_weights(recipe, len(tokenizer)), MAX_WEIGHTS)
    return 4 * COPIES * n + MAX_HEADER_BYTES


def _fingerprints(run: Run, progress: Progress, metrics_sha256: str) -> dict[str, str]:
    """File name → sha256 of what training depends on; the limit of epochs is open in learning."""
    return {
        run.config_file.name: run.config.fingerprint(progress.phase.name == SEPARATE),
        run.metrics_file.name: metrics_sha256,
    }


def _parse_progress(values: Any) -> Progress:
    with suppress(TypeError, KeyError):  # a key is missing or unknown
        progress = Progress(**{**values, "phase": Phase(**values["phase"])})
        if _is_possible(progress):
            return progress
    raise ToytaskError("progress is not valid")


def _is_possible(progress: Progress) -> bool:
    epoch, phase = progress.epoch, progress.phase
    best, loss = progress.best_epoch, progress.best_loss
    return (
        type(epoch) is int
        and phase.name in (LEARN, SEPARATE)
        and type(phase.start) is int
        and 0 <= phase.start <= epoch
        and (best is None or (type(best) is int and 1 <= best <= epoch))
        and (loss is None or (type(loss) is float and math.isfinite(loss)))
    )
