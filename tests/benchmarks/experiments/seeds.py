"""Does it hold on every seed? Train one run for each seed, and remove each of its tasks.

    python tests/benchmarks/experiments/seeds.py --out seeds 0 1 2 3 4
    python tests/benchmarks/experiments/seeds.py --out four 0 1 2 -- --tasks sum,concat,diff,max

Options after `--` go to `toytask train`. A run that already exists is measured, not trained again.
"""

import argparse
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from shared import TOLERANCE, print_table


def toytask(*args: object) -> dict[str, Any]:
    """Run a command and return its JSON report."""
    command = [sys.executable, "-m", "toytask_cli", *map(str, args), "--json", "--no-figures"]
    done = subprocess.run(command, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, check=True)
    return json.loads(done.stdout)


def run_of(seed: int, out: Path, options: list[str]) -> dict[str, Any]:
    """Return the training report of a seed's run; train it first if needed."""
    run = out / f"seed-{seed}"
    if not (run / "reports" / "train.json").exists():
        toytask("train", "--seed", seed, "--out", run, *options)
    return json.loads((run / "reports" / "train.json").read_text())


def percent(share: float) -> str:
    """Return a share in percent, to two digits, without the sign."""
    return f"{100 * share:.2f}"


def row(seed: int, out: Path, tolerance: float, options: list[str]) -> list[str]:
    """Return a seed's row: its training, and the accuracy left and kept by each removal."""
    report = run_of(seed, out, options)
    cells = [str(seed), str(report["epochs"]), f"{report['seconds']:.0f}"]
    cells += [percent(task["accuracy"]) for task in report["tasks"].values()]
    for task in report["tasks"]:
        for error in ("keep", "drop"):
            removal = toytask(
                "ablate", out / f"seed-{seed}", "--remove", task, "--tolerance", tolerance,
                "--error", error, "--name", f"seeds-{task}-{error}",
            )  # fmt: skip
            before, after = removal["test"]["before"], removal["test"]["after"]
            kept = min(after[k]["accuracy"] / before[k]["accuracy"] for k in removal["kept_tasks"])
            cells.append(f"{percent(after[task]['accuracy'])} / {percent(kept)}")
    return cells


def main() -> None:
    """Print one row for each seed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("seeds", type=int, nargs="+")
    parser.add_argument("--out", type=Path, required=True, help="directory of the runs")
    parser.add_argument("--tolerance", type=float, default=TOLERANCE, help="of the removals, nats")
    split = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    args = parser.parse_args(sys.argv[1:split])
    options = sys.argv[split + 1 :]
    args.out.mkdir(parents=True, exist_ok=True)
    tasks = list(run_of(args.seeds[0], args.out, options)["tasks"])
    removals = [
        f"{task} removed, {error}: left / kept" for task in tasks for error in ("keep", "drop")
    ]
    header = ["seed", "epochs", "s", *(f"{task} %" for task in tasks), *removals]
    rows = (row(seed, args.out, args.tolerance, options) for seed in args.seeds)
    print_table(header, rows)


if __name__ == "__main__":
    main()
