"""The head of a run's page: the verdict, how to make it again, and what made it."""

import shlex
from dataclasses import fields
from typing import Any

from toytask_cli.analysis.ablation_report import effect_in_words
from toytask_cli.recipe import Recipe, option_of, resolve
from toytask_cli.report.accuracy import percent
from toytask_cli.report.blocks import Block, Commands, Definitions, Heading, Words
from toytask_cli.report.run_data import RunData
from toytask_cli.runs.config import Config


def lead(data: RunData) -> list[Block]:
    """Return the verdict in words, how to make it again, and what made it."""
    return [
        *(Words(sentence, "verdict") for sentence in _verdict(data)),
        Heading("To make it again"),
        Commands(_commands(data)),
        Heading("Made with"),
        Definitions(_machine(data)),
    ]


def _verdict(data: RunData) -> list[str]:
    """Return the accuracy, and what each removal lost and kept, a sentence each."""
    sentences = []
    measured = data.reports.get("eval") or data.train
    if measured is None:
        sentences.append("This run has not been trained to its end.")
    else:
        with data.reading_report("eval" if "eval" in data.reports else "train"):
            shares = [
                f"{percent(t['accuracy'])} of {name}" for name, t in measured["tasks"].items()
            ]
            sentences.append(
                f"The model gets {', '.join(shares)} right on the {measured['split']} split."
            )
    for name, report in data.ablations.items():
        with data.reading_ablation(name):
            removed = f"With {len(report['neurons']):,} neurons removed"
            sentences.append(f"{removed}, {effect_in_words(report)}.")
    if teacher := data.config.teacher:
        removed = ", ".join(teacher.removed_tasks)
        sentences.append(f"It was taught what {teacher.run} writes with {removed} removed.")
    elif not data.ablations:
        sentences.append("No task has been removed yet.")
    return sentences


def _commands(data: RunData) -> list[str]:
    run, machine = data.shell_path, data.config.machine
    settings = ["--device", str(machine.get("device")), "--precision", data.config.precision]
    threads = f"OMP_NUM_THREADS={shlex.quote(str(machine.get('threads')))}"
    train = shlex.join(["toytask", *_training_words(data.config), *settings])
    is_control = data.config.taught is not None  # `attack` has trained it, within another run
    return [
        *([] if is_control else [f"{threads} {train} --out {run}"]),
        *(f"toytask {name} {run}" for name in data.reports),
        *(ablate_command(data, name) for name in data.ablations),
        f"toytask report {run}",
    ]


def _training_words(config: Config) -> list[str]:
    """Return the command that trained the run, with the options that decide its weights."""
    recipe, teacher = config.recipe, config.teacher
    if teacher is None:
        told = train_options(recipe).items()
        options = ((option_of(name), _option_value(value)) for name, value in told)
        return ["train", *(word for option in options for word in option)]
    words = ["distill", teacher.run, "--ablation", teacher.ablation, "--noise", str(teacher.noise)]
    words += ["--distribution"] if teacher.distribution else []
    return [*words, "--seed", str(recipe.seed), "--epochs", str(recipe.epochs)]


def train_options(recipe: Recipe) -> dict[str, Any]:
    """Return the fields that `toytask train` has to be told."""
    values = {f.name: getattr(recipe, f.name) for f in fields(recipe)}
    told = {f.name: values[f.name] for f in fields(recipe) if values[f.name] != f.default}
    resolved = resolve("default", told)
    return told | {k: v for k, v in values.items() if v != getattr(resolved, k)}


def _option_value(value: Any) -> str:
    return ",".join(value) if isinstance(value, tuple) else str(value)


def ablate_command(data: RunData, name: str) -> str:
    """Return the command that makes an ablation again."""
    with data.reading_ablation(name):
        report = data.ablations[name]
        words = [word for task in report["removed_tasks"] for word in ("--remove", task)]
        if report["chosen_by"] == "given":
            words += ["--neurons", ",".join(map(str, report["neurons"]))]
        elif report["chosen_by"] == "tolerance":
            words += ["--tolerance", f"{report['tolerance']:g}"]
        words += ["--error", report["error"], "--seed", str(report["seed"]), "--name", name]
        return f"toytask ablate {data.shell_path} {shlex.join(words)}"


def _machine(data: RunData) -> list[tuple[str, str]]:
    rows = [("weights, sha256", data.weights_sha256), ("precision", data.config.precision)]
    rows += [(str(key), str(value)) for key, value in data.config.machine.items()]
    if data.train is None:
        return rows
    with data.reading_report("train"):
        epochs, seconds = data.train["epochs"], data.train["seconds"]
        return [*rows, ("training", f"{epochs:,} epochs in {seconds:,.0f} s")]
