"""Single files: written beside themselves and renamed, read strictly.

What is read may come from any hand. Nothing is believed before it is checked: neither that a path
is a file, nor its size, nor that it still is what was written.
"""

import errno
import os
import stat
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from hashlib import file_digest
from io import RawIOBase
from pathlib import Path

from toytask_cli.errors import ToytaskError

PARTIAL = ".partial"  # what a name ends in until the file is whole

# What helps where the system refuses to write.
HINTS = {
    errno.ENOSPC: "make room on the disk",
    errno.EDQUOT: "make room on the disk",
    errno.EROFS: "work on a copy of your own",
    errno.EACCES: "work on a copy of your own",
    errno.ENOENT: "its directory is gone",
}


class WriteError(ToytaskError):
    """The disk does not take a file."""


@contextmanager
def writing(path: Path) -> Iterator[None]:
    """Turns what the system says against writing here into a `WriteError`."""
    try:
        yield
    except OSError as error:
        hint = HINTS.get(error.errno or 0, "see that this place can be written to")
        raise WriteError(f"cannot write {path} ({error.strerror or error}): {hint}") from error


def write_bytes(path: Path, content: bytes) -> None:
    """Writes a file whole or not at all, even if the machine fails meanwhile.

    Raises:
        WriteError: the disk does not take it.
    """
    with writing(path):
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.", suffix=PARTIAL)
        beside = Path(name)
        try:
            with os.fdopen(handle, "wb", buffering=0) as file:
                write_all(file, content)
                os.fsync(file.fileno())
            beside.chmod(0o666 & ~_umask())
            beside.replace(path)
        except BaseException:
            beside.unlink(missing_ok=True)
            raise


def write_all(file: RawIOBase, content: bytes) -> None:
    """Writes all of it, where one call may write a part."""
    rest = memoryview(content)
    while rest:
        rest = rest[file.write(rest) or 0 :]


def _umask() -> int:
    mask = os.umask(0)
    os.umask(mask)
    return mask


def file_size(path: Path, hint: str) -> int:
    """How many bytes a file has.

    Raises:
        ToytaskError: it is missing, or is a pipe or a device, which could be read for ever.
    """
    try:
        found = path.stat()
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror}): {hint}") from error
    if not stat.S_ISREG(found.st_mode):
        raise ToytaskError(f"cannot read {path} (no file): {hint}")
    return found.st_size


def read_bytes(path: Path, hint: str, largest: int) -> bytes:
    """Reads a whole file of at most so many bytes.

    Raises:
        ToytaskError: it is missing, larger, or no file at all.
    """
    size = file_size(path, hint)
    if size > largest:
        raise ToytaskError(f"{path} is too large ({size:,} bytes, {largest:,} at most): {hint}")
    try:
        with path.open("rb") as file:
            return file.read(largest)
    except OSError as error:
        raise ToytaskError(f"cannot read {path} ({error.strerror}): {hint}") from error


def file_sha256(path: Path, hint: str = "write it again") -> str:
    """The sha256 of a file's bytes, in hex.

    Raises:
        ToytaskError: it is missing or no file.
    """
    file_size(path, hint)
    with path.open("rb") as file:
        return file_digest(file, "sha256").hexdigest()
