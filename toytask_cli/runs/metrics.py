"""`metrics.jsonl`: one line for each epoch, held by the one process that trains the run."""

import os
from collections.abc import Iterable, Mapping
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any

from toytask_cli.errors import ToytaskError
from toytask_cli.runs import files, json_files

try:
    import fcntl
except ImportError:  # as on Windows, where a second process is not noticed
    fcntl = None  # type: ignore[assignment]

if TYPE_CHECKING:
    from hashlib import _Hash

LARGEST, LONGEST_LINE = 2**28, 2**16  # bytes that are taken for a run, and for one epoch


class MetricsLog:
    """The file of a run in training, which nobody else can hold meanwhile; a context manager.

    Args:
        path: of the file, which is made where it is missing.

    Raises:
        ToytaskError: another process holds it, or the disk does not take it.
    """

    def __init__(self, path: Path):
        self.path = path
        self.seen = _hashed([])
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

    @property
    def sha256(self) -> str:
        """The `digest` of all epochs that are kept."""
        return self.seen.hexdigest()

    def append(self, record: Mapping[str, Any]) -> None:
        """Adds one epoch."""
        line = json_files.to_text(record, indent=None).encode() + b"\n"
        with files.writing(self.path):
            files.write_all(self.file, line)
        self.seen.update(_without_time(record))

    def keep(self, epochs: int) -> None:
        """Cuts off what was written after so many epochs, be it a line or part of one.

        Raises:
            ToytaskError: the file does not hold these epochs.
        """
        self.seen = _hashed(read_metrics(self.path, epochs))
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
        ToytaskError: the file is missing, does not hold these epochs, or is foreign.
    """
    hint = "train again with `toytask train`"
    records = []
    lines = files.read_bytes(path, hint, LARGEST).splitlines()[:epochs]
    for epoch, line in enumerate(lines, start=1):
        name = f"{path}, line {epoch},"
        record = json_files.parse_object(line[:LONGEST_LINE], name, hint)
        seconds = record.get("seconds")
        if record.get("epoch") != epoch or type(seconds) is not float or seconds < 0:
            raise ToytaskError(f"{name} is not of epoch {epoch}: {hint}")
        records.append(record)
    if len(records) < (epochs or 0):
        raise ToytaskError(f"{path} lacks epochs that were finished: {hint}")
    return records


def digest(records: Iterable[Mapping[str, Any]]) -> str:
    """The sha256 of epochs in hex, but for how long they took."""
    return _hashed(records).hexdigest()


def _hashed(records: Iterable[Mapping[str, Any]]) -> "_Hash":
    seen = sha256()
    for record in records:
        seen.update(_without_time(record))
    return seen


def _without_time(record: Mapping[str, Any]) -> bytes:
    return json_files.canonical({**record, "seconds": None}) + b"\n"
