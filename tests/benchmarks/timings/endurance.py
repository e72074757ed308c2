"""Train a tiny model for very long; time, memory and number of files should stay flat.

python tests/benchmarks/timings/endurance.py --epochs 20000
"""

import argparse
import resource
import statistics
import sys
from pathlib import Path
from tempfile import TemporaryDirectory

import torch
from shared import print_header, print_row

from toytask_cli.recipe import resolve
from toytask_cli.runs.session import Session
from toytask_cli.training.loop import EpochRecord

ROWS = 10  # of the table
TINY = {
    "digits": 1, "d_model": 32, "n_heads": 2, "d_ff": 64, "d_sae": 48, "batch_size": 16,
    "train_fraction": 0.5, "separate_epochs": 0,
}  # fmt: skip


def resident() -> float:
    """Return the MB of memory that this process holds now, or else its peak."""
    statm = Path("/proc/self/statm")
    if statm.exists():
        return int(statm.read_text().split()[1]) * resource.getpagesize() / 1e6
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1e3


def main() -> None:
    """Train in a temporary directory, and print one row for each tenth of the epochs."""
    parser = argparse.ArgumentParser(description="Time, memory and files of a long training.")
    parser.add_argument("--epochs", type=int, default=20_000)
    epochs = parser.parse_args().epochs
    torch.set_num_threads(1)
    print_header("epochs", "median ms an epoch", "memory, MB", "files", "bytes a line of metrics")
    with TemporaryDirectory() as scratch:
        recipe = resolve("default", TINY | {"epochs": epochs})
        session = Session.start(recipe, torch.device("cpu"), torch.float32, Path(scratch) / "run")
        epoch_seconds: list[float] = []

        def on_epoch(record: EpochRecord) -> None:
            epoch_seconds.append(record.seconds)
            if len(epoch_seconds) == epochs // ROWS:
                n_files = sum(path.is_file() for path in session.run.path.rglob("*"))
                size = session.run.metrics_file.stat().st_size / record.epoch
                milliseconds = 1000 * statistics.median(epoch_seconds)
                print_row(
                    record.epoch, f"{milliseconds:.2f}", f"{resident():.0f}", n_files, f"{size:.0f}"
                )
                epoch_seconds.clear()

        session.train(on_epoch=on_epoch)


if __name__ == "__main__":
    sys.exit(main())
