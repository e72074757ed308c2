"""What a chat remembers: the model, the columns beside it, the last prompt, the score."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property

import torch
from torch import Tensor

from toytask_cli.analysis.ablation_report import ablation_name
from toytask_cli.analysis.generate import Answer, Variant, generate
from toytask_cli.analysis.importance import NeuronScores, score_neurons
from toytask_cli.analysis.neurons import ResidualSample, sample_residuals
from toytask_cli.analysis.select import select_neurons
from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError, UsageError, shorten, unknown_choice
from toytask_cli.hooks import checked_neurons
from toytask_cli.model import Transformer
from toytask_cli.prompts import Prompt, PromptError, parse_prompt
from toytask_cli.rng import generator
from toytask_cli.runs.run import Run

TRAINED = "trained"
BY_HAND = "by hand"  # no ablation can have this name: it holds a blank
LONGEST = 80  # characters of a line that could be a prompt


@dataclass
class Chat:
    """One conversation. Nothing of it is written into the run."""

    run: Run
    grid: Grid
    model: Transformer
    seed: int  # of random prompts
    columns: dict[str, Variant] = field(default_factory=lambda: {TRAINED: Variant()})
    last: Prompt | None = None
    # (column, task) → for each answer whether it was right
    tally: dict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))

    @classmethod
    def open(cls, run: Run, device: torch.device, seed: int) -> "Chat":
        """A chat with the run's model as trained."""
        grid = run.grid()
        return cls(run, grid, run.model(grid, device), seed)

    @cached_property
    def d_sae(self) -> int:
        """How many neurons there are."""
        return self.model.sae.d_sae

    def parse(self, text: str) -> Prompt:
        """Reads a prompt.

        Raises:
            PromptError: saying which part of it is wrong.
        """
        if text.lstrip().startswith(":"):
            raise PromptError(f"{shorten(text.strip(), 20)!r} is a command, which needs a terminal")
        if len(text) > LONGEST:
            raise PromptError(f"{text[:20]!r}… is no prompt: {len(text)} characters are too many")
        return parse_prompt(text, self.grid.tasks, self.grid.spec.digits)

    def ask(self, prompts: Sequence[Prompt]) -> list[dict[str, Answer]]:
        """The answers of every column, which count for the score."""
        found = generate(self.model, self.grid, prompts, self.columns)
        for prompt, answers in zip(prompts, found, strict=True):
            self.last = prompt
            for name, answer in answers.items():
                self.tally[name, prompt.task.name].append(answer.correct)
        return found

    def add_saved(self, name: str) -> None:
        """Puts an ablation of the run beside the model.

        Raises:
            ToytaskError: there is none of this name, or it does not fit the model.
        """
        if name == TRAINED:
            raise UsageError(f"{TRAINED!r} names the model as trained: ablate again with --name")
        self.columns[name] = Variant.from_report(self.run.read_ablation(name), self.d_sae)

    def ablate(self, tasks: Sequence[str], tolerance: float | None) -> str:
        """Puts the model without these tasks beside it; gives the column's name.

        Neurons and name are those of `toytask ablate`.

        Raises:
            UsageError: an unknown task, every task, or a tolerance below 0.
        """
        choice = select_neurons(self.measured, tasks, tolerance=tolerance)
        removed = [name for name in self.grid.task_names if name in tasks]
        name = ablation_name(removed, choice.chosen_by, choice.tolerance)
        self.columns[name] = Variant(choice.neurons)
        return name

    def restore(self, name: str | None) -> None:
        """Takes one column away, or all but the model as trained.

        Raises:
            UsageError: a column that is not there.
        """
        others = [column for column in self.columns if column != TRAINED]
        if name is not None and name not in others:
            raise (
                unknown_choice("column", name, others)
                if others
                else UsageError("nothing is removed")
            )
        for column in others if name is None else [name]:
            del self.columns[column]
            self._forget(column)

    def switch(self, numbers: Sequence[int], off: bool) -> int:
        """Switches neurons in the column that is made by hand; gives how many are off there.

        The column starts from the last one.

        Raises:
            UsageError: a neuron that the SAE does not have, or all of them are so already.
        """
        start = self.columns.get(BY_HAND, list(self.columns.values())[-1])
        asked = set(checked_neurons(numbers, self.d_sae).tolist())
        before = start.removed()
        after = before | asked if off else before - asked
        if after == before:
            state = "off" if off else "on"
            raise UsageError(f"{', '.join(map(str, sorted(asked)))}: {state} already")
        self.columns[BY_HAND] = Variant(torch.tensor(sorted(after), dtype=torch.int64), start.error)
        self._forget(BY_HAND)
        if not after:
            del self.columns[BY_HAND]
        return len(after)

    def _forget(self, column: str) -> None:
        """Takes a column out of the score: what comes under its name is another model."""
        for name in self.grid.task_names:
            self.tally.pop((column, name), None)

    def random_prompt(self, task: str | None) -> Prompt:
        """A prompt that neither weights nor neurons were chosen on.

        Raises:
            UsageError: an unknown task.
            ToytaskError: the split leaves no such prompt.
        """
        if task is not None and task not in self.grid.task_names:
            raise unknown_choice("task", task, self.grid.task_names)
        _, pairs = self.grid.matched_pairs()
        pair = pairs[torch.randint(len(pairs), (), generator=self._draws)]
        index = int(torch.randint(len(self.grid.tasks), (), generator=self._draws))
        chosen = self.grid.tasks[self.grid.task_names.index(task) if task else index]
        a, b = self.grid.operands(pair)
        return Prompt(chosen, int(a), int(b))

    @cached_property
    def _draws(self) -> torch.Generator:
        return generator(self.seed, "chat")

    @cached_property
    def measured(self) -> NeuronScores:
        """Every neuron's importance, measured when it is first asked for: some seconds."""
        return score_neurons(self.model, self.grid, seed=0, resamples=1)

    @cached_property
    def seen(self) -> ResidualSample:
        """The model on unseen examples, looked at when it is first asked for: a second or two."""
        return sample_residuals(self.model, self.grid)

    def known_importance(self) -> Tensor:
        """[task, d_sae] nats, as measured in this chat or by `toytask importance`.

        Raises:
            ToytaskError: neither has been done, or the run's was of other weights.
        """
        if "measured" in vars(self):
            return self.measured.tensors.importance
        found = self.run.read_tensors("importance").get("importance")
        shape = (len(self.grid.task_names), self.d_sae)
        if found is None or (found.shape, found.dtype) != (shape, torch.float32):
            raise ToytaskError(f"measure it anew with `toytask importance {self.run.named}`")
        return found
