"""The progress of an attack on stderr, and its report in tables."""

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING

from toytask_cli.cli.common import Report
from toytask_cli.cli.console import err, print_message, print_result, print_table

if TYPE_CHECKING:
    from rich.status import Status

AS_WELL = 0.005  # a control may know a kept task so much less well than the run
AS_HARD = 0.9  # robustness from which on relearning is called as hard as for the control


class StoppedError(Exception):
    """A signal asked the attack to stop."""


class AttackProgress:
    """The piece of work that an attack is at; a context manager.

    Args:
        stop: says whether the attack is to stop.
    """

    def __init__(self, stop: Callable[[], bool]):
        from toytask_cli.cli.train_display import wants_live

        self.stop = stop
        self.work = ""
        self.status: Status | None = err().status("") if wants_live() else None

    def __enter__(self) -> "AttackProgress":
        if self.status:
            self.status.start()
        return self

    def __exit__(self, *_: object) -> None:
        if self.status:
            self.status.stop()

    def begin(self, work: str) -> None:
        """Show what is done next."""
        self.work = work
        if self.status:
            self.status.update(work)
        else:
            print_message(work)

    def step(self, step: int) -> None:
        """Show how far the present fine-tuning is.

        Raises:
            StoppedError: it is to stop.
        """
        if self.stop():
            raise StoppedError
        if self.status:
            self.status.update(f"{self.work}: step {step}")


def print_attack(report: Report) -> None:
    """Print the whole report on stdout."""
    _print_accuracy(report)
    _print_probes(report["probes"])
    _print_relearning(report)
    _print_from_examples(report["from_examples"])
    print_result(_in_words(report))


def _print_accuracy(report: Report) -> None:
    names = {"mask_lifted": "mask lifted", "mask_held": "mask in place"}
    if report["ablation"] is None:
        names = {"mask_lifted": "run (it has no mask to lift)"}
    rows = [[label, *_percents(report[key].values())] for key, label in names.items()]
    rows.append(["control", *_percents(report["control_accuracy"].values())])
    tasks = (
        f"{task} (removed)" if task in report["removed_tasks"] else task
        for task in report["mask_lifted"]
    )
    print_table(["accuracy in %", *tasks], rows)
    for task in report["kept_tasks"]:
        run, control = report["mask_held"][task], report["control_accuracy"][task]
        if control < run - AS_WELL:
            print_result(
                f"the control knows {task} less well than the run, so that robustness says less: "
                "name another --control",
                style="yellow",
            )


def _percents(shares: Iterable[float]) -> list[str]:
    return [f"{100 * share:.2f}" for share in shares]


def _print_probes(probes: dict[str, dict[str, float]]) -> None:
    rows = []
    for block, share in probes.items():
        above = 100 * (share["run"] - share["control"])
        rows.append([block, *_percents(share.values()), f"{above:+.2f}"])
    header = ["first token by a probe on, in %", *next(iter(probes.values())), "run - control"]
    print_table(header, rows)


def _print_relearning(report: Report) -> None:
    rows = []
    for name, fastest in report["relearning"].items():
        steps = [_steps(fastest[key], report) for key in ("steps50", "steps95")]
        rows.append([name, *steps, f"{fastest['rate']:g}", fastest["data"]])
    shares = ["-" if r is None else f"{r:.2f}" for r in report["robustness"].values()]
    rows.append(["robustness", *shares])
    headings = ["steps of fine-tuning until", "50 %", "95 %", "rate", "on"]
    print_table(headings, rows)


def _steps(steps: int | None, report: Report) -> str:
    return f"not in {report['limit']:,}" if steps is None else f"{steps:,}"


def _print_from_examples(rows: list[dict[str, float]]) -> None:
    if rows:
        cells = ([f"{r['n']:,}", *_percents([r["run"], r["control"]])] for r in rows)
        print_table(["accuracy in % after relearning from n", "run", "control"], cells)


def _in_words(report: Report) -> str:
    """Return what the steps to 95 % say of the removal."""
    removed, limit = ", ".join(report["removed_tasks"]), report["limit"]
    run, control = (report["relearning"][name]["steps95"] for name in ("run", "control"))
    back = f"{removed} is at 95 % of what it was after {_count(run, limit)}"
    never = f"a model that was never taught it after {_count(control, limit)}"
    ratio = report["robustness"]["95"]
    if ratio is None:
        return f"{back}, {never}"
    verdict = "as hard to relearn as to learn" if ratio >= AS_HARD else "suppressed, not gone"
    return f"{back}, {never} (robustness {ratio:.2f}): {verdict}"


def _count(steps: int | None, limit: int) -> str:
    if steps is None:
        return f"more than {limit:,} steps"
    return f"{steps:,} step{'' if steps == 1 else 's'}"
