"""The page of a run: which sections it has, and what it says where something was not measured."""

from collections.abc import Callable

from toytask_cli.report.accuracy import accuracy_blocks, training_blocks
from toytask_cli.report.blocks import (
    Block,
    Definitions,
    Heading,
    Page,
    Section,
    Words,
    missing_blocks,
    with_command,
)
from toytask_cli.report.lead import ablate_command, lead
from toytask_cli.report.neurons import importance_blocks, sparsity_blocks
from toytask_cli.report.removals import attack_blocks, prompt_blocks, removal_blocks
from toytask_cli.report.run_data import Report, RunData
from toytask_cli.report.sprite import ACROSS, TILE, draw_sprite

MEANINGS = {
    "eval": "accuracy in slices, wrong answers",
    "sparsity": "sparsity",
    "importance": "the importance of neurons",
}


def run_page(data: RunData) -> Page:
    """Return the page of a run.

    Raises:
        ToytaskError: a file holds values that its command would not write.
    """
    maps = _maps(data)
    return Page(
        title=f"{', '.join(data.tasks)}: {data.path}",
        lead=lead(data),
        sections=[
            Section("accuracy", "Accuracy and training", _accuracy(data)),
            Section("neurons", "Sparsity and neurons", _neurons(data)),
            Section("removals", "Removals", _removals(data)),
            Section("prompts", "Prompts before and after", _prompts(data)),
            Section("definitions", "Definitions", _definitions(data)),
            Section("missing", "Not measured yet", missing_blocks(not_measured(data))),
        ],
        sprite=maps,
        tile_size=TILE,
        tiles_across=ACROSS,
    )


def not_measured(data: RunData) -> list[tuple[str, str]]:
    """Return what has not been measured yet, each with the command that does."""
    run = data.shell_path
    commands = [] if data.train else [("training to its end", f"toytask train --resume {run}")]
    commands += [
        (what, f"toytask {name} {run}")
        for name, what in MEANINGS.items()
        if name not in data.reports
    ]
    removed = set()
    for name, report in data.ablations.items():
        with data.reading_ablation(name):
            removed.update(report["removed_tasks"])
    commands += [
        (f"the removal of {task}", f"toytask ablate {run} --remove {task}")
        for task in data.tasks
        if task not in removed
    ]
    commands += [
        (f"prompts before and after {name}", ablate_command(data, name))
        for name, report in data.ablations.items()
        if "prompts" not in report
    ]
    attacked = [report.get("ablation") for report in data.attacks]
    return commands + [
        (f"an attack on {name}", f"toytask attack {run} --ablation {name}")
        for name in data.ablations
        if name not in attacked
    ]


def _maps(data: RunData) -> bytes:
    if "map_levels" not in data.tensors:
        return b""
    with data.reading_report("importance"):
        return draw_sprite(data.tensors["map_levels"])


def _accuracy(data: RunData) -> list[Block]:
    blocks = _measured(data, "eval", accuracy_blocks)
    if not data.metrics:
        return blocks
    with data.reading_metrics():
        return [*blocks, Heading("Training"), *training_blocks(data.metrics, data.tasks)]


def _neurons(data: RunData) -> list[Block]:
    def importance(report: Report) -> list[Block]:
        return importance_blocks(report, data.tensors, data.tasks)

    return [
        *_measured(data, "sparsity", sparsity_blocks),
        Heading("Importance"),
        *_measured(data, "importance", importance),
    ]


def _measured(data: RunData, name: str, blocks: Callable[[Report], list[Block]]) -> list[Block]:
    """Return the blocks of a report, or the command that measures it."""
    if name not in data.reports:
        return with_command(
            f"Not measured yet: {MEANINGS[name]}.", f"toytask {name} {data.shell_path}"
        )
    with data.reading_report(name):
        return blocks(data.reports[name])


def _removals(data: RunData) -> list[Block]:
    blocks: list[Block] = []
    for name, report in data.ablations.items():
        with data.reading_ablation(name):
            blocks += [Heading(name), *removal_blocks(report, data.tasks)]
        for attack in (each for each in data.attacks if each.get("ablation") == name):
            with data.reading_report(f"attack-{name}"):
                blocks += [Heading(f"Attack on {name}"), *attack_blocks(attack)]
    for attack in (each for each in data.attacks if each.get("ablation") is None):
        with data.reading_report("attack"):
            blocks += [Heading("Attack on the run as it is"), *attack_blocks(attack)]
    return blocks or with_command(
        "Nothing is removed yet.", f"toytask ablate {data.shell_path} --remove {data.tasks[-1]}"
    )


def _prompts(data: RunData) -> list[Block]:
    blocks: list[Block] = []
    for name, report in data.ablations.items():
        blocks.append(Heading(name))
        if "prompts" not in report:
            blocks += with_command("Not measured yet.", ablate_command(data, name))
            continue
        with data.reading_ablation(name):
            blocks += prompt_blocks(report["prompts"])
    return blocks or [Words("Nothing is removed yet.", "note")]


def _definitions(data: RunData) -> list[Block]:
    """Return the definitions of each report, those of all ablations together."""
    reports = {"train": data.train or {}, **data.reports}
    for command, measured in (("ablate", [*data.ablations.values()]), ("attack", data.attacks)):
        if measured:
            reports[command] = measured[0]
    blocks: list[Block] = []
    for name, report in reports.items():
        definitions = report.get("definitions")
        if isinstance(definitions, dict):
            entries = [(str(term), str(meaning)) for term, meaning in definitions.items()]
            blocks += [Heading(name), Definitions(entries)]
    return blocks
