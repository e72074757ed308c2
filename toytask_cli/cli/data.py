"""`toytask data`: the examples, their tokens, and who sees which of them."""

from dataclasses import fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from toytask_cli.cli.console import err, out, plain_table, print_json, say_next
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
    given: dict[str, Any],
) -> None:
    """Show the examples, their tokens and the split; write them with --out.

    Example: toytask data "12C34"
    """
    from toytask_cli.dataset import build_grid
    from toytask_cli.prompts import parse_prompt
    from toytask_cli.runs.data_files import manifest, write_data

    if prompt is not None and out_dir is not None:
        raise UsageError("give either a prompt or --out, not both")
    spec = DataSpec(**{"split_seed": seed, **given})
    grid = build_grid(spec)
    if prompt is not None:
        shown = parse_prompt(prompt, grid.tasks, spec.digits)
        print_json(_describe(grid, shown)) if json else _print_prompt(grid, shown)
        return
    report = write_data(grid, out_dir) if out_dir else manifest(grid)
    if json:
        print_json(report)
        return
    _print_counts(grid, report)
    _print_samples(grid, seed)
    if out_dir:
        err().print(f"wrote {out_dir}", soft_wrap=True)
    say_next("train", *(["--data", out_dir] if out_dir else _as_options(spec)))


def _as_options(spec: DataSpec) -> list[str]:
    """What asks for the same data again: the fields that differ from the default."""
    found = {
        option_of(f.name): getattr(spec, f.name)
        for f in fields(spec)
        if getattr(spec, f.name) != f.default
    }
    return [
        part
        for option, value in found.items()
        for part in (option, ",".join(value) if isinstance(value, tuple) else str(value))
    ]


def _describe(grid: "Grid", prompt: "Prompt") -> dict[str, Any]:
    """One prompt: its tokens, its answer's tokens, and the part it is in."""
    ids = {
        "prompt": grid.tokenizer.encode(prompt.text),
        "answer": grid.tokenizer.encode(prompt.target),
    }
    return {
        "prompt": prompt.text,
        "answer": prompt.target,
        "task": prompt.task.name,
        "split": grid.split_of(*prompt),
        "merged_tokens": bool(grid.merged_tokens()[grid.index_of(*prompt)]),
        "tokens": {k: [grid.tokenizer.tokens[i] for i in row] for k, row in ids.items()},
        "ids": ids,
    }


def _print_prompt(grid: "Grid", prompt: "Prompt") -> None:
    shown = _describe(grid, prompt)
    table = plain_table("", "text", "tokens", "ids")
    for kind in ("prompt", "answer"):
        ids = " ".join(str(i) for i in shown["ids"][kind])
        table.add_row(kind, shown[kind], _coloured(shown["tokens"][kind]), ids)
    out().print(table)
    out().print(f"task {shown['task']}, {shown['split']} split")
    if shown["merged_tokens"]:
        out().print("digits of both numbers merge into one token of the answer")


def _print_counts(grid: "Grid", report: dict[str, Any]) -> None:
    table = plain_table("task", "symbol", "train", "validation", "test", "merged answers")
    for task in grid.tasks:
        parts = (f"{n:,}" for n in report["counts"][task.name].values())
        merged_tokens = f"{report['merged_answers'][task.name]:,} of {grid.n_pairs:,}"
        table.add_row(task.name, task.symbol, *parts, merged_tokens)
    out().print(table)
    out().print(
        f"vocabulary of {len(grid.tokenizer)} tokens, split by {grid.spec.split_by}, "
        f"split seed {grid.spec.split_seed}"
    )


def _print_samples(grid: "Grid", seed: int) -> None:
    import torch

    from toytask_cli.rng import generator

    draw = generator(seed, "samples")
    table = plain_table("prompt", "prompt tokens", "answer", "answer tokens", "split")
    for task in grid.tasks:
        pairs = torch.randint(grid.n_pairs, (SAMPLES_PER_TASK,), generator=draw)
        for a, b in zip(*(operand.tolist() for operand in grid.operands(pairs)), strict=True):
            texts = task.prompt(a, b), task.answer(a, b)
            tokens = [
                _coloured([grid.tokenizer.tokens[i] for i in grid.tokenizer.encode(text)])
                for text in texts
            ]
            table.add_row(texts[0], tokens[0], texts[1], tokens[1], grid.split_of(task, a, b))
    out().print(table)


def _coloured(tokens: list[str]) -> "Text":
    """Tokens side by side, each in another colour than its neighbours."""
    from rich.text import Text

    text = Text()
    for number, token in enumerate(tokens):
        text.append(" " if number else "")
        text.append(token, style=TOKEN_COLOURS[number % len(TOKEN_COLOURS)])
    return text
