"""Fine-tuning that tries to bring a task back: how many steps it takes, and how many examples.

An attacker fine-tunes all weights by AdamW at a constant rate, on cross-entropy alone. If neurons
are ablated, they stay so at every step. Accuracy is exact match on examples that no step has seen.
"""

import math
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from typing import NamedTuple

import torch
import torch.nn.functional as F
from torch import Tensor

from toytask_cli.analysis.evaluate import score, task_scores
from toytask_cli.analysis.generate import Variant, residuals
from toytask_cli.dataset import Examples, Grid
from toytask_cli.model import Transformer
from toytask_cli.objective import exact_match
from toytask_cli.recipe import Recipe
from toytask_cli.rng import generator
from toytask_cli.tokenizer import PAD

RATES = (2e-3, 4e-3, 5e-4)  # of AdamW
SIZES = (10, 30, 100, 300, 1000)  # examples to relearn from
SHARES = (0.5, 0.95)  # of the accuracy before; a task that reaches it is back
CONVERGED = 0.01  # nats, mean cross-entropy of the examples that are learnt from
UNSEEN = 1000  # examples that accuracy is measured on, at most

# Accuracy is measured after every step up to this one, and then after every 1/16 more.
EVERY_STEP, INTERVALS = 32, 16


class Candidate(NamedTuple):
    """A model to attack."""

    name: str
    model: Transformer  # stays as it is
    variant: Variant  # the ablation that is held in place


@dataclass(frozen=True)
class Curve:
    """One attack: the accuracy after some steps of fine-tuning."""

    data: str  # a key of `Attacker.data`
    rate: float
    steps: list[int]  # ascending, from 0
    accuracy: list[float]  # after each of them

    def steps_until(self, goal: float) -> int | None:
        """Return the first step measured at this accuracy or above; None if there is none."""
        both = zip(self.steps, self.accuracy, strict=True)
        return next((step for step, accuracy in both if accuracy >= goal), None)


@dataclass(frozen=True)
class Relearning:
    """What the fastest attacks on a candidate need."""

    steps50: int | None  # null if no attack got there
    steps95: int | None
    rate: float  # of the attack that is first at 95 %, else at 50 %, else the most accurate
    data: str  # of the same attack
    curves: list[Curve]


