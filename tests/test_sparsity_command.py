import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import Command
from processes import start
from safetensors.torch import load_file

from toytask_cli.analysis.neurons import prompt_activations, summarise_positions
from toytask_cli.analysis.sparsity import measure_sparsity
from toytask_cli.cli.attention import ATTENTION, attention_patterns, attention_view
from toytask_cli.cli.console import out
from toytask_cli.cli.heatmap import cell_size, heatmap
from toytask_cli.figures.attention import draw_attention
from toytask_cli.figures.sparsity import draw_density, draw_density_pairs
from toytask_cli.figures.style import png
from toytask_cli.hooks import HOOK_POINTS
from toytask_cli.prompts import parse_prompt
from toytask_cli.runs.run import Run

PROMISED = {
    "l0", "l1", "fraction_nonzero_pre", "fraction_nonzero", "dead_neurons", "explained_variance",
    "mse", "ce_loss", "ce_loss_with_sae", "n",
}  # fmt: skip
QUICK = ["--no-figures"]


def ask(toytask: Command, *options: object) -> dict:
    return json.loads(toytask("sparsity", *QUICK, "--json", *options).out)


def test_the_report_holds_what_was_measured(toytask: Command, run: Run):
    report = ask(toytask)
    assert report == json.loads(Path("runs/01/reports/sparsity.json").read_text())
    grid = run.grid()
    measured, tensors = measure_sparsity(run.model(grid, torch.device("cpu")), grid, "test")
    assert report["split"] == "test"
    assert report["all"] == vars(measured.all)
    assert report["tasks"] == {name: vars(task) for name, task in measured.tasks.items()}
    for numbers in (report["all"], *report["tasks"].values()):
        assert numbers.keys() >= PROMISED
    written = load_file("runs/01/reports/sparsity.safetensors")
    assert written.keys() == tensors._asdict().keys()
    assert torch.equal(written["density"], tensors.density)


def test_the_table_sets_the_tasks_side_by_side(toytask: Command, run: Run):
    result = toytask("sparsity", *QUICK)
    for shown in ("all", "sum", "concat", "explained variance", "dead neurons", "sum only"):
        assert shown in result.out
    assert "100.00 %" in result.out
    assert result.err.endswith("next: toytask importance runs/01\n")


def test_the_sample_holds_the_activations_for_the_prompt(toytask: Command, run: Run):
    sample = ask(toytask, "--prompt", "B7C3E")["sample"]
    assert (sample["prompt"], sample["answer"], sample["task"]) == ("B7C3E", "B73E", "concat")
    assert [at["position"] for at in sample["positions"]] == ["B→7", "7→3", "3→E"]
    grid = run.grid()
    model = run.model(grid, torch.device("cpu"))
    examples = grid.examples(torch.tensor([1]), torch.tensor([73]))
    with torch.no_grad():
        acts = model(examples.prompts, examples.answers[:, :-1]).acts[0]
    for at, row in zip(sample["positions"], acts, strict=False):
        assert at["nonzero"] == int((row > 0).sum())
        for entry in at["strongest"]:
            assert entry["value"] == pytest.approx(float(row[entry["index"]]), rel=1e-5)


def test_without_a_prompt_the_first_task_is_shown(toytask: Command, run: Run):
    assert ask(toytask)["sample"]["prompt"] == "B7+3E"


@pytest.mark.parametrize("block", [block for block in HOOK_POINTS if block not in ATTENTION])
def test_the_block_decides_what_is_shown(toytask: Command, run: Run, block: str):
    grid = run.grid()
    prompt = parse_prompt("4+5", grid.tasks, 1)
    snapshot = prompt_activations(run.model(grid, torch.device("cpu")), grid, prompt)[block]
    assert snapshot.positions == (
        ["B", "4", "+", "5", "E"] if block == "encoder" else ["B→9", "9→E"]
    )
    result = toytask("sparsity", *QUICK, "--prompt", "4+5", "--block", block)
    assert HOOK_POINTS[block].meaning in result.out
    shown = heatmap(snapshot.positions, snapshot.values.tolist(), 80).plain
    assert shown in result.out
    sample = ask(toytask, "--prompt", "4+5", "--block", block)["sample"]
    assert sample["block"] == block
    assert [at["nonzero"] for at in sample["positions"]] == [
        at.nonzero for at in summarise_positions(snapshot)
    ]


@pytest.mark.parametrize(
    ("args", "code", "message"),
    [
        (["--block", "decodr"], 2, "did you mean 'decoder'"),
        (["--prompt", "4x5"], 1, "'X' in '4x5' is not in the vocabulary"),
        (["--prompt", "47+23"], 1, "47 is out of range: operands go from 0 to 9"),
        (["--device", "gpu"], 2, "unknown device 'gpu'"),
    ],
)
def test_bad_input_is_one_line(toytask: Command, run: Run, args, code, message):
    result = toytask("sparsity", *args)
    assert (result.code, result.out) == (code, "")
    assert result.err.startswith("error: ")
    assert result.err.count("\n") == 1
    assert message in result.err


def test_json_is_plain_whatever_the_width(toytask: Command, run: Run, monkeypatch):
    monkeypatch.setenv("COLUMNS", "20")
    result = toytask("sparsity", "--json", *QUICK)
    assert json.loads(result.out)["all"]
    assert result.err == ""


