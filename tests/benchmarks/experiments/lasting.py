"""How hard is a removed task to bring back, by the way in which it was removed?

    python tests/benchmarks/experiments/lasting.py runs/study-01 --seeds 0-4 --removed concat \
        --out lasting

Each run of a study of the default recipe has its ablations already. Beside the mask itself, fresh
weights are taught what the ablated model writes, or its own weights are shrunk and noised first.
Steps are those of the fastest attack until 95 % of the accuracy is back, as `toytask attack`
measures them, over the steps that a control needs which was taught the kept task alone. To bake the
mask into the weights, deleting the neurons' rows and columns and reading the logits from x̂, gives
the same function as the mask with the error dropped, with nothing left to lift.

What is measured is kept in --out, and the same command goes on.
"""

import argparse
import json
from collections.abc import Iterable, Iterator
from pathlib import Path
from statistics import fmean, stdev
from typing import Any, NamedTuple

from shared import CPU, TOLERANCE, print_table

from toytask_cli.analysis.ablation_report import ablation_name
from toytask_cli.analysis.generate import Variant
from toytask_cli.analysis.probes import probe
from toytask_cli.analysis.relearning import Attacker, Candidate, accuracy_by_task
from toytask_cli.dataset import Grid
from toytask_cli.device import find_precision
from toytask_cli.runs.attacks import control_session
from toytask_cli.runs.lessons import student_recipe, teacher_of
from toytask_cli.runs.run import Run
from toytask_cli.runs.session import Session
from toytask_cli.studies.plan import parse_numbers
from toytask_cli.studies.statistics import t_quantile

PRECISION = find_precision("auto", CPU)


class Way(NamedTuple):
    """A way to remove a task."""

    name: str
    error: str | None  # of the ablation; None for the control
    noise: float | None = None  # of the student's first weights; None for the ablated model itself


CONTROL = Way("taught the other task alone", None)
WAYS = [
    CONTROL,
    Way("mask, error kept", "keep"),
    Way("mask, error dropped", "drop"),
    Way("student of the mask, error kept", "keep", 1.0),
    Way("student of the mask, error dropped", "drop", 1.0),
    *(Way(f"UNDO, noise {noise:g}", "keep", noise) for noise in (0.25, 0.5, 0.75)),
]


class Removal(NamedTuple):
    """One task removed from one run."""

    run: Run
    grid: Grid
    task: str
    out: Path
    limit: int  # steps of an attack

    def kept(self) -> list[str]:
        """Return the names of the other tasks."""
        return [name for name in self.grid.task_names if name != self.task]

    def ablation(self, error: str) -> str:
        """Return the name of the run's ablation."""
        return ablation_name([self.task], "tolerance", TOLERANCE, error)

    def student(self, way: Way) -> Run:
        """Return the run that was taught in this way, which is trained first if needed."""
        assert way.error is not None
        assert way.noise is not None
        path = self.out / f"{self.run.path.name}-{self.task}-{way.error}-noise-{way.noise:g}"
        if path.exists():
            session = Session.resume(Run.open(path), None, CPU)
        else:
            model = self.run.model(self.grid, CPU)
            ablation = self.ablation(way.error)
            teacher = teacher_of(self.run, model, self.grid, ablation, False, way.noise)
            recipe = student_recipe(self.run.config.recipe, None, None)
            session = Session.start(recipe, CPU, PRECISION, path, teacher=teacher)
        return train(session)

    def candidate(self, way: Way) -> tuple[Candidate, Run]:
        """Return what is attacked, and the run that holds its weights."""
        variant = Variant()
        if way.error is None:
            run = train(control_session(self.run, self.kept(), CPU, PRECISION))
        elif way.noise is None:
            run = self.run
            report = run.read_ablation(self.ablation(way.error))
            variant = Variant.from_report(report, run.config.recipe.d_sae)
        else:
            run = self.student(way)
        return Candidate(way.name, run.model(self.grid, CPU), variant), run


def train(session: Session) -> Run:
    """Train to the end, and return the run."""
    if not session.is_finished:
        session.train()
    return session.run


