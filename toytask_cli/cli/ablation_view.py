"""How an ablation's report looks: accuracy before and after, in words, and over tolerances."""

from itertools import compress
from typing import Any

from toytask_cli.analysis.ablation_report import left_and_kept, measured_on
from toytask_cli.cli.console import interval, out, percent, plain_table, said, say

GONE = 0.01  # a task that keeps less than this share of its accuracy is called gone
HURT = 0.95  # and one that keeps less than this share is called damaged
CURVE_LINES, BAR = 10, 12
ROOM, SHARE = 59, len(percent(1))  # columns of the curve beside its shares, and of a share
WHEN = ("before", "after")


def print_ablation(report: dict[str, Any]) -> None:
    """The whole report on stdout."""
    say(_what_was_done(report))
    if report["chosen_by"] == "automatic" and report["automatic_tolerance"] is None:
        say("no tolerance keeps enough of every kept task on validation: this is the smallest one")
    _print_accuracy(report)
    say(_in_words(report))
    _print_instead(report)
    if report["curve"]:
        _print_curve(report)


def _what_was_done(report: dict[str, Any]) -> str:
    n, error = len(report["neurons"]), f"error {report['error']}"
    where = measured_on(report)
    if report["chosen_by"] == "given":
        return f"{n} neurons removed (a given set, {error}), measured on {where}"
    return (
        f"{n} of {report['n_live']} live neurons removed (tolerance {report['tolerance']:g} nats, "
        f"{error}), chosen on validation, measured on {where}"
    )


def _print_accuracy(report: dict[str, Any]) -> None:
    table = plain_table("accuracy in %", "before", "after", "random neurons")
    test = report["test"]
    for task in test["before"]:
        control = test["random_control"][task]
        removed = " (removed)" if task in report["removed_tasks"] else ""
        table.add_row(
            f"{task}{removed}",
            *(_range(test[when][task]["accuracy"], *test[when][task]["ci95"]) for when in WHEN),
            _range(control["mean"], control["min"], control["max"]),
        )
    out().print(table)
    shared = (
        "" if report["overlap"] is None else f", {100 * report['overlap']:.0f} % of them chosen"
    )
    draws = max(len(control["draws"]) for control in test["random_control"].values())
    out().print(
        "before and after with 95 % intervals; random: as many live neurons of like density"
        f"{shared}, mean and range of {draws} draws",
        style="dim",
    )
    if test["reconstructed"]:
        dropped = (f"{t} {percent(a['accuracy'])}" for t, a in test["reconstructed"].items())
        out().print(f"with the error dropped and no neuron removed: {', '.join(dropped)}")


def _range(middle: float, low: float, high: float) -> str:
    """Three shares in percent: 99.94, and 99.82–99.98 below it."""
    return f"{100 * middle:.2f}\n{100 * low:.2f}–{100 * high:.2f}"


def _in_words(report: dict[str, Any]) -> str:
    """`concat is gone (0.0 % right, 95 % interval 0.00 to 0.08), sum keeps 99.8 % of ...`."""
    test = report["test"]
    removed = (
        f"{task} {_fate(test, task)} ({100 * test['after'][task]['accuracy']:.1f} % right, "
        f"95 % interval {interval(test['after'][task]['ci95'])})"
        for task in report["removed_tasks"]
    )
    return ", ".join([*removed, *(_what_is_kept(test, task) for task in report["kept_tasks"])])


def _fate(test: dict[str, Any], task: str) -> str:
    share = _share_left(test, task)
    if share is None:
        return "had nothing to lose"
    if share < GONE:
        return "is gone"
    return "is damaged" if share < HURT else "is still there"


def _what_is_kept(test: dict[str, Any], task: str) -> str:
    share = _share_left(test, task)
    if share is None:
        return f"{task} had nothing to keep"
    return f"{task} keeps {100 * share:.1f} % of what it had"


def _share_left(test: dict[str, Any], task: str) -> float | None:
    """Accuracy after over accuracy before; None where there was none."""
    before, after = (test[when][task]["accuracy"] for when in WHEN)
    return after / before if before else None


def _print_instead(report: dict[str, Any]) -> None:
    found = {task: one for task, one in report["wrong_answers"].items() if one["n_sampled"]}
    if not found:
        return
    kinds = next(iter(found.values()))["error_types"]
    table = plain_table("where wrong, it says", *found)
    for kind in kinds:
        counts = [(one["error_types"][kind], one["n_sampled"]) for one in found.values()]
        if any(count for count, _ in counts):
            table.add_row(kind.replace("_", " "), *(f"{100 * c / n:.0f} %" for c, n in counts))
    examples = (one["examples"][0] for one in found.values())
    table.add_row("such as", *(f"{e['prompt']} → {said(e)}" for e in examples))
    out().print(table)


def _print_curve(report: dict[str, Any]) -> None:
    """Some points of the curve, on test, with bars where the terminal has room for them."""
    from rich.text import Text

    removed, kept = report["removed_tasks"], report["kept_tasks"]
    left_of = f"{removed[0]} left" if len(removed) == 1 else "most left"
    heads = ["tolerance", "neurons", left_of, "", "kept" if len(kept) == 1 else "least kept", ""]
    has_room = out().width >= ROOM + sum(max(len(head), SHARE) for head in heads[2::2])
    shown = [bool(head) or has_room for head in heads]
    table = plain_table(*compress(heads, shown))
    for column in table.columns:
        column.justify = column.justify if column.header else "left"
    curve = report["curve"]
    lines = min(CURVE_LINES, len(curve))
    for place in sorted({round(i * (len(curve) - 1) / max(1, lines - 1)) for i in range(lines)}):
        point = curve[place]
        left, stays = left_and_kept(report, "test", point["test"])
        cells: list[str | Text] = [
            f"{point['tolerance']:.15g}", str(point["n_neurons"]),
            percent(left), Text(_bar(left), "red"), percent(stays), Text(_bar(stays), "green"),
        ]  # fmt: skip
        table.add_row(*compress(cells, shown))
    out().print(table)


def _bar(share: float) -> str:
    """A bar of up to `BAR` cells for a share of 0 to 1, filled up with blanks."""
    return ("█" * round(min(share, 1) * BAR)).ljust(BAR)
