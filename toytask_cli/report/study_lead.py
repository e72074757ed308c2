"""The head of a study's page: the verdict, how to make it again, and what it was made with."""

from collections.abc import Iterable, Sequence

from toytask_cli.analysis.quantities import REMOVAL
from toytask_cli.analysis.study_words import Row, support_text
from toytask_cli.report.accuracy import percent
from toytask_cli.report.blocks import Block, Commands, Definitions, Heading, Words
from toytask_cli.report.study_data import StudyData
from toytask_cli.report.study_recipes import by_recipe, glance_blocks, least

AGAIN = (
    "The first command goes on: it trains the runs that are not there. The second makes all of "
    "them again, by the same plan, in a directory of their own."
)


def study_lead(data: StudyData) -> list[Block]:
    """Return the verdict in words, how to make it again, and what it was made with."""
    report, study = data.report, data.shell_path
    tolerances = ", ".join(f"{tolerance:g}" for tolerance in report["tolerances"])
    return [
        *_verdict(data),
        Heading("To make it again"),
        Words(AGAIN),
        Commands(
            [
                f"toytask study {study}",
                f"mkdir again && cp {study}/study.json again && toytask study again",
                f"toytask report {study}",
            ]
        ),
        Heading("Made with"),
        Definitions(
            [
                ("varied", ", ".join(report["varied"]) or "seeds and splits alone"),
                ("precision", report["precision"]),
                ("threads", f"{report['threads']} for each run"),
                ("tolerances", f"{tolerances} nats"),
            ]
        ),
    ]


def _verdict(data: StudyData) -> list[Block]:
    """Return how many runs there are and what they say, in a table if recipes vary."""
    report = data.report
    left = report["n_runs"] - report["n_finished"] - report["n_failed"]
    counts = (
        f"{report['n_finished']:,} of {report['n_runs']:,} runs finished, "
        f"{report['n_failed']:,} failed, {left:,} left."
    )
    recipes = by_recipe(report["summary"])
    if recipes and report["varied"]:
        return [Words(counts, "verdict"), *glance_blocks(data)]
    with_tolerance = len(report["tolerances"]) > 1
    words = [text for rows in recipes for text in _recipe_sentences(rows, with_tolerance)]
    return [Words(sentence, "verdict") for sentence in (counts, *words)]


def _recipe_sentences(rows: Sequence[Row], with_tolerance: bool) -> list[str]:
    """Return the accuracy, what each removal left and kept, and what the runs support."""
    accuracies = [
        f"of {row['quantity'].removeprefix('accuracy.')} is {_mean_and_worst([row])}"
        for row in rows
        if row["quantity"].startswith("accuracy.")
    ]
    mean = f"The mean accuracy {', '.join(accuracies)}."
    return [mean, *_removal_sentences(rows, with_tolerance), f"{support_text(rows)}."]


def _removal_sentences(rows: Sequence[Row], with_tolerance: bool) -> Iterable[str]:
    """Yield a sentence for each task that is removed at each tolerance."""
    removals: dict[tuple[str, str], dict[str, list[Row]]] = {}
    for row in rows:
        if match := REMOVAL.fullmatch(row["quantity"]):
            task, tolerance, error, _, _ = match.groups()
            removals.setdefault((task, tolerance), {}).setdefault(error, []).append(row)
    for (task, tolerance), by_error in removals.items():
        at = f" at {tolerance} nats" if with_tolerance else ""
        left, *kept = _left_and_kept(by_error["keep"])
        text = f"With {task} removed{at}, {task} is {left} right"
        if kept:
            text += f", {_who_keeps(by_error['keep'])} {kept[0]} of its accuracy"
        dropped = " and ".join(_left_and_kept(by_error["drop"]))
        yield f"{text}; with the SAE's error dropped too, {dropped}."


def _left_and_kept(rows: Sequence[Row]) -> list[str]:
    """Return what is left of the removed task, and the least that another task keeps, if any."""
    left = [row for row in rows if row["quantity"].endswith(".left")]
    kept = [row for row in rows if row not in left]
    return [_mean_and_worst(group) for group in (left, kept) if group]


def _who_keeps(rows: Sequence[Row]) -> str:
    kept = [match[5] for row in rows if (match := REMOVAL.fullmatch(row["quantity"])) and match[5]]
    return f"{kept[0]} keeps" if len(kept) == 1 else "every other task keeps at least"


def _mean_and_worst(rows: Sequence[Row]) -> str:
    mean, worst = least(rows)
    return f"{percent(mean)} (worst {percent(worst)})"
