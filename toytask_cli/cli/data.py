"""`toytask data`: the examples, their tokens, and the split."""

from dataclasses import fields
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.common import Report, show_report, tokens_of
from toytask_cli.cli.console import print_json, print_result, print_table
from toytask_cli.cli.options import JsonOption, with_fields_of
from toytask_cli.errors import UsageError
from toytask_cli.recipe import DataSpec, option_of

if TYPE_CHECKING:
    from rich.text import Text

    from toytask_cli.dataset import Grid
    from toytask_cli.prompts import Prompt

SAMPLES_PER_TASK = 4
TOKEN_COLOURS = ("cyan", "magenta", "yellow", "green")


@with_fields_of(DataSpec)
def data(
    prompt: Annotated[
        str | None, typer.Argument(help='Show one prompt, such as "12C34".', show_default=False)
    ] = None,
    out_dir: Annotated[
        Path | None, typer.Option("--out", help="Write tokens and a manifest to this directory.")
    ] = None,
    seed: Annotated[int, typer.Option(min=0, help="Seed of the split and the samples.")] = 0,
    json: JsonOption = False,
    *,
    overrides: dict[str, Any],
) -> None:
    """Show the examples, their tokens and the split; write them with --out.

    Example: toytask data "12C34"
    """
    from toytask_cli.dataset import build_grid
    from toytask_cli.prompts import parse_prompt
    from toytask_cli.runs.data_files import manifest, write_data

    if prompt is not None and out_dir is not None:
        raise UsageError("give either a prompt or --out, not both")
    spec = DataSpec(**{"split_seed": seed, **overrides})
    grid = build_grid(spec)
    if prompt is not None:
        example = _describe(grid, parse_prompt(prompt, grid.tasks, spec.digits))
        print_json(example) if json else _print_example(example)
        return
    report = write_data(grid, out_dir) if out_dir else manifest(grid)
    show_report(
        report,
        json,
        partial(_print_report, grid=grid, seed=seed),
        written=None if out_dir is None else str(out_dir),
        next_command=("train", *(["--data", out_dir] if out_dir else _as_options(spec))),
    )


def _as_options(spec: DataSpec) -> list[str]:
    """Return the options that ask for the same data again, defaults left out."""
    options = []
    for f in fields(spec):
        value = getattr(spec, f.name)
        if value != f.default:
            options += [option_of(f.name), ",".join(value) if type(value) is tuple else str(value)]
    return options


def _describe(grid: "Grid", prompt: "Prompt") -> Report:
    """Return a prompt, its answer, the tokens of both, and its split."""
    texts = {"prompt": prompt.text, "answer": prompt.target}
    return {
        **texts,
        "task": prompt.task.name,
        "split": grid.split_of(*prompt),
        "merged_tokens": bool(grid.merged_tokens()[grid.index_of(*prompt)]),
        "tokens": {kind: tokens_of(grid, text) for kind, text in texts.items()},
        "ids": {kind: grid.tokenizer.encode(text) for kind, text in texts.items()},
    }


def _print_example(example: Report) -> None:
    rows = (
        [kind, example[kind], _coloured(example["tokens"][kind]), " ".join(map(str, ids))]
        for kind, ids in example["ids"].items()
    )
    print_table(["", "text", "tokens", "ids"], rows)
    print_result(f"task {example['task']}, {example['split']} split")
    if example["merged_tokens"]:
        print_result("digits of both numbers merge into one token of the answer")


def _print_report(report: Report, grid: "Grid", seed: int) -> None:
    _print_counts(grid, report)
    _print_samples(grid, seed)


def _print_counts(grid: "Grid", report: Report) -> None:
    headings = ["task", "symbol", "train", "validation", "test", "merged answers"]
    rows = []
    for task in grid.tasks:
        counts = (f"{n:,}" for n in report["counts"][task.name].values())
        merged = f"{report['merged_answers'][task.name]:,} of {grid.n_pairs:,}"
        rows.append([task.name, task.symbol, *counts, merged])
    print_table(headings, rows)
    print_result(
        f"vocabulary of {len(grid.tokenizer)} tokens, split by {grid.spec.split_by}, "
        f"split seed {grid.spec.split_seed}"
    )


def _print_samples(grid: "Grid", seed: int) -> None:
    import torch

    from toytask_cli.rng import generator

    draw = generator(seed, "samples")
    rows = []
    for task in grid.tasks:
        pairs = torch.randint(grid.n_pairs, (SAMPLES_PER_TASK,), generator=draw)
        for a, b in zip(*(operand.tolist() for operand in grid.operands(pairs)), strict=True):
            cells: list[str | Text] = []
            for text in (task.prompt(a, b), task.answer(a, b)):
                cells += [text, _coloured(tokens_of(grid, text))]
            rows.append([*cells, grid.split_of(task, a, b)])
    headings = ["prompt", "prompt tokens", "answer", "answer tokens", "split"]
    print_table(headings, rows)


def _coloured(tokens: list[str]) -> "Text":
    """Return tokens side by side, each in another colour than its neighbours."""
    from rich.text import Text

    text = Text()
    for number, token in enumerate(tokens):
        text.append(" " if number else "")
        text.append(token, style=TOKEN_COLOURS[number % len(TOKEN_COLOURS)])
    return text
