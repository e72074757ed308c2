"""`metrics.jsonl`: one line for each epoch, appended by the one process that trains the run."""

import json
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files

try:
    import fcntl
except ImportError:  # on Windows a second process is not noticed
    fcntl = None  # type: ignore[assignment]

MAX_BYTES = 2**28
MAX_LINE_BYTES = 2**16
HINT = "train again with `toytask train`"


class MetricsLog:
    """The metrics file of a run in training, locked against other processes until it is closed.

    The kernel unlocks it when the process is killed; a lock file would be left behind.

    Args:
        path: the file, which is created if it is missing.

    Raises:
        ToytaskError: another process trains this run, or the system refuses to write.
    """

    def __init__(self, path: Path):
        self.path = path
        self.hash = sha256()
        with files.writing(path):
            self.file = path.open("ab", buffering=0)
        try:
            if fcntl:
                fcntl.flock(self.file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except (BlockingIOError, PermissionError) as error:
            self.close()
            raise ToytaskError(
                f"{path.parent} is being trained by another process: wait for its end"
            ) from error
        except OSError:
            pass  # the file system has no locks

    def close(self) -> None:
        """Close and unlock the file."""
        self.file.close()

    def truncate(self, epochs: int) -> None:
        """Remove whatever follows these epochs, even part of a line."""
        self.hash = sha256(_hashed(read_metrics(self.path, epochs)))
        lines = self.path.read_bytes().splitlines(keepends=True)[:epochs]
        with files.writing(self.path):
            self.file.truncate(sum(map(len, lines)))

    def append(self, record: Mapping[str, Any]) -> None:
        """Add the record of an epoch."""
        with files.writing(self.path):
            files.write_all(self.file, json.dumps(record, allow_nan=False).encode() + b"\n")
        self.hash.update(_hashed([record]))

    def sync(self) -> str:
        """Wait until the disk holds all epochs; return their fingerprint."""
        with files.writing(self.path):
            files.sync(self.file)
        return self.hash.hexdigest()


def read_metrics(path: Path, epochs: int | None = None) -> list[dict[str, Any]]:
    """Read the records of the first epochs, or of all; what follows is ignored.

    Before the first epoch there may be no file.

    Raises:
        ToytaskError: the file is missing, foreign, or does not hold these epochs.
    """
    if epochs == 0:
        return []
    with files.reading(path, HINT):
        lines = files.read_bytes(path, MAX_BYTES).splitlines()[:epochs]
        records = [_parse_record(line, epoch) for epoch, line in enumerate(lines, start=1)]
        if len(records) < (epochs or 0):
            raise ToytaskError("lacks epochs that were finished")
    return records


def _parse_record(line: bytes, epoch: int) -> dict[str, Any]:
    record = files.parse_object(line[:MAX_LINE_BYTES], epoch)
    seconds = record.get("seconds")
    if record.get("epoch") != epoch or type(seconds) is not float or seconds < 0:
        raise ToytaskError(f"line {epoch} is not of epoch {epoch}")
    return record


def fingerprint(records: Iterable[Mapping[str, Any]]) -> str:
    """Return the sha256 of epochs, apart from how long they took, in hex."""
    return sha256(_hashed(records)).hexdigest()


def _hashed(records: Iterable[Mapping[str, Any]]) -> bytes:
    return b"".join(json.dumps({**each, "seconds": None}).encode() + b"\n" for each in records)