def measure(removal: Removal, way: Way) -> dict[str, Any]:
    """Return accuracies, the fastest attack, the probes, and seconds of training."""
    run, grid = removal.run, removal.grid
    candidate, trained = removal.candidate(way)
    tasks = [grid.task_names.index(removal.task)]
    before = run.read_report("train")["tasks"][removal.task]["accuracy"]
    attacker = Attacker(run.config.recipe, PRECISION, grid, tasks, removal.limit, seed=0)
    relearnt = attacker.relearn(candidate, before)
    return {
        "way": way.name,
        "run": str(run.path),
        "removed": removal.task,
        "accuracy": accuracy_by_task(candidate, grid),
        "probes": probe(candidate.model, candidate.variant, grid, tasks, seed=0),
        "steps50": steps_or(removal.limit, relearnt.steps50),
        "steps95": steps_or(removal.limit, relearnt.steps95),
        "rate": relearnt.rate,
        "seconds": trained.read_report("train")["seconds"],
        "seconds_before": run.read_report("train")["seconds"],
    }


def steps_or(limit: int, steps: int | None) -> int:
    """Return the steps, or the limit where an attack did not get there."""
    return limit if steps is None else steps


def results(removal: Removal, ways: Iterable[Way]) -> Iterator[dict[str, Any]]:
    """Yield what is measured of each way, read from --out where it is there already."""
    for way in ways:
        name = f"{removal.run.path.name} {removal.task} {way.name}".replace(" ", "-")
        path = removal.out / f"{name}.json"
        if not path.exists():
            path.write_text(json.dumps(measure(removal, way), indent=1))
        yield json.loads(path.read_text())


def rows(found: list[dict[str, Any]]) -> Iterator[list[object]]:
    """Yield a row of the table for each way: means over the runs, and the worst."""
    controls = {each["run"]: each for each in found if each["way"] == CONTROL.name}
    for way in WAYS:
        mine = [each for each in found if each["way"] == way.name]
        if not mine:
            continue
        removed = [each["accuracy"][each["removed"]] for each in mine]
        kept = [min(a for t, a in e["accuracy"].items() if t != e["removed"]) for e in mine]
        probes = [
            max(each["probes"][block] - control for block, control in of_control.items())
            for each in mine
            for of_control in (controls[each["run"]]["probes"],)
        ]
        ratios = [
            [each[steps] / controls[each["run"]][steps] for each in mine]
            for steps in ("steps50", "steps95")
        ]
        cost = fmean(each["seconds"] / each["seconds_before"] for each in mine)
        yield [
            way.name,
            len(mine),
            f"{100 * max(removed):.2f}",
            f"{100 * min(kept):.2f}",
            *map(interval, ratios),
            f"{100 * max(probes):+.1f}",
            "–" if way.noise is None and way.error else f"{cost:.1f}",
        ]


def interval(values: list[float]) -> str:
    """Return the mean with its 95 % interval by Student's t."""
    if len(values) < 2:
        return f"{values[0]:.2f}"
    half = t_quantile(len(values) - 1) * stdev(values) / len(values) ** 0.5
    return f"{fmean(values):.2f} ± {half:.2f}"


def main() -> None:
    """Measure what is missing, and print the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("study", type=Path)
    options.add_argument("--seeds", default="0-4")
    options.add_argument("--removed", default="concat", help="the task to remove")
    options.add_argument("--steps", type=int, default=1000, help="largest number of an attack")
    options.add_argument("--ways", type=int, default=len(WAYS), help="the first so many ways")
    options.add_argument("--out", type=Path, required=True, help="directory for what is measured")
    args = options.parse_args()
    args.out.mkdir(parents=True, exist_ok=True)
    found = []
    for seed in parse_numbers("--seeds", args.seeds):
        run = Run.open(args.study / f"seed-{seed}")
        removal = Removal(run, run.grid(), args.removed, args.out, args.steps)
        found += results(removal, WAYS[: args.ways])
    header = ["removed by", "runs", "left %, most", "kept %, least", "steps to 50 % / control's"]
    header += ["steps to 95 % / control's", "best probe above the control's, points", "time"]
    print_table(header, rows(found))


if __name__ == "__main__":
    main()
