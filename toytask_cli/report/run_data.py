"""All that a run's files say, for its page."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import paths
from toytask_cli.runs.config import Config
from toytask_cli.runs.run import Run

Report = Mapping[str, Any]

# Reports of the whole run, in the order of their commands.
REPORTS = ("eval", "sparsity", "importance")


@dataclass(frozen=True)
class RunData:
    """The contents of a run's files; what was not measured is missing."""

    path: str
    shell_path: str  # as it can be typed into a shell
    config: Config
    weights_sha256: str
    train: Report | None
    reports: Mapping[str, Report]  # by their names in `REPORTS`
    tensors: dict[str, NDArray[Any]]  # of the importance report
    metrics: list[dict[str, Any]]
    ablations: Mapping[str, Report]  # by name
    attacks: Sequence[Report]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks' names, in order."""
        return self.config.recipe.tasks

    def reading_report(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which values are taken from a report of this name."""
        command = f"toytask {name.split('-', maxsplit=1)[0]} {self.shell_path}"
        return understanding(f"{self.path}/reports/{name}.json", command)

    def reading_ablation(self, name: str) -> AbstractContextManager[None]:
        """Return a context in which values are taken from an ablation of this name."""
        command = f"toytask ablate {self.shell_path}"
        return understanding(f"{self.path}/ablations/{name}.json", command)

    def reading_metrics(self) -> AbstractContextManager[None]:
        """Return a context in which values are taken from the metrics."""
        return understanding(f"{self.path}/metrics.jsonl", "toytask train")


def read_run(run: Run) -> RunData:
    """Read all reports of a run.

    Raises:
        ToytaskError: one cannot be read, or is of other weights.
    """
    names = paths.report_names(run.path)
    reports = {name: run.read_report(name) for name in REPORTS if name in names}
    attacks = [name for name in names if name == "attack" or name.startswith("attack-")]
    return RunData(
        path=str(run.path),
        shell_path=run.shell_path,
        config=run.config,
        weights_sha256=run.weights_sha256(),
        train=run.read_report("train") if "train" in names else None,
        reports=reports,
        tensors=_read_arrays(run) if "importance" in reports else {},
        metrics=run.read_metrics() if run.metrics_file.exists() else [],
        ablations=_measured_ablations(run),
        attacks=[run.read_report(name) for name in attacks],
    )


def _read_arrays(run: Run) -> dict[str, NDArray[Any]]:
    """Return the tensors of the importance report."""
    tensors = run.read_tensors("importance")
    file = f"{run.path}/reports/importance.safetensors"
    with understanding(file, f"toytask importance {run.shell_path}"):
        return {name: np.asarray(tensor) for name, tensor in tensors.items()}


def _measured_ablations(run: Run) -> dict[str, Report]:
    """Return the ablations by name, without those that a person wrote: mere sets of neurons."""
    ablations = {name: run.read_ablation(name) for name in run.ablation_names()}
    return {name: report for name, report in ablations.items() if "test" in report}


@contextmanager
def understanding(file: str, command: str) -> Iterator[None]:
    """Turn an error about values that the command would not write into a ToytaskError.

    Args:
        file: where the values are from.
        command: how to write them anew.
    """
    try:
        yield
    except (ArithmeticError, AttributeError, LookupError, TypeError, ValueError) as error:
        raise ToytaskError(
            f"{file}: not as toytask writes it: make it again with `{command}`"
        ) from error
