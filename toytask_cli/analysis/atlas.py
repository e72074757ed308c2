"""What each live neuron does: its pattern over the operands, its tokens, its strongest prompts."""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, NamedTuple

import torch
from torch import Tensor

from toytask_cli.analysis.effects import logit_weights
from toytask_cli.analysis.importance import NeuronScores, report_importance
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.analysis.neurons import top_tokens
from toytask_cli.analysis.operand_maps import (
    MOST_OPERANDS,
    SmallMaps,
    activation_maps,
    activations,
    shown_operands,
    shown_positions,
    small_maps,
)
from toytask_cli.analysis.patterns import DEFINITIONS as PATTERN_DEFINITIONS
from toytask_cli.analysis.patterns import TOKEN, GroupSums, PatternShares, numbers_at
from toytask_cli.dataset import Grid
from toytask_cli.prompts import Prompt
from toytask_cli.tokenizer import PAD

N_PROMPTS = 3  # strongest prompts of a neuron
MAPPED = 400  # neurons with a small map
NO_PATTERN = "none"

DEFINITIONS = {
    "neurons": "all live neurons, those most important to any task first",
    "neurons.task": "the task in which the neuron's mean activation is largest, over all pairs of "
    f"operands ({MOST_OPERANDS} random operands where there are more)",
    "neurons.position": "the answer position at which it is; 0 is the token after `B`",
    **PATTERN_DEFINITIONS,
    "neurons.raises": "tokens whose logits the neuron raises most",
    "neurons.lowers": "tokens whose logits it lowers most",
    "neurons.prompts": "prompts at which its activation is largest, over the same pairs",
    "patterns": f"task → pattern → number of neurons that have this task; {NO_PATTERN}: no simple "
    "pattern",
}


@dataclass(frozen=True)
class LiveNeuron:
    """One neuron; `DEFINITIONS` says what each entry is."""

    neuron: int
    task: str
    position: int
    pattern: str | None
    explained: float
    raises: str
    lowers: str
    prompts: str


@dataclass(frozen=True)
class Atlas:
    """The part of the importance report that describes neurons."""

    neurons: list[LiveNeuron]
    patterns: dict[str, dict[str, int]]
    summary: dict[str, str]  # task → its patterns in a sentence
    definitions: dict[str, str]


def describe_neurons(
    matched: MatchedPairs, importance: Tensor, live: Tensor
) -> tuple[Atlas, SmallMaps]:
    """Describe every live neuron, and map the first `MAPPED`, each where its pattern was measured.

    Args:
        matched: all pairs of the shown operands, of `operand_maps.at_all_operands`.
        importance: [task, d_sae], for the order.
        live: [d_sae] whether a neuron is live.
    """
    grid = matched.grid
    order = importance.amax(dim=0).argsort(descending=True, stable=True)
    neurons = order[live[order]]
    measured = [_measure_task(matched, task, neurons) for task in range(len(grid.tasks))]
    shares = {
        (task, position): of_position
        for task, of_task in enumerate(measured)
        for position, of_position in of_task.shares.items()
    }
    means = torch.stack([of_position.means for of_position in shares.values()])
    main = [list(shares)[i] for i in means.argmax(dim=0).tolist()]
    prompts = _strongest_prompts(grid, [of_task.peaks for of_task in measured])
    weights = logit_weights(matched.model)[neurons].cpu()
    rows = []
    for i, neuron in enumerate(neurons.tolist()):
        task, position = main[i]
        pattern, tokens = shares[main[i]].pattern_of(i), top_tokens(grid, weights[i])
        rows.append(
            LiveNeuron(
                neuron=neuron,
                task=grid.task_names[task],
                position=position,
                pattern=pattern.name,
                explained=pattern.explained,
                raises=" ".join(tokens.promoted),
                lowers=" ".join(tokens.suppressed),
                prompts=prompts[i],
            )
        )
    patterns = {name: _count_patterns(rows, name) for name in grid.task_names}
    summary = {name: pattern_sentence(name, counts) for name, counts in patterns.items()}
    tasks, positions = torch.tensor(main[:MAPPED], dtype=torch.int64).view(-1, 2).unbind(dim=1)
    maps = small_maps(matched, neurons[:MAPPED], tasks, positions)
    return Atlas(rows, patterns, summary, DEFINITIONS), maps


