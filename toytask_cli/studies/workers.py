"""Where runs are trained: each in a process of its own, here or on the workers of a cluster.

Both ways are a `concurrent.futures.Executor` whose workers call `LocalRuns.train`. What a run wrote
comes back as bytes, so no disk has to be shared.
"""

import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import Executor, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from tempfile import TemporaryDirectory
from threading import Lock
from typing import Any, NamedTuple

from toytask_cli.errors import ToytaskError

PROGRAM = [sys.executable, "-m", "toytask_cli.studies.one_run"]
CONNECT_SECONDS = 5

Contents = dict[str, bytes]  # relative path → bytes of each file of a run


class RunFailedError(ToytaskError):
    """A run that did not come to its end; the message is its reason."""


class LocalRuns:
    """The runs in training on this machine, each in a process of its own.

    One that is killed takes no other with it, its memory is given back, and its number of threads
    is set before PyTorch is loaded.
    """

    def __init__(self) -> None:
        self.lock = Lock()
        self.stopped = False
        self.running: dict[str, tuple[Path, subprocess.Popen[bytes]]] = {}  # by the run's path

    def train(self, job: Mapping[str, Any]) -> Contents:
        """Train and measure one run; return its files.

        Raises:
            RunFailedError: it was killed, ran out of memory, diverged, or was stopped.
        """
        with TemporaryDirectory(prefix="toytask-", ignore_cleanup_errors=True) as name:
            directory = Path(name)
            with self._start(job, directory) as process:
                assert process.stdin is not None
                assert process.stderr is not None
                with suppress(BrokenPipeError):  # it died before it could read
                    process.stdin.write(json.dumps(job).encode() + b"\n")
                    process.stdin.flush()
                printed = process.stderr.read().decode(errors="replace")
            with self.lock:
                del self.running[job["path"]]
            if process.returncode:
                raise RunFailedError(_reason(process.returncode, printed))
            written = (path for path in directory.rglob("*") if path.is_file())
            return {str(path.relative_to(directory)): path.read_bytes() for path in written}

    def _start(self, job: Mapping[str, Any], directory: Path) -> "subprocess.Popen[bytes]":
        with self.lock:
            if self.stopped:
                raise RunFailedError("stopped")
            process = subprocess.Popen(
                [*PROGRAM, directory],
                env={**os.environ, "OMP_NUM_THREADS": str(job["threads"])},
                stdin=subprocess.PIPE,
                stdout=subprocess.DEVNULL,
                stderr=subprocess.PIPE,
                start_new_session=True,  # Ctrl-C in a terminal reaches the driver alone
            )
            self.running[job["path"]] = directory, process
        return process

    def stop(self) -> None:
        """End all runs in training, and start no other."""
        with self.lock:
            self.stopped = True
            for _, process in self.running.values():
                process.kill()

    def progress(self) -> dict[str, dict[str, Any] | None]:
        """Return path → record of the last finished epoch, for each run in training."""
        with self.lock:
            running = list(self.running.items())
        return {path: _last_record(directory) for path, (directory, _) in running}


def _reason(returncode: int, printed: str) -> str:
    if returncode < 0:
        name = signal.Signals(-returncode).name
        return f"killed by {name}{' (out of memory?)' if name == 'SIGKILL' else ''}"
    lines = printed.strip().splitlines()
    return lines[-1] if lines else f"ended with exit code {returncode}"


def _last_record(directory: Path) -> dict[str, Any] | None:
    """Return the last whole line of the metrics, or None if there is none yet."""
    try:
        lines = (directory / "metrics.jsonl").read_bytes().split(b"\n")[:-1]
        return json.loads(lines[-1])
    except (OSError, IndexError):
        return None


class Workers(NamedTuple):
    """Where the runs of a study are trained."""

    executor: Executor
    train: Callable[[Mapping[str, Any]], Contents]  # what the executor is to call: job → files
    progress: Callable[[], Mapping[str, Any]]  # run path → record of its last epoch, where known


@contextmanager
def local_workers(jobs: int) -> Iterator[Workers]:
    """Train this many runs at a time on this machine; at the end, stop those in training."""
    runs = LocalRuns()
    executor = ThreadPoolExecutor(jobs)  # a thread waits for each process
    try:
        yield Workers(executor, runs.train, runs.progress)
    finally:
        runs.stop()
        executor.shutdown(cancel_futures=True)


@contextmanager
def cluster_workers(address: str) -> Iterator[Workers]:
    """Train on the workers of a Dask cluster; at the end, take back what none has begun.

    Raises:
        ToytaskError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise ToytaskError("--cluster needs Dask: pip install 'toytask[cluster]'") from error
    try:
        client = Client(address or "nowhere", timeout=CONNECT_SECONDS)
    except Exception as error:  # anything may answer there, with anything
        raise ToytaskError(
            f"no scheduler answers at {address}: start one with `dask scheduler`, and name its "
            "address, such as tcp://127.0.0.1:8786"
        ) from error
    with client:
        executor = client.get_executor(pure=False)
        try:
            yield Workers(executor, train_on_worker, dict)
        except Exception as error:
            if client.status == "running":
                raise
            raise ToytaskError(f"the scheduler at {address} is gone") from error
        finally:
            if client.status == "running":
                executor.shutdown(wait=False)


def train_on_worker(job: Mapping[str, Any]) -> Contents:
    """Train and measure one run on the machine of a cluster's worker."""
    return LocalRuns().train(job)
