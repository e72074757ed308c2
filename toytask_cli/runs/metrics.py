"""`metrics.jsonl`: one line for each epoch, held by the one process that trains the run."""

import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files

try:
    import fcntl
except ImportError:  # as on Windows, where a second process is not noticed
    fcntl = None  # type: ignore[assignment]


class MetricsLog:
    """The file of a run in training, which nobody else can hold meanwhile; a context manager.

    Args:
        path: of the file, which is made where it is missing.

    Raises:
        ToytaskError: another process holds it, or the disk does not take it.
    """

    def __init__(self, path: Path):
        self.path = path
        with files.writing(path):
            self.file = path.open("ab", buffering=0)
        if fcntl:
            try:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                self.file.close()
                raise ToytaskError(
                    f"{path.parent} is being trained by another process: wait for its end"
                ) from error

    def __enter__(self) -> "MetricsLog":
        return self

    def __exit__(self, *_: object) -> None:
        self.file.close()

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one epoch."""
        line = files.to_json(record, indent=None).encode() + b"\n"
        with files.writing(self.path):
            files.write_all(self.file, line)

    def keep(self, epochs: int) -> None:
        """Cuts off what was written after so many epochs, be it a line or part of one.

        Raises:
            ToytaskError: the file does not hold these epochs.
        """
        read_metrics(self.path, epochs)
        lines = self.path.read_bytes().splitlines(keepends=True)[:epochs]
        with files.writing(self.path):
            self.file.truncate(sum(map(len, lines)))

    def sync(self) -> None:
        """Returns when the disk has everything."""
        with files.writing(self.path):
            os.fsync(self.file.fileno())


def read_metrics(path: Path, epochs: int | None = None) -> list[dict[str, Any]]:
    """The first epochs in order, or all; what follows them may not be whole.

    Raises:
        ToytaskError: the file is missing, or does not hold these epochs.
    """
    mend = "train again with `toytask train`"
    try:
        records = [json.loads(line) for line in path.read_bytes().splitlines()[:epochs]]
        numbers = [record["epoch"] for record in records]
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror}): {mend}") from error
    except (ValueError, TypeError, KeyError, RecursionError) as error:
        raise ToytaskError(f"{path} is cut or was not written by toytask: {mend}") from error
    expected = len(numbers) if epochs is None else epochs
    if numbers != list(range(1, expected + 1)):
        raise ToytaskError(f"{path} lacks epochs that were finished: {mend}")
    return records
