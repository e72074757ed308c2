"""What is mutated: a copy of a tree, and the kinds of files in it."""

from pathlib import Path
from random import Random
from typing import NamedTuple

GIGABYTE = 1 << 30
ESCAPE = "\x1b]0;owned\x07\x1b[31m\nerror: two lines\r\x9b"
RUN, DATA = "runs/01", "data"


class Victim(NamedTuple):
    """A copy of the tree to mutate, and a tree beside it for links to lead to."""

    root: Path
    outside: Path
    random: Random

    def choose(self, *patterns: str) -> Path:
        """One of the files that match, each pattern being as likely."""
        matches = [sorted(filter(is_small, self.root.glob(pattern))) for pattern in patterns]
        return self.random.choice(self.random.choice([paths for paths in matches if paths]))


def is_small(path: Path) -> bool:
    """Return whether the mutations themselves can read it, after another one."""
    return path.is_dir() or (path.is_file() and path.stat().st_size < 2**20)


JSON = (
    f"{RUN}/config.json", f"{RUN}/metrics.jsonl", f"{RUN}/reports/train.json",
    f"{RUN}/ablations/*.json", f"{DATA}/manifest.json",
)  # fmt: skip
TENSORS = (
    f"{RUN}/model.safetensors", f"{RUN}/checkpoint.safetensors",
    f"{RUN}/reports/importance.safetensors", f"{DATA}/tokens.safetensors",
)  # fmt: skip
OVERWRITTEN = (f"{RUN}/reports/[!ti]*.json", f"{RUN}/figures/*.png")
READ = (*JSON, *TENSORS)
FOLDERS = (f"{RUN}/reports", f"{RUN}/ablations", f"{RUN}/figures")
