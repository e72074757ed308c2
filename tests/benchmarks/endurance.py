"""A long training of a tiny model: time, memory and files, part by part; all should stay flat.

python tests/benchmarks/endurance.py --epochs 20000
"""

import argparse
import resource
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from tables import print_header, print_row

from toytask_cli.recipe import resolve
from toytask_cli.runs.session import Session
from toytask_cli.training.loop import EpochRecord

PARTS = 10
TINY = {
    "digits": 1, "d_model": 32, "n_heads": 2, "d_ff": 64, "d_sae": 48, "batch_size": 16,
    "train_fraction": 0.5, "separate_epochs": 0,
}  # fmt: skip


def resident() -> float:
    """MB of memory that this process holds now, or held at most where that cannot be known."""
    pages = Path("/proc/self/statm")
    if pages.exists():
        return int(pages.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Trains in a directory that is thrown away, one line for each part."""
    parser = argparse.ArgumentParser(description="Time, memory and files of a long training.")
    parser.add_argument("--epochs", type=int, default=20_000)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    print_header("epochs", "median ms an epoch", "memory, MB", "files", "bytes a line of metrics")
    with TemporaryDirectory() as scratch:
        recipe = resolve("default", TINY | {"epochs": epochs})
        session = Session.start(recipe, torch.device("cpu"), torch.float32, Path(scratch) / "run")
        part: list[float] = []

        def on_epoch(record: EpochRecord) -> None:
            part.append(record.seconds)
            if len(part) == epochs // PARTS:
                n_files = sum(path.is_file() for path in session.run.path.rglob("*"))
                size = session.run.metrics_file.stat().st_size / record.epoch
                milliseconds = 1000 * statistics.median(part)
                print_row(
                    record.epoch, f"{milliseconds:.2f}", f"{resident():.0f}", n_files, f"{size:.0f}"
                )
                part.clear()

        session.train(on_epoch=on_epoch)


if __name__ == "__main__":
    sys.exit(main())