def test_figures_are_drawn_unless_they_are_not_wanted(toytask: Command, run: Run):
    folder = run.path / "figures"
    ask(toytask)
    assert not list(folder.glob("sparsity-*"))
    assert toytask("sparsity").code == 0
    names = {path.name for path in folder.glob("sparsity-*")}
    assert names == {
        "sparsity-activations.png", "sparsity-histogram.png", "sparsity-density.png",
        "sparsity-density-by-task.png", "sparsity-attention.png",
    }  # fmt: skip
    assert all((folder / name).read_bytes().startswith(b"\x89PNG") for name in names)


def test_output_in_a_pipe_has_no_colour_and_says_that_signs_are_not_shown(run: Run):
    with start("sparsity", *QUICK, "--block", "sae-pre") as process:
        out, err = process.communicate()
    assert process.returncode == 0
    assert "\x1b" not in out + err
    assert "the sign is not shown" in out.replace("\n", " ")


# The heatmap


def test_a_cell_shows_its_largest_value_and_zero_has_a_character_of_its_own():
    text = heatmap(["B→7", "E"], [[0, 0, 4, 1] * 8, [0, -1, 2, -3] * 8], columns=20)
    assert cell_size(32, 16) == 2
    assert text.plain == "B→7 " + "·█" * 8 + "\n  E " + "▒█" * 8
    assert {span.style for span in text.spans} == {"medium_purple", "green3"}


@pytest.mark.parametrize(("length", "columns"), [(1024, 74), (256, 40), (48, 15), (1000, 3)])
def test_a_row_fits_and_no_value_is_left_out(length: int, columns: int):
    line = heatmap(["x"], [[0.0] * (length - 1) + [1.0]], columns).plain
    assert line.endswith("█")
    assert len(line) <= max(columns, 8 + 2)


def test_a_block_of_zeros_is_shown():
    assert heatmap(["x"], [[0.0] * 8], 20).plain == "x ········"


# Attention


PROMPT, ANSWER = ["B", "4", "+", "5", "E"], ["B", "9"]


def patterns(n_heads: int) -> dict:
    def weights(queries: int, keys: int) -> torch.Tensor:
        draw = torch.Generator().manual_seed(0)
        return torch.randn(n_heads, queries, keys, generator=draw).softmax(dim=-1)

    values = {
        "encoder-attention": weights(5, 5),
        "decoder-attention": weights(2, 2),
        "cross-attention": weights(2, 5),
        "sae": torch.zeros(2, 48),
    }
    return attention_patterns(values, PROMPT, ANSWER)


def test_attention_patterns_have_the_tokens_that_attend_and_that_are_attended_to():
    by_hook_point = patterns(3)
    assert list(by_hook_point) == list(ATTENTION)
    tokens = [(pattern.query_tokens, pattern.key_tokens) for pattern in by_hook_point.values()]
    assert tokens == [(PROMPT, PROMPT), (ANSWER, ANSWER), (ANSWER, PROMPT)]
    for pattern in by_hook_point.values():
        assert pattern.values.shape == (3, len(pattern.query_tokens), len(pattern.key_tokens))


def test_the_terminal_shows_every_head_with_its_tokens_and_percentages():
    pattern = patterns(3)["cross-attention"]
    with out().capture() as capture:
        out().print(attention_view(pattern))
    text = capture.get()
    for head, weights in enumerate(pattern.values):
        assert f"head {head}" in text
        for weight in weights.ravel():
            assert f"{100 * weight:3.0f} " in text
    assert "rows: the token that attends" in text


@pytest.mark.parametrize("block", ATTENTION)
def test_an_attention_block_is_shown_by_head_and_token(toytask: Command, run: Run, block: str):
    result = toytask("sparsity", *QUICK, "--prompt", "4+5", "--block", block)
    assert HOOK_POINTS[block].meaning in result.out
    assert "head 1" in result.out
    sample = ask(toytask, "--prompt", "4+5", "--block", block)["sample"]
    queries = PROMPT if block == "encoder-attention" else ANSWER
    keys = ANSWER if block == "decoder-attention" else PROMPT
    assert (sample["query_tokens"], sample["key_tokens"]) == (queries, keys)
    weights = np.array(sample["weights"])
    assert weights.shape == (2, len(queries), len(keys))
    assert weights.sum(axis=-1) == pytest.approx(1, abs=1e-5)
    assert re.search(rf"{queries[-1]} .*{100 * weights[0, -1, -1]:3.0f} ", result.out)


@pytest.mark.parametrize("n_heads", [1, 3, 9])
def test_the_attention_figure_has_a_heatmap_for_each_head_and_kind(n_heads: int):
    figure = draw_attention("B4+5E → B9E", list(patterns(n_heads).values()))
    assert len(figure.axes) == 3 * n_heads + 1  # and the colour bar
    first = figure.axes[0]
    assert first.get_title() == "head 0"
    assert [label.get_text() for label in first.get_xticklabels()] == PROMPT
    assert [label.get_text() for label in first.get_yticklabels()] == PROMPT
    assert png(figure).startswith(b"\x89PNG")


# The figures


def test_figures_take_more_than_two_tasks_and_dead_neurons():
    density = np.array([[0.5, 0, 0.1], [0, 0, 0.2], [0.01, 0, 0]], np.float32)
    names = ["sum", "concat", "diff"]
    assert len(draw_density_pairs(names, density).axes) == 3
    for draw in (draw_density, draw_density_pairs):
        assert png(draw(names, density)).startswith(b"\x89PNG")
        assert png(draw(names[:2], 0 * density[:2])).startswith(b"\x89PNG")
