"""One run of a study, in a process of its own: train, measure, remove each task.

    python -m toytask_cli.studies.one_run DIRECTORY

reads a job (`Plan.job`) from stdin. The process ends when its stdin does, so that none is left
behind when the one who started it is killed.
"""

import json
import os
import shutil
import sys
import traceback
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from threading import Thread
from typing import Any

import torch

from toytask_cli import __version__
from toytask_cli.analysis.ablate import ablate
from toytask_cli.analysis.atlas import importance_report
from toytask_cli.analysis.evaluate import evaluate
from toytask_cli.analysis.importance import score_neurons
from toytask_cli.analysis.operand_maps import at_all_operands
from toytask_cli.analysis.quantities import values_of
from toytask_cli.analysis.sparsity import measure_sparsity
from toytask_cli.dataset import Grid
from toytask_cli.device import find_device, find_precision
from toytask_cli.errors import NoPairsError, ToytaskError
from toytask_cli.hooks import ERRORS
from toytask_cli.model import Transformer
from toytask_cli.recipe import Recipe
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session
from toytask_cli.runs.study_directory import REPORT

SEED = 0  # of the draws in measuring, as the commands have it


def train_and_measure(job: Mapping[str, Any], directory: Path) -> None:
    """Train the job's run in an empty directory, and write every report of it.

    Raises:
        ToytaskError: this is another version of toytask, or the loss diverges.
    """
    if job["version"] != __version__:
        raise ToytaskError(f"the worker has toytask {__version__}, the study {job['version']}")
    device = find_device(job["device"])
    recipe = Recipe.from_json(job["recipe"], "recipe")
    session = Session.start(recipe, device, find_precision(job["precision"], device), directory)
    run = session.run
    run.name = job["path"]
    train = session.train()
    run.checkpoint_file.unlink()  # nothing is left to resume, and it is four times the weights
    torch.set_flush_denormal(False)  # the commands that measure do not flush
    values = measure(run, device, train, job["tolerances"])
    run.write_report(REPORT, {"fingerprint": job["fingerprint"], "values": values})


def measure(
    run: Run, device: torch.device, train: Mapping[str, Any], tolerances: list[float]
) -> dict[str, float]:
    """Write the reports of `eval`, `sparsity`, `importance` and of every task's removals.

    Args:
        run: a trained run.
        device: to measure on.
        train: its report of training.
        tolerances: of the removals, nats.

    Where there are no pairs to score neurons on, no task is removed.

    Returns:
        Quantity → value.
    """
    grid = run.grid()
    model = run.model(grid, device)
    evaluation, _ = evaluate(model, grid, grid.report_split, None, SEED)
    settings = {"ablation": None, "limit": None, "seed": SEED}
    run.write_report("eval", {**settings, **asdict(evaluation)})
    sparsity, firing = measure_sparsity(model, grid, grid.report_split)
    run.write_tensors("sparsity", firing._asdict())
    reported = run.write_report("sparsity", asdict(sparsity))
    try:
        ablations = _remove_each_task(run, model, grid, tolerances)
    except NoPairsError:
        ablations = []
    return values_of(train, reported, ablations)


def _remove_each_task(
    run: Run, model: Transformer, grid: Grid, tolerances: list[float]
) -> list[dict[str, Any]]:
    """Write the reports of `importance` and of every removal; return those of the removals."""
    scores = score_neurons(model, grid, seed=SEED)
    values, tensors = importance_report(scores, at_all_operands(model, grid))
    run.write_tensors("importance", tensors)
    run.write_report("importance", {"seed": SEED, **values})
    # Scored again as `ablate` does it: with other products, importances differ in rounding.
    scores = score_neurons(model, grid, seed=SEED, resamples=1)
    ablations = (
        ablate(scores, remove=[task], tolerance=tolerance, error=error, seed=SEED)
        for task in grid.task_names
        for tolerance in tolerances
        for error in ERRORS
    )
    return [run.write_ablation(each.default_name, asdict(each)) for each in ablations]


def main() -> None:
    """Do the job on stdin; the last line of stderr is the reason if it fails."""
    directory = Path(sys.argv[1])
    job = json.loads(sys.stdin.readline())
    Thread(target=_end_with_parent, args=(directory,), daemon=True).start()
    try:
        train_and_measure(job, directory)
    except ToytaskError as error:
        sys.exit(str(error))
    except Exception:
        traceback.print_exc()
        sys.exit(1)


def _end_with_parent(directory: Path) -> None:
    """Wait for the end of stdin; it comes when the parent is gone."""
    os.read(sys.stdin.fileno(), 1)
    for _ in range(10):  # the run may be writing into it
        shutil.rmtree(directory, ignore_errors=True)
    os._exit(1)


if __name__ == "__main__":
    main()
