"""`toytask sparsity`: how few neurons fire, for which tasks, and the activations for a prompt."""

from collections.abc import Mapping
from dataclasses import asdict
from functools import partial
from typing import TYPE_CHECKING, Annotated

import typer

from toytask_cli.cli.attention import (
    ATTENTION,
    attention_patterns,
    attention_view,
    describe_attention,
)
from toytask_cli.cli.common import (
    Report,
    keep_report,
    open_run,
    show_kept,
    tokens_of,
    write_figures,
)
from toytask_cli.cli.completion import one_of
from toytask_cli.cli.neuron_view import neuron_view
from toytask_cli.cli.options import DeviceOption, FiguresOption, JsonOption, RunArgument
from toytask_cli.cli.sparsity_view import activation_view, print_sparsity
from toytask_cli.errors import unknown_choice

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from rich.console import RenderableType

    from toytask_cli.analysis.neurons import PromptActivations
    from toytask_cli.analysis.sparsity import SparsityTensors
    from toytask_cli.dataset import Grid
    from toytask_cli.figures.data import AttentionPattern
    from toytask_cli.model import Transformer
    from toytask_cli.prompts import Prompt


STATES = ("encoder", "decoder", "sae-pre", "sae", "recon")  # blocks beside `ATTENTION`


def sparsity(
    run: RunArgument = None,
    prompt: Annotated[
        str | None,
        typer.Option(help='Show the activations for this prompt. Default: "47+23", or similar.'),
    ] = None,
    block: Annotated[
        str,
        typer.Option(
            help=f"Activations to show for the prompt: {', '.join(STATES[:-1])} or {STATES[-1]}; "
            f"or attention weights: {', '.join(ATTENTION)}.",
            autocompletion=one_of((*STATES, *ATTENTION)),
        ),
    ] = "sae",
    neuron: Annotated[
        int | None,
        typer.Option(min=0, help="Show this neuron too: when it fires, and over both operands."),
    ] = None,
    device: DeviceOption = "auto",
    figures: FiguresOption = True,
    json: JsonOption = False,
) -> None:
    """Measure how sparse the neurons are and how well they reconstruct; show them for a prompt.

    Example: toytask sparsity runs/01 --prompt "47C23" --block sae
    """
    from toytask_cli.analysis.neurons import prompt_activations
    from toytask_cli.analysis.sparsity import measure_sparsity
    from toytask_cli.hooks import HOOK_POINTS, checked_neurons

    if block not in HOOK_POINTS:
        raise unknown_choice("block", block, HOOK_POINTS)
    opened, grid, model = open_run(run, device)
    checked_neurons([] if neuron is None else [neuron], model.sae.d_sae)
    sample_prompt = _parse_prompt(prompt, grid)
    activations = prompt_activations(model, grid, sample_prompt)
    patterns = attention_patterns(
        {name: shown.values for name, shown in activations.items()},
        prompt_tokens=tokens_of(grid, sample_prompt.text),
        answer_tokens=tokens_of(grid, sample_prompt.target)[:-1],
    )
    measured, tensors = measure_sparsity(model, grid, grid.report_split)
    shown, pattern = activations[block], patterns.get(block)
    sample = _describe(grid, sample_prompt, block, shown, pattern)
    of_neuron, neuron_shown = ({}, None) if neuron is None else _neuron(model, grid, neuron)
    values = {**asdict(measured), "sample": sample, **of_neuron}
    kept = keep_report(opened, "sparsity", values, tensors._asdict())
    if pattern is None:
        view = activation_view(shown.positions, shown.values)
    else:
        view = attention_view(pattern)
    print_tables = partial(
        print_sparsity, block=HOOK_POINTS[block].meaning, view=view, last=neuron_shown
    )
    show_kept(kept, json, print_tables, ("importance", kept.run.path))
    if figures and not kept.refusal:
        title = f"{sample_prompt.text} → {sample_prompt.target}"
        write_figures(
            kept.run,
            lambda: (
                _prompt_figures(title, activations, patterns) | _figures(grid.task_names, tensors)
            ),
        )


def _parse_prompt(text: str | None, grid: "Grid") -> "Prompt":
    """Return the prompt; by default the first task on 47 and 23, or on their last digits."""
    from toytask_cli.prompts import Prompt, parse_prompt

    if text is not None:
        return parse_prompt(text, grid.tasks, grid.spec.digits)
    size = 10**grid.spec.digits
    return Prompt(grid.tasks[0], 47 % size, 23 % size)


def _describe(
    grid: "Grid",
    prompt: "Prompt",
    block: str,
    shown: "PromptActivations",
    pattern: "AttentionPattern | None",
) -> Report:
    """Return the report on the prompt: its attention weights, or the strongest activations."""
    from toytask_cli.analysis.neurons import summarise_positions

    sample: Report = {
        "prompt": prompt.text,
        "answer": prompt.target,
        "task": prompt.task.name,
        "split": grid.split_of(*prompt),
        "block": block,
    }
    if pattern is not None:
        return sample | describe_attention(pattern)
    return sample | {"positions": [asdict(position) for position in summarise_positions(shown)]}


def _neuron(model: "Transformer", grid: "Grid", neuron: int) -> "tuple[Report, RenderableType]":
    """Return what to report on one neuron, and what to show."""
    from toytask_cli.analysis.atlas import map_neuron
    from toytask_cli.analysis.neurons import neuron_summary, sample_residuals
    from toytask_cli.analysis.operand_maps import at_all_operands

    summary = neuron_summary(model, grid, sample_residuals(model, grid), neuron)
    mapped = map_neuron(at_all_operands(model, grid), neuron)
    described = None if mapped is None else asdict(mapped.described)
    report = {"neuron": {**asdict(summary), "over_operands": described}}
    return report, neuron_view(summary, mapped, importance={})


def _prompt_figures(
    title: str,
    activations: "Mapping[str, PromptActivations]",
    patterns: "Mapping[str, AttentionPattern]",
) -> "dict[str, Figure]":
    """Draw the activations at every hook point, and the attention patterns if there are any."""
    from toytask_cli.figures.attention import draw_attention
    from toytask_cli.figures.data import ActivationMap
    from toytask_cli.figures.sparsity import draw_activations
    from toytask_cli.hooks import HOOK_POINTS

    maps = [
        ActivationMap(
            f"{block}: {HOOK_POINTS[block].meaning}",
            output.positions,
            output.values.numpy(),
        )
        for block, output in activations.items()
        if block not in patterns
    ]
    figures = {"sparsity-activations": draw_activations(title, maps)}
    if patterns:
        figures["sparsity-attention"] = draw_attention(title, list(patterns.values()))
    return figures


def _figures(names: list[str], tensors: "SparsityTensors") -> "dict[str, Figure]":
    """Draw the distribution of the activations, and how often neurons fire."""
    from toytask_cli.figures.sparsity import draw_density, draw_density_pairs, draw_histogram

    counts = tensors.edges, tensors.histogram_pre, tensors.histogram
    density = tensors.density.numpy()
    return {
        "sparsity-histogram": draw_histogram(*(t.numpy() for t in counts)),
        "sparsity-density": draw_density(names, density),
        "sparsity-density-by-task": draw_density_pairs(names, density),
    }