def importance_report(
    scores: NeuronScores, matched: MatchedPairs
) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Return what `toytask importance` reports of scored neurons, and its tensors.

    Args:
        matched: as for `describe_neurons`.
    """
    atlas, maps = describe_neurons(matched, scores.tensors.importance, scores.tensors.live)
    measured, described = asdict(report_importance(scores)), asdict(atlas)
    definitions = measured["definitions"] | described["definitions"]
    tensors = {key: value for key, value in scores.tensors._asdict().items() if value is not None}
    return {**measured, **described, "definitions": definitions}, tensors | maps._asdict()


class OperandMap(NamedTuple):
    """The activation of one neuron over both operands."""

    task: str
    position: int  # 0: the answer token after `B`
    values: Tensor  # [k, k], NaN where the answer has ended


class MappedNeuron(NamedTuple):
    """One neuron over both operands."""

    described: LiveNeuron
    operands: Tensor  # [k] of the maps' rows and columns
    maps: list[OperandMap]  # for every task and position where its mean activation matters


def map_neuron(matched: MatchedPairs, neuron: int) -> MappedNeuron | None:
    """Return what a neuron does over both operands, or None if it never fires.

    Args:
        matched: all pairs of the shown operands.
        neuron: its index, which must be one of the SAE's.
    """
    names, index = matched.grid.task_names, torch.tensor([neuron])
    by_task = [activation_maps(matched, task, index)[0] for task in range(len(names))]
    means = torch.cat([of_task.flatten(1).nanmean(dim=1) for of_task in by_task]).nan_to_num()
    shown = [divmod(i, len(by_task[0])) for i in shown_positions(means)]
    if not shown:
        return None
    alone = torch.arange(matched.model.sae.d_sae) == neuron
    atlas, _ = describe_neurons(matched, torch.zeros(1, len(alone)), alone)
    maps = [OperandMap(names[task], position, by_task[task][position]) for task, position in shown]
    return MappedNeuron(atlas.neurons[0], shown_operands(matched.grid), maps)


class Peaks(NamedTuple):
    """The pairs of one task at which each neuron's activation is largest."""

    values: Tensor  # [up to N_PROMPTS, neuron] the largest over the answer, first the largest
    pairs: Tensor  # [up to N_PROMPTS, neuron]


class _Measured(NamedTuple):
    shares: dict[int, PatternShares]  # by answer position
    peaks: Peaks


def _measure_task(matched: MatchedPairs, task: int, neurons: Tensor) -> _Measured:
    grid = matched.grid
    sums: dict[int, GroupSums] = {}  # by answer position
    peaks = Peaks(torch.zeros(0, len(neurons)), torch.zeros(0, len(neurons), dtype=torch.int64))
    for batch, acts in activations(matched, task, neurons):
        for position in range(acts.shape[1]):
            real = batch.answers[:, position + 1] != PAD
            if real.any():
                groups = sums.setdefault(position, GroupSums(len(grid.tokenizer), len(neurons)))
                groups.add(acts[real, position], numbers_at(grid, batch[real], position))
        peaks = _larger(peaks, acts.amax(dim=1), batch.pairs)
    return _Measured({position: groups.shares() for position, groups in sums.items()}, peaks)


def _larger(peaks: Peaks, values: Tensor, pairs: Tensor) -> Peaks:
    """Return the largest of the peaks so far and of values [n, neuron] at pairs [n]."""
    values = torch.cat([peaks.values, values])
    pairs = torch.cat([peaks.pairs, pairs.unsqueeze(-1).expand(-1, values.shape[1])])
    top = values.topk(min(N_PROMPTS, len(values)), dim=0)
    return Peaks(top.values, pairs.gather(0, top.indices))


def _strongest_prompts(grid: Grid, by_task: Sequence[Peaks]) -> list[str]:
    """Return each neuron's strongest prompts of all tasks, the strongest first."""
    tasks = torch.arange(len(by_task)).repeat_interleave(len(by_task[0].values))
    values, pairs = (torch.cat(tensors) for tensors in zip(*by_task, strict=True))
    top = values.topk(min(N_PROMPTS, len(values)), dim=0)
    a, b = grid.operands(pairs.gather(0, top.indices))
    texts = []
    for columns in zip(top.values.T, tasks[top.indices].T, a.T, b.T, strict=True):
        prompts = zip(*(column.tolist() for column in columns), strict=True)
        firing = (Prompt(grid.tasks[task], a, b) for value, task, a, b in prompts if value > 0)
        texts.append(" ".join(prompt.plain for prompt in firing))
    return texts


def _count_patterns(rows: Sequence[LiveNeuron], task: str) -> dict[str, int]:
    """Return how many neurons of a task follow each pattern, the most frequent first."""
    counts = Counter(row.pattern or NO_PATTERN for row in rows if row.task == task)
    return dict(counts.most_common())


def pattern_sentence(task: str, patterns: Mapping[str, int]) -> str:
    """Return the counts in words.

    `of 110 sum neurons, 41 follow the last digit of a + b, 37 a + b; 32 follow no simple pattern`
    """
    if not patterns:
        return f"no neuron fires most for {task}"
    follow = [f"{n:,} {in_words(name)}" for name, n in patterns.items() if name != NO_PATTERN]
    if follow:
        follow[0] = follow[0].replace(" ", " follow ", 1)
    none = patterns.get(NO_PATTERN)
    clauses = [", ".join(follow), f"{none:,} follow no simple pattern" if none else ""]
    return f"of {sum(patterns.values()):,} {task} neurons, {'; '.join(filter(None, clauses))}"


def in_words(pattern: str) -> str:
    """Return a pattern as part of a sentence: `the last digit of a + b`, `the first operand`."""
    operands = {"a": "the first operand", "b": "the second operand"}
    if pattern in operands:
        return operands[pattern]
    return f"the {pattern}" if " of " in pattern or pattern == TOKEN else pattern
