"""Do the removed neurons stand for a task, or for answers of two tokens?

    python tests/benchmarks/experiments/same_answer.py runs/reference --out figures

The answer of a sum is one token, that of a concat mostly two. But `1C9` and `12+7` both have the
answer `19`. If neurons stood for an answer's length or for its tokens, removing concat would spare
the concats of one token, and removing sum would remove them too. Each row is a group of answers to
pairs that neither weights nor neurons were chosen on; neurons are chosen at tolerance 0.1.
"""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import seaborn as sns
import torch
import torch.nn.functional as F
from matplotlib.figure import Figure
from shared import CPU, neurons_by_task, parser, percent, print_table, save
from torch import Tensor

from toytask_cli.analysis.effects import logits_without
from toytask_cli.analysis.generate import AS_TRAINED, residuals
from toytask_cli.analysis.stats import Accuracy
from toytask_cli.dataset import Examples, Grid
from toytask_cli.figures.style import panels, style
from toytask_cli.model import Transformer
from toytask_cli.rng import generator
from toytask_cli.runs.run import Run
from toytask_cli.tokenizer import EOS, PAD

ONE_TOKEN, MORE_TOKENS = "sum", "concat"


@dataclass(frozen=True)
class Measured:
    """The accuracy of a group of answers with some neurons removed."""

    exact: Accuracy
    first: float  # share of answers whose first number is right
    second: float | None  # share whose second number is right after the true first, if any has one
    end: float  # share whose `E` is right after the true numbers


def groups_of(grid: Grid, seed: int) -> dict[str, Examples]:
    """Return the groups to report on by label, without the empty ones."""
    _, pairs = grid.matched_pairs()
    names = grid.task_names
    sums = grid.matched(pairs)[names.index(ONE_TOKEN)]
    concats = grid.matched(pairs)[names.index(MORE_TOKENS)]
    length = is_number(concats.answers[:, 1:]).sum(dim=1)
    one = concats[length == 1]
    merged = grid.merged_tokens()[names.index(MORE_TOKENS), pairs]
    groups = {
        f"{ONE_TOKEN}, all": sums,
        f"{ONE_TOKEN}, an answer that concats of one token have too": sums[
            torch.isin(sums.answers[:, 1], one.answers[:, 1])
        ],
        f"{ONE_TOKEN}, one for each concat of one token, same answer": like(
            sums, one, generator(seed, "same answer")
        ),
        f"{MORE_TOKENS}, one token": one,
        f"{MORE_TOKENS}, two tokens, the operands": concats[(length == 2) & ~merged],
        f"{MORE_TOKENS}, two tokens, digits merged": concats[(length == 2) & merged],
    }
    return {label: examples for label, examples in groups.items() if len(examples)}


def is_number(targets: Tensor) -> Tensor:
    """Return whether each token after `B` is a number, not `E` or padding."""
    return (targets != EOS) & (targets != PAD)


def like(examples: Examples, others: Examples, draw: torch.Generator) -> Examples:
    """Return random examples with the others' answers, each as often if there are enough."""
    shuffled = examples[torch.randperm(len(examples), generator=draw)]
    answers, counts = others.answers.unique(dim=0, return_counts=True)
    rows = [
        (shuffled.answers == answer).all(dim=1).nonzero()[:count, 0]
        for answer, count in zip(answers, counts.tolist(), strict=True)
    ]
    return shuffled[torch.cat([torch.empty(0, dtype=torch.int64), *rows])]


def measure(
    model: Transformer, examples: Examples, sets: Sequence[Tensor | None]
) -> list[Measured]:
    """Return the accuracy of some examples, one or more, with each set of neurons removed."""
    hits: list[list[Tensor]] = [[] for _ in sets]
    length = examples.answers.shape[1] - 1
    for number, batch, logits in logits_without(model, residuals(model, examples), sets):
        hit = logits.argmax(dim=-1) == batch.answers[:, 1:]
        hits[number].append(F.pad(hit, (0, length - hit.shape[1])))
    return [_measured(torch.cat(rows).cpu(), examples.answers[:, 1:]) for rows in hits]


def _measured(hit: Tensor, targets: Tensor) -> Measured:
    """Return the accuracy from [n, length] right tokens and target tokens."""
    exact = Accuracy.of((hit | (targets == PAD)).all(dim=1))
    assert exact is not None
    later = is_number(targets)[:, 1:]
    return Measured(
        exact=exact,
        first=float(hit[:, 0].double().mean()),
        second=float(hit[:, 1:][later].double().mean()) if later.any() else None,
        end=float(hit[targets == EOS].double().mean()),
    )


def cells(label: str, measured: Sequence[Measured]) -> list[str]:
    """Return one row of the table: before, then two cells for each removal."""
    before, *after = measured
    row = [label, str(before.exact.n), percent(before.exact.accuracy)]
    for one in after:
        low, high = one.exact.ci95
        row.append(f"{percent(one.exact.accuracy)} ({percent(low)} to {percent(high)})")
        second = "–" if one.second is None else percent(one.second)
        row.append(f"{percent(one.first)} / {second} / {percent(one.end)}")
    return row


def draw_groups(measured: dict[str, list[Measured]], removed: Sequence[str]) -> Figure:
    """Draw exact match of every group before and after each removal, with 95 % intervals."""
    labels = ["before", *(f"{task} removed" for task in removed)]
    height = 0.8 / len(labels)
    with style():
        figure, (axis,) = panels(1, width=8.5, height=4.6)
        rows = np.arange(len(measured))
        for i, label in enumerate(labels):
            exact = [group[i].exact for group in measured.values()]
            shares = np.array([100 * one.accuracy for one in exact])
            ends = np.array([[100 * one.ci95[end] for one in exact] for end in (0, 1)])
            axis.barh(
                rows + (i - (len(labels) - 1) / 2) * height, shares, height, label=label,
                xerr=abs(ends - shares), capsize=2, error_kw={"elinewidth": 1},
            )  # fmt: skip
        axis.set_yticks(rows, labels=[label.replace(", ", ",\n", 1) for label in measured])
        axis.invert_yaxis()
        axis.set(xlabel="exact match on unseen pairs (%)", xlim=(0, 104))
        axis.legend(ncols=len(labels), loc="lower center", bbox_to_anchor=(0.4, 1), frameon=False)
        axis.grid(visible=False, axis="y")
        sns.despine(figure)
        return figure


def main() -> None:
    """Print one row for each group."""
    args = parser(__doc__).parse_args()
    run = Run.open(args.run)
    grid, seed = run.grid(), run.config.recipe.seed
    model = run.model(grid, CPU)
    removed = neurons_by_task(model, grid, seed)
    sets = [AS_TRAINED, *removed.values()]
    measured = {
        label: measure(model, examples, sets) for label, examples in groups_of(grid, seed).items()
    }
    header = ["answers", "n", "before %"]
    for task in removed:
        header += [f"{task} removed % (95 % interval)", "first / second / `E` %"]
    print_table(header, (cells(label, row) for label, row in measured.items()))
    if args.out:
        save(draw_groups(measured, list(removed)), args.out, "same-answer")


if __name__ == "__main__":
    main()
