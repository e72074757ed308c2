"""Time our training and analysis against the plain loop on this machine.

    python tests/benchmarks/timings/speed.py --threads 4 --run runs/reference
    python tests/benchmarks/timings/speed.py --threads 4 --learn 0 1 2

Time an epoch of preset `article` with validation against `baseline.py`, turn by turn, each in a
process of its own, and take medians. In one process the epoch that runs second is slower. On a GPU,
time all epochs of the preset too. With `--run`, time importance against one removal at a time, and
each command. With `--learn`, time training until both tasks reach the source's 98.1 %.
"""

import argparse
import os
import platform
import shutil
import subprocess
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from concurrent.futures import ProcessPoolExecutor
from contextlib import ExitStack
from multiprocessing import get_context
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import baseline
import importance
import torch
from shared import print_header, print_row, seconds

from toytask_cli.dataset import build_grid
from toytask_cli.device import find_device, find_precision
from toytask_cli.model import new_model
from toytask_cli.recipe import resolve
from toytask_cli.runs.run import Run
from toytask_cli.training.loop import Trainer

LEARNT = 0.981  # the source's accuracy
LIMIT = 1000  # epochs


def print_comparison(what: str, plain: float, ours: float) -> None:
    """Print one row of the table of ratios, from seconds."""
    print_row(what, f"{plain:.3g} s", f"{ours:.3g} s", f"{plain / ours:.1f}")


def trainer(preset: str, device: str, precision: torch.dtype, seed: int = 0) -> Trainer:
    """Return a new training that writes nothing to disk."""
    recipe = resolve(preset, {"seed": seed})
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer)).to(find_device(device))
    return Trainer(recipe, grid, model, precision)


def precisions(device: str) -> list[str]:
    """Return float32, and bfloat16 if the hardware multiplies it."""
    best = str(find_precision("auto", torch.device(device))).removeprefix("torch.")
    return ["float32"] if best == "float32" else ["float32", best]


class EpochProcess:
    """A training in a process of its own, one epoch at a time.

    Args:
        kind: `plain`, or the precision of our training.
        device: device to train on.
    """

    epoch: Callable[[], object]

    def __init__(self, kind: str, device: str):
        context, threads = get_context("spawn"), torch.get_num_threads()
        self.process = ProcessPoolExecutor(1, context, EpochProcess._start, (kind, device, threads))

    def turn(self) -> float:
        """Train one epoch and return its seconds."""
        return self.process.submit(EpochProcess._turn).result()

    @staticmethod
    def _start(kind: str, device: str, threads: int) -> None:
        torch.set_num_threads(threads)
        if kind == "plain":
            EpochProcess.epoch = baseline.Training(device).epoch
        else:
            EpochProcess.epoch = trainer("article", device, getattr(torch, kind)).run().__next__

    @staticmethod
    def _turn() -> float:
        return seconds(EpochProcess.epoch)


def compare_epochs(device: str, repeats: int) -> float:
    """Print one row for each precision, without first epochs; return the plain median."""
    processes = {kind: EpochProcess(kind, device) for kind in ("plain", *precisions(device))}
    with ExitStack() as stack:
        for process in processes.values():
            stack.enter_context(process.process)
        turns = [
            {kind: each.turn() for kind, each in processes.items()} for _ in range(repeats + 1)
        ]
    medians = {kind: median(turn[kind] for turn in turns[1:]) for kind in processes}
    plain = medians.pop("plain")
    for kind, epoch in medians.items():
        print_comparison(f"epoch with validation, {device}, {kind}", plain, epoch)
    return plain


def compare_runs(device: str, plain_epoch: float) -> None:
    """Print the time of all epochs of preset `article`; the plain time is extrapolated."""
    recipe = resolve("article", {})
    run = trainer("article", device, find_precision("auto", torch.device(device))).run
    what = f"{recipe.epochs} epochs with validation, {device} (plain: median epoch times epochs)"
    print_comparison(what, recipe.epochs * plain_epoch, seconds(lambda: deque(run(), maxlen=0)))


