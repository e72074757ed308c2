"""Print the report of an ablation: accuracy before and after, in words, and over tolerances."""

from itertools import compress
from typing import TYPE_CHECKING

from toytask_cli.analysis.ablation_report import (
    effect_in_words,
    left_and_kept,
    removal_in_words,
)
from toytask_cli.cli.common import Report
from toytask_cli.cli.console import (
    out,
    percent,
    prediction_text,
    print_result,
    print_table,
    task_texts,
)

if TYPE_CHECKING:
    from rich.text import Text

CURVE_LINES = 10
BAR_WIDTH = 12
# Terminal columns of the curve's table without its headings of accuracy, and of a share.
CURVE_WIDTH, SHARE_WIDTH = 59, len(percent(1))
WHEN = ("before", "after")


def print_ablation(report: Report) -> None:
    """Print the whole report on stdout."""
    print_result(removal_in_words(report))
    if report["chosen_by"] == "automatic" and report["automatic_tolerance"] is None:
        print_result(
            "no tolerance keeps enough of every kept task on validation: this is the smallest one"
        )
    _print_accuracy(report)
    print_result(effect_in_words(report))
    _print_error_types(report)
    if report["curve"]:
        _print_curve(report)


def _print_accuracy(report: Report) -> None:
    rows: list[list[str | Text]] = []
    test = report["test"]
    for name, task in zip(task_texts(test["before"]), test["before"], strict=True):
        if task in report["removed_tasks"]:
            name.append(" (removed)")
        control = test["random_control"][task]
        ranges = [(test[when][task]["accuracy"], *test[when][task]["ci95"]) for when in WHEN]
        ranges.append((control["mean"], control["min"], control["max"]))
        rows.append([name, *(_with_range(*three) for three in ranges)])
    print_table(["accuracy in %", "before", "after", "random neurons"], rows)
    shared = (
        "" if report["overlap"] is None else f", {100 * report['overlap']:.0f} % of them chosen"
    )
    draws = max(len(control["draws"]) for control in test["random_control"].values())
    print_result(
        "before and after with 95 % intervals; random: as many live neurons of like density"
        f"{shared}, mean and range of {draws} draws",
        style="dim",
    )
    if test["reconstructed"]:
        shares = (f"{t} {percent(a['accuracy'])}" for t, a in test["reconstructed"].items())
        print_result(f"with the error dropped and no neuron removed: {', '.join(shares)}")


def _with_range(middle: float, low: float, high: float) -> str:
    """Format three shares in percent: 99.94, and 99.82–99.98 below it."""
    return f"{100 * middle:.2f}\n{100 * low:.2f}–{100 * high:.2f}"


def _print_error_types(report: Report) -> None:
    """Print how wrong answers are wrong, by task, and one example of each task."""
    samples = {task: s for task, s in report["wrong_answers"].items() if s["n_sampled"]}
    if not samples:
        return
    rows = []
    for kind in next(iter(samples.values()))["error_types"]:
        shares = [s["error_types"][kind] / s["n_sampled"] for s in samples.values()]
        if any(shares):
            rows.append([kind.replace("_", " "), *(f"{100 * share:.0f} %" for share in shares)])
    examples = (sample["examples"][0] for sample in samples.values())
    rows.append(["example", *(f"{e['prompt']} → {prediction_text(e)}" for e in examples)])
    print_table(["wrong answers after", *samples], rows)


def _print_curve(report: Report) -> None:
    """Print some points of the test curve, with bars where the terminal is wide enough."""
    from rich.text import Text

    is_one = len(report["removed_tasks"]) == 1
    left_heading = f"{report['removed_task']} left" if is_one else "most left"
    kept_heading = "kept" if len(report["kept_tasks"]) == 1 else "least kept"
    headings = ["tolerance", "neurons", left_heading, "", kept_heading, ""]
    width = CURVE_WIDTH + sum(max(len(h), SHARE_WIDTH) for h in (left_heading, kept_heading))
    shown = [bool(heading) or out().width >= width for heading in headings]
    colours = {name.plain: name.style for name in task_texts(report["test"]["before"])}
    of_left, of_kept = (colours[report[key][0]] for key in ("removed_tasks", "kept_tasks"))
    rows = []
    for point in _spaced(report["curve"], CURVE_LINES):
        left, kept = left_and_kept(report, "test", point["test"])
        cells: list[str | Text] = [
            f"{point['tolerance']:.15g}", str(point["n_neurons"]),
            percent(left), Text(_bar(left), of_left), percent(kept), Text(_bar(kept), of_kept),
        ]  # fmt: skip
        rows.append(compress(cells, shown))
    print_table(compress(headings, shown), rows)


def _spaced(points: list[Report], n: int) -> list[Report]:
    """Return up to n of the points, evenly spaced from the first to the last."""
    n = min(n, len(points))
    last = len(points) - 1
    return [points[i] for i in sorted({round(j * last / max(1, n - 1)) for j in range(n)})]


def _bar(share: float) -> str:
    """Return a bar of up to `BAR_WIDTH` cells for a share of 0 to 1, padded with blanks."""
    return ("█" * round(min(share, 1) * BAR_WIDTH)).ljust(BAR_WIDTH)
