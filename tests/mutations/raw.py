"""Mutations of files, whatever they hold."""

import os
import pickle
import shutil
from pathlib import Path
from typing import Any

import torch

from mutations.victim import ESCAPE, FOLDERS, GIGABYTE, JSON, OVERWRITTEN, READ, Victim

# Bytes


def cut(victim: Victim) -> list[Path]:
    path = victim.choose(*READ)
    content = path.read_bytes()
    path.write_bytes(
        content[: victim.random.choice([0, 1, 8, victim.random.randrange(len(content))])]
    )
    return [path]


def flip_bits(victim: Victim) -> list[Path]:
    path = victim.choose(*READ)
    content = bytearray(path.read_bytes())
    for _ in range(victim.random.choice([1, 1, 1, 8])):
        content[victim.random.randrange(len(content))] ^= 1 << victim.random.randrange(8)
    path.write_bytes(content)
    return [path]


def garble(victim: Victim) -> list[Path]:
    """Bytes put in, taken out or written over, anywhere or at the end."""
    path = victim.choose(*READ)
    content = path.read_bytes()
    start = victim.random.choice([0, len(content), victim.random.randrange(len(content))])
    garbage = victim.random.choice([b"", b"\0", b"\n", b"\xff\xfe", victim.random.randbytes(9)])
    end = start + victim.random.choice([0, len(garbage), 5])
    path.write_bytes(content[:start] + garbage + content[end:])
    return [path]


def recode(victim: Victim) -> list[Path]:
    """Text in another encoding."""
    path = victim.choose(*JSON)
    path.write_bytes(
        path.read_text().encode(victim.random.choice(["utf-16", "utf-32", "utf-8-sig"]))
    )
    return [path]


def pickled(victim: Victim) -> list[Path]:
    """A pickle that, when loaded, writes a file outside."""
    path = victim.choose(*READ)
    content = pickle.dumps(_Bomb(victim.outside / "owned"))
    if victim.random.random() < 0.3:
        torch.save({"weights": _Bomb(victim.outside / "owned")}, path)
    else:
        path.write_bytes(content)
    return [path]


class _Bomb:
    def __init__(self, path: Path):
        self.path = path

    def __reduce__(self) -> tuple[Any, ...]:
        return (os.mkdir, (str(self.path),))


# Files


def swap(victim: Victim) -> list[Path]:
    """Two files of different kinds; two ablations that change names are each still what it says."""
    first = victim.choose(*READ)
    second = victim.choose(*(pattern for pattern in READ if not first.match(pattern)))
    content = first.read_bytes()
    first.write_bytes(second.read_bytes())
    second.write_bytes(content)
    return [first, second]


def rename(victim: Victim) -> list[Path]:
    path = victim.choose(*READ, *FOLDERS)
    name = victim.random.choice(["x", f"x{ESCAPE}{path.suffix}", "x" * 200, f"é{path.suffix}"])
    path.rename(path.with_name(name))
    return [path]


def delete(victim: Victim) -> list[Path]:
    path = victim.choose(*READ, *FOLDERS)
    shutil.rmtree(path) if path.is_dir() else path.unlink()
    return [path]


def exchange_kind(victim: Victim) -> list[Path]:
    """A directory or a pipe instead of a file, a file instead of a directory."""
    path = victim.choose(*READ, *FOLDERS, *OVERWRITTEN)
    if path.is_dir():
        shutil.rmtree(path)
        path.write_text("{}")
        return [path]
    path.unlink()
    victim.random.choice([os.mkdir, os.mkfifo])(path)
    return [path]


def link_file(victim: Victim) -> list[Path]:
    """A link to the same outside, to something else there, to nothing, to itself, to a device."""
    path = victim.choose(*READ, *OVERWRITTEN)
    copy = victim.outside / "copy"
    shutil.copy(path, copy)
    path.unlink()
    targets = [copy, copy, victim.outside / "file", victim.outside / "nothing", path, "/dev/zero"]
    path.symlink_to(victim.random.choice(targets))
    return [path]


def link_folder(victim: Victim) -> list[Path]:
    path = victim.choose(*FOLDERS)
    copy = victim.outside / "folder"
    shutil.copytree(path, copy)
    shutil.rmtree(path)
    path.symlink_to(victim.random.choice([copy, copy, victim.outside / "nothing", path]))
    return [path]


def gigabyte_file(victim: Victim) -> list[Path]:
    """A file that says to be of a gigabyte or more, the rest of it a hole."""
    path = victim.choose(*READ)
    os.truncate(path, victim.random.choice([1, 40]) * GIGABYTE)
    return [path]