class Attacker:
    """Attacks candidates, all in the same way.

    Args:
        recipe: weight decay, clipping and batch size of the attacks.
        precision: type of matrix products.
        grid: the true answers.
        tasks: indices of the tasks to bring back.
        limit: largest number of steps of an attack.
        seed: of the order of examples, and of the samples.
        on_begin: called with a description of each attack before it.
        on_step: called with the number of steps so far; it may raise an exception to end it all.
    """

    def __init__(
        self,
        recipe: Recipe,
        precision: torch.dtype,
        grid: Grid,
        tasks: Sequence[int],
        limit: int,
        seed: int,
        on_begin: Callable[[str], None] = lambda work: None,
        on_step: Callable[[int], None] = lambda step: None,
    ):
        self.recipe = recipe
        self.precision = precision
        self.grid, self.tasks = grid, tasks
        self.limit, self.seed = limit, seed
        self.on_begin, self.on_step = on_begin, on_step
        train, unseen = grid.split("train"), _of_tasks(grid.split(grid.report_split), tasks)
        self.data = {"all tasks": train, "removed": self._shuffled(_of_tasks(train, tasks))}
        self.unseen = self._shuffled(unseen)[:UNSEEN]
        self.sizes = [n for n in SIZES if n <= len(self.data["removed"])]

    def _shuffled(self, examples: Examples) -> Examples:
        draw = generator(self.seed, "attack examples")
        return examples[torch.randperm(len(examples), generator=draw)]

    def relearn(self, candidate: Candidate, before: float) -> Relearning:
        """Attack by every rate on all data; an attack ends where the fastest one has succeeded.

        Args:
            candidate: the model to attack.
            before: the accuracy to bring back, more than 0.
        """
        goals = [share * before for share in SHARES]
        limit, curves = self.limit, []
        for data in self.data:
            for rate in RATES:
                self.on_begin(f"{candidate.name}, {data}, rate {rate:g}")
                curve = self._curve(candidate, data, rate, goals[-1], limit)
                limit = min(limit, curve.steps_until(goals[-1]) or limit)
                curves.append(curve)
        fastest = min(curves, key=lambda curve: _speed(curve, goals))
        steps50, steps95 = (_fewest(curves, goal) for goal in goals)
        return Relearning(steps50, steps95, fastest.rate, fastest.data, curves)

    def _curve(
        self, candidate: Candidate, data: str, rate: float, goal: float, limit: int
    ) -> Curve:
        curve, due = Curve(data, rate, [], []), set(measured_steps(limit))
        model = deepcopy(candidate.model)
        with self._in_place(candidate, model):
            for step, _ in enumerate(self._losses(model, self.data[data], rate)):
                self.on_step(step)
                if step in due:
                    curve.steps.append(step)
                    curve.accuracy.append(accuracy(model, self.unseen))
                if curve.accuracy[-1] >= goal or step == limit:
                    break
        return curve

    def from_examples(self, candidate: Candidate, n: int) -> float:
        """Return the accuracy after relearning from n examples to convergence, at the best rate."""
        return max(self._accuracy_from(candidate, n, rate) for rate in RATES)

    def _accuracy_from(self, candidate: Candidate, n: int, rate: float) -> float:
        self.on_begin(f"{candidate.name}, {n} examples, rate {rate:g}")
        losses: deque[float] = deque(maxlen=-(-n // self.recipe.batch_size))  # of an epoch
        model = deepcopy(candidate.model)
        with self._in_place(candidate, model):
            for step, loss in enumerate(self._losses(model, self.data["removed"][:n], rate)):
                self.on_step(step)
                losses.append(loss)
                if step == self.limit or sum(losses) < CONVERGED * len(losses):
                    break
            return accuracy(model, self.unseen)

    @contextmanager
    def _in_place(self, candidate: Candidate, model: Transformer) -> Iterator[None]:
        """Hold the candidate's ablation in place on a copy of its model, in this precision."""
        device, is_lower = model.readout.weight.device.type, self.precision != torch.float32
        # Without its cache of cast weights, which change from step to step.
        autocast = torch.autocast(device, self.precision, enabled=is_lower, cache_enabled=False)
        with candidate.variant.applied_to(model), autocast:
            yield

    def _losses(self, model: Transformer, examples: Examples, rate: float) -> Iterator[float]:
        """Take one step after the other; yield infinity, and then the loss before each step."""
        device = model.readout.weight.device
        draw = generator(self.seed, "attack order")
        decay = self.recipe.weight_decay
        optimizer = torch.optim.AdamW(model.parameters(), rate, weight_decay=decay, fused=True)
        yield math.inf
        while True:
            order = torch.randperm(len(examples), generator=draw)
            for batch in examples[order].batches(self.recipe.batch_size):
                loss = cross_entropy(model, batch.to(device))
                optimizer.zero_grad()
                loss.backward()
                if self.recipe.clip > 0:
                    torch.nn.utils.clip_grad_norm_(model.parameters(), self.recipe.clip)
                optimizer.step()
                yield loss.item()


def cross_entropy(model: Transformer, examples: Examples) -> Tensor:
    """Return [] the mean cross-entropy over the answers' tokens, nats."""
    logits = model.readout(model.residual(examples.prompts, examples.answers[:, :-1]))
    targets = examples.answers[:, 1:].flatten()
    return F.cross_entropy(logits.float().flatten(0, 1), targets, ignore_index=PAD)


def measured_steps(limit: int) -> Iterator[int]:
    """Yield the steps to measure accuracy after: 0, 1, 2, … and then ever fewer, to the limit."""
    step = 0
    while step < limit:
        yield step
        step += 1 if step < EVERY_STEP else step // INTERVALS
    yield limit


@torch.no_grad()
def accuracy(model: Transformer, examples: Examples) -> float:
    """Return the share of the examples, of which there must be some, that a model gets right."""
    right = [
        exact_match(model.readout(resid), batch.answers)
        for batch, resid in residuals(model, examples)
    ]
    return float(torch.cat(right).double().mean())


def accuracy_by_task(candidate: Candidate, grid: Grid) -> dict[str, float]:
    """Return a candidate's accuracy on the whole report split, by task."""
    examples = grid.split(grid.report_split)
    with candidate.variant.applied_to(candidate.model):
        scores = task_scores(grid, examples, score(candidate.model, examples))
    return {name: task.accuracy for name, task in scores.items()}


def _of_tasks(examples: Examples, tasks: Sequence[int]) -> Examples:
    return examples[torch.isin(examples.tasks, torch.tensor(tasks))]


def _fewest(curves: Sequence[Curve], goal: float) -> int | None:
    reached = (curve.steps_until(goal) for curve in curves)
    return min((steps for steps in reached if steps is not None), default=None)


def _speed(curve: Curve, goals: Sequence[float]) -> tuple[float, ...]:
    """Return what the fastest of several curves has least of."""
    steps = (curve.steps_until(goal) for goal in reversed(goals))
    return (*(math.inf if s is None else s for s in steps), -max(curve.accuracy))
