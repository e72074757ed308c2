"""Drive a study: hand out its runs, keep each that finishes, try a failed one once more."""

from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Future, wait
from typing import Any, Protocol

from toytask_cli.errors import shorten
from toytask_cli.runs.study_directory import StudyDirectory
from toytask_cli.studies.plan import Plan, PlannedRun
from toytask_cli.studies.workers import Contents, Workers

ATTEMPTS = 2  # of each run
POLL_SECONDS = 0.25
LONGEST_REASON = 200  # characters

Values = Mapping[str, float]


class Observer(Protocol):
    """Shows the progress of a study."""

    def finished(self, run: PlannedRun, values: Values) -> None:
        """Show that a run is finished, and what was measured of it."""

    def failed(self, run: PlannedRun, reason: str, again: bool) -> None:
        """Show that a run failed, and whether it is tried again."""

    def refresh(self, progress: Mapping[str, Any]) -> None:
        """Show how far the runs in training are: run path → record of the last epoch."""


def read_finished(plan: Plan, study: StudyDirectory) -> dict[str, Values]:
    """Return run id → values of every run that is finished.

    Raises:
        ToytaskError: something else is in the place of a run.
    """
    values = ((run.id, study.read_values(run.id, plan.fingerprint(run))) for run in plan.runs)
    return {name: each for name, each in values if each is not None}


def drive(
    plan: Plan,
    study: StudyDirectory,
    runs: Sequence[PlannedRun],
    workers: Workers,
    *,
    device: str,
    observer: Observer,
    stop: Callable[[], bool],
) -> dict[str, str]:
    """Train and measure runs, and write each into the study as soon as it is finished.

    Args:
        runs: those of the plan that are left to do.
        workers: that train the runs.
        device: name of the device to train on.
        stop: asked a few times a second; once it is true, nothing more is handed out or kept.

    Returns:
        Run id → reason, for each run that failed in all its attempts.

    Raises:
        WriteError: the system refuses to write; what was written before is kept.
    """

    def submit(run: PlannedRun) -> Future[Contents]:
        return workers.executor.submit(
            workers.train, plan.job(run, str(study.path / run.id), device)
        )

    pending = {submit(run): run for run in runs}
    attempts = Counter(run.id for run in runs)
    failed: dict[str, str] = {}
    while pending and not stop():
        done, _ = wait(pending, timeout=POLL_SECONDS, return_when=FIRST_COMPLETED)
        for future in done:
            run = pending.pop(future)
            reason = _failure(future)
            if reason is None:
                study.write_run(run.id, future.result())
                observer.finished(run, study.read_values(run.id, plan.fingerprint(run)) or {})
                continue
            again = attempts[run.id] < ATTEMPTS
            observer.failed(run, reason, again)
            if again:
                attempts[run.id] += 1
                pending[submit(run)] = run
            else:
                failed[run.id] = reason
        observer.refresh(workers.progress())
    return failed


def _failure(future: "Future[Contents]") -> str | None:
    """Return why a run failed, in one line; None if it did not."""
    try:
        error = future.exception()
    except CancelledError:
        return "the cluster gave it up"
    if error is None:
        return None
    lines = str(error).splitlines()
    return shorten(lines[0] if lines else type(error).__name__, LONGEST_REASON)