def time_to_learn(epochs: Iterable[float]) -> float:
    """Return the seconds until every task is learnt."""
    start = time.perf_counter()
    for number, accuracy in enumerate(epochs, start=1):
        if accuracy >= LEARNT:
            return time.perf_counter() - start
        if number == LIMIT:
            break
    return float("inf")


def compare_learning(device: str, seeds: list[int]) -> None:
    """Print the median time to the source's accuracy, of its loop and of our default recipe."""
    plain, ours = [], []
    for seed in seeds:
        training = baseline.Training(device, seed)
        plain.append(time_to_learn(training.epoch()[2] for _ in range(LIMIT)))
        precision = find_precision("auto", torch.device(device))
        records = trainer("default", device, precision, seed).run()
        accuracies = (min(r.validation["accuracy"].values()) for r in records if r.validation)
        ours.append(time_to_learn(accuracies))
    what = f"until both tasks are {100 * LEARNT:g} % right, {device}, {len(seeds)} seeds"
    print_comparison(what, median(plain), median(ours))


def compare_importance(run: Path, repeats: int) -> None:
    """Print the time to score all neurons on all validation pairs and tasks."""
    times = importance.measure(run, repeats)
    what = f"importance of {times.neurons} neurons, {times.pairs} pairs"
    print_comparison(what, times.plain, times.fast)
    print_comparison(f"{what}, one at a time with our model", times.slow, times.fast)


def print_command_times(run: Path, repeats: int) -> None:
    """Print the time of each command without figures, and of importing torch."""
    python, command = [sys.executable], [sys.executable, "-m", "toytask_cli"]
    no_figures = "--no-figures"
    calls = {
        "import torch": [*python, "-c", "import torch"],
        "--help": [*command, "--help"],
        "eval": [*command, "eval", str(run), no_figures],
        "sparsity": [*command, "sparsity", str(run), no_figures],
        "importance": [*command, "importance", str(run), no_figures],
        "ablate": [*command, "ablate", str(run), no_figures, "--remove", first_task(run)],
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(lambda call=call: run_quietly(call)))
    print()
    print_header("command", "seconds", "beyond `import torch`")
    importing = median(times["import torch"])
    for name, turns in times.items():
        beyond = "" if name in ("import torch", "--help") else f"{median(turns) - importing:.2f}"
        print_row(f"`{name}`", f"{median(turns):.2f}", beyond)


def first_task(run: Path) -> str:
    """Return the name of the run's first task."""
    return Run.open(run).config.recipe.tasks[0]


def run_quietly(call: list[str]) -> None:
    """Run a program without its output."""
    subprocess.run(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def main() -> None:
    """Print the tables."""
    parser = argparse.ArgumentParser(description="Our speed against the plain loop.")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument("--repeats", type=int, default=5)
    parser.add_argument(
        "--run", type=Path, help="finished run, to time importance and the commands on"
    )
    parser.add_argument("--learn", type=int, nargs="+", metavar="SEED", help="train these; long")
    args = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = str(args.threads)
    torch.set_num_threads(args.threads)

    load = ", ".join(f"{value:.1f}" for value in os.getloadavg())
    print(f"torch {torch.__version__}, {platform.machine()}, {os.cpu_count()} processors,")
    print(f"{args.threads} threads, load {load} before, medians of {args.repeats}")
    print()
    print_header("what", "plain", "ours", "times faster")
    devices = ["cpu", "cuda"] if torch.cuda.is_available() else ["cpu"]
    for device in devices:
        plain_epoch = compare_epochs(device, args.repeats)
        if device == "cuda":
            compare_runs(device, plain_epoch)
    if args.run:
        compare_importance(args.run, args.repeats)
    for device in devices if args.learn else []:
        compare_learning(device, args.learn)
    if args.run:
        with TemporaryDirectory() as scratch:
            print_command_times(
                Path(shutil.copytree(args.run, Path(scratch) / "run")), args.repeats
            )


if __name__ == "__main__":
    main()
