"""How fast: ours against the plain way, on this machine, as Markdown.

    python tests/benchmarks/speed.py --threads 4 --run runs/reference
    python tests/benchmarks/speed.py --threads 4 --learn 0 1 2

An epoch of preset `article`, validation included, against `baseline.py`, turn by turn, each in a
process of its own as in use (after another's epoch the same memory is slower), medians; on a GPU
also all its epochs; on a finished run, importance against one removal at a time and the commands'
start-up; and, with `--learn`, the time until both tasks are right to the article's 98.1 %.
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
from tables import print_header, print_row
from timing import seconds

from toytask_cli.dataset import build_grid
from toytask_cli.device import find_device, find_precision
from toytask_cli.model import new_model
from toytask_cli.recipe import resolve
from toytask_cli.runs.run import Run
from toytask_cli.training.loop import Trainer

LEARNT = 0.981  # the article's accuracy
LIMIT = 1000  # epochs, if it is not reached before


def compared(what: str, plain: float, ours: float) -> None:
    """A line of the table of ratios, from seconds."""
    print_row(what, f"{plain:.3g} s", f"{ours:.3g} s", f"{plain / ours:.1f}")


def trainer(preset: str, device: str, precision: torch.dtype, seed: int = 0) -> Trainer:
    """A fresh run, nothing written to disk."""
    recipe = resolve(preset, {"seed": seed})
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer)).to(find_device(device))
    return Trainer(recipe, grid, model, precision)


def precisions(device: str) -> list[str]:
    """Float32, and bfloat16 where the hardware multiplies it."""
    best = str(find_precision("auto", torch.device(device))).removeprefix("torch.")
    return ["float32"] if best == "float32" else ["float32", best]


class Contestant:
    """Trains in a process of its own, an epoch whenever asked."""

    epoch: Callable[[], object]

    def __init__(self, kind: str, device: str):
        context, threads = get_context("spawn"), torch.get_num_threads()
        self.process = ProcessPoolExecutor(1, context, Contestant._start, (kind, device, threads))

    def turn(self) -> float:
        """Seconds of its next epoch."""
        return self.process.submit(Contestant._turn).result()

    @staticmethod
    def _start(kind: str, device: str, threads: int) -> None:
        """There: `kind` is `plain`, or our precision."""
        torch.set_num_threads(threads)
        if kind == "plain":
            Contestant.epoch = baseline.Training(device).epoch
        else:
            Contestant.epoch = trainer("article", device, getattr(torch, kind)).run().__next__

    @staticmethod
    def _turn() -> float:
        return seconds(Contestant.epoch)


def compare_epochs(device: str, repeats: int) -> float:
    """One line for each precision, the first epoch of each left out; the plain epoch's median."""
    contestants = {kind: Contestant(kind, device) for kind in ("plain", *precisions(device))}
    with ExitStack() as stack:
        for contestant in contestants.values():
            stack.enter_context(contestant.process)
        turns = [{k: each.turn() for k, each in contestants.items()} for _ in range(repeats + 1)]
    medians = {kind: median(turn[kind] for turn in turns[1:]) for kind in contestants}
    plain = medians.pop("plain")
    for kind, epoch in medians.items():
        compared(f"epoch with validation, {device}, {kind}", plain, epoch)
    return plain


def compare_runs(device: str, plain_epoch: float) -> None:
    """All epochs of preset `article` and their validation: ours run, the plain ones reckoned."""
    recipe = resolve("article", {})
    run = trainer("article", device, find_precision("auto", torch.device(device))).run
    what = f"{recipe.epochs} epochs with validation, {device} (plain: median epoch times epochs)"
    compared(what, recipe.epochs * plain_epoch, seconds(lambda: deque(run(), maxlen=0)))


def time_to_learn(epochs: Iterable[float]) -> float:
    """Seconds until an epoch's worst task is learnt."""
    start = time.perf_counter()
    for number, accuracy in enumerate(epochs, start=1):
        if accuracy >= LEARNT:
            return time.perf_counter() - start
        if number == LIMIT:
            break
    return float("inf")


def compare_learning(device: str, seeds: list[int]) -> None:
    """Median time to the article's accuracy: its loop and recipe, against ours by default."""
    plain, ours = [], []
    for seed in seeds:
        training = baseline.Training(device, seed)
        plain.append(time_to_learn(training.epoch()[2] for _ in range(LIMIT)))
        precision = find_precision("auto", torch.device(device))
        records = trainer("default", device, precision, seed).run()
        accuracies = (min(r.validation["accuracy"].values()) for r in records if r.validation)
        ours.append(time_to_learn(accuracies))
    what = f"until both tasks are {100 * LEARNT:g} % right, {device}, {len(seeds)} seeds"
    compared(what, median(plain), median(ours))


def compare_importance(run: Path, repeats: int) -> None:
    """All neurons, all validation pairs, all tasks."""
    found = importance.measure(run, repeats)
    what = f"importance of {found.neurons} neurons, {found.pairs} pairs"
    compared(what, found.plain, found.fast)
    compared(f"{what}, plain way by our model", found.slow, found.fast)


def start_up(run: Path, repeats: int) -> None:
    """The commands on a finished run, figures left out, beside what importing torch takes."""
    python, command = [sys.executable], [sys.executable, "-m", "toytask_cli"]
    plain = "--no-figures"
    calls = {
        "import torch": [*python, "-c", "import torch"],
        "--help": [*command, "--help"],
        "eval": [*command, "eval", str(run), plain],
        "sparsity": [*command, "sparsity", str(run), plain],
        "importance": [*command, "importance", str(run), plain],
        "ablate": [*command, "ablate", str(run), plain, "--remove", first_task(run)],
    }
    times: dict[str, list[float]] = {name: [] for name in calls}
    for _ in range(repeats):
        for name, call in calls.items():
            times[name].append(seconds(lambda call=call: silently(call)))
    print()
    print_header("command", "seconds", "beyond `import torch`")
    importing = median(times["import torch"])
    for name, taken in times.items():
        beyond = "" if name in ("import torch", "--help") else f"{median(taken) - importing:.2f}"
        print_row(f"`{name}`", f"{median(taken):.2f}", beyond)


def first_task(run: Path) -> str:
    """The name of a task that the run has learnt."""
    return Run.open(run).config.recipe.tasks[0]


def silently(call: list[str]) -> None:
    """Runs a program, whose output is thrown away."""
    subprocess.run(call, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=True)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description="Ours against the plain way, as Markdown.")
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
            start_up(Path(shutil.copytree(args.run, Path(scratch) / "run")), args.repeats)


if __name__ == "__main__":
    main()
