"""The state of a chat: the model, its columns, the last prompt, the score."""

from collections import defaultdict
from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import torch
from torch import Tensor

from toytask_cli.analysis.ablation_report import ablation_name
from toytask_cli.analysis.generate import Answer, Variant, generate
from toytask_cli.analysis.importance import NeuronScores, score_neurons
from toytask_cli.analysis.matched_pairs import MatchedPairs
from toytask_cli.analysis.neurons import ResidualSample, sample_residuals
from toytask_cli.analysis.operand_maps import at_all_operands
from toytask_cli.analysis.select import select_neurons
from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError, UsageError, shorten, unknown_choice
from toytask_cli.hooks import checked_neurons
from toytask_cli.model import Transformer
from toytask_cli.prompts import Prompt, PromptError, parse_prompt
from toytask_cli.rng import generator
from toytask_cli.runs.run import Run

TRAINED = "trained"
# No ablation can have the name of one of these columns, because of the blank.
BY_HAND = "by hand"
UNSAVED = " (unsaved)"  # ends the name where the run's ablation of this name removes other neurons
LONGEST_PROMPT = 80  # characters


@dataclass
class Chat:
    """The model as trained and variants of it, in columns; nothing is written into the run."""

    run: Run
    grid: Grid
    model: Transformer
    seed: int  # of random prompts
    columns: dict[str, Variant] = field(default_factory=lambda: {TRAINED: Variant()})
    last_prompt: Prompt | None = None
    # (column, task) → for each answer whether it was right
    score: dict[tuple[str, str], list[bool]] = field(default_factory=lambda: defaultdict(list))

    @property
    def d_sae(self) -> int:
        """The number of neurons."""
        return self.run.config.recipe.d_sae

    def parse(self, text: str) -> Prompt:
        """Read a prompt.

        Raises:
            PromptError: naming what is wrong with it.
        """
        if text.lstrip().startswith(":"):
            raise PromptError(f"{shorten(text.strip(), 20)!r} is a command, which needs a terminal")
        if len(text) > LONGEST_PROMPT:
            raise PromptError(f"{text[:20]!r}… is no prompt: {len(text)} characters are too many")
        return parse_prompt(text, self.grid.tasks, self.grid.spec.digits)

    def ask(self, prompts: Sequence[Prompt]) -> list[dict[str, Answer]]:
        """Return every column's answer to each prompt; they count for the score."""
        answers = generate(self.model, self.grid, prompts, self.columns)
        for prompt, by_column in zip(prompts, answers, strict=True):
            self.last_prompt = prompt
            for column, answer in by_column.items():
                self.score[column, prompt.task.name].append(answer.correct)
        return answers

    def add_ablation(self, name: str) -> None:
        """Add a column with an ablation of the run.

        Raises:
            ToytaskError: there is none of this name, or it does not fit the model.
        """
        if name == TRAINED:
            raise UsageError(f"{TRAINED!r} names the model as trained: ablate again with --name")
        self._set_column(name, self._read_variant(name))

    def add_run(self, path: Path) -> None:
        """Add a column with the model of another run, named by its path.

        Raises:
            ToytaskError: the run cannot be used, or has other tasks or operands.
        """
        run = Run.open(path)
        specs = [each.config.recipe.data_spec() for each in (run, self.run)]
        if len({(spec.tasks, spec.digits) for spec in specs}) > 1:
            raise ToytaskError(f"{path} has other tasks or digits than {self.run.path}")
        device = self.model.readout.weight.device
        self.columns[str(path)] = Variant(other_model=run.model(self.grid, device))

    def ablate(self, tasks: Sequence[str], tolerance: float | None) -> str:
        """Add a column with these tasks removed; return its name.

        Neurons and name are those of `toytask ablate`, unless another removal has that name.

        Raises:
            UsageError: an unknown task, every task, or a tolerance below 0.
        """
        choice = select_neurons(self.neuron_scores, tasks, tolerance=tolerance)
        removed = [name for name in self.grid.task_names if name in tasks]
        name = ablation_name(removed, choice.chosen_by, choice.tolerance)
        variant = Variant(choice.neurons)
        if self._is_saved_otherwise(name, variant):
            name += UNSAVED
        self._set_column(name, variant)
        return name

    def _is_saved_otherwise(self, name: str, variant: Variant) -> bool:
        """Return whether the run's ablation of this name, if any, is not this variant."""
        if name not in self.run.ablation_names():
            return False
        try:
            return not self._read_variant(name).is_same_as(variant)
        except ToytaskError:  # made from other weights, or damaged
            return True

    def _read_variant(self, name: str) -> Variant:
        return Variant.from_report(self.run.read_ablation(name), self.d_sae)

    def _set_column(self, name: str, variant: Variant) -> None:
        """Add or replace a column; another model under its name starts a new score."""
        if name in self.columns and not self.columns[name].is_same_as(variant):
            self._reset_score(name)
        self.columns[name] = variant

    def restore(self, column: str | None) -> None:
        """Delete one column, or all but the model as trained.

        Raises:
            UsageError: an unknown column, or there is none to delete.
        """
        others = [name for name in self.columns if name != TRAINED]
        if column is not None and not others:
            raise UsageError("nothing is removed")
        if column is not None and column not in others:
            raise unknown_choice("column", column, others)
        for name in others if column is None else [column]:
            del self.columns[name]
            self._reset_score(name)

    def switch(self, numbers: Sequence[int], off: bool) -> int:
        """Switch neurons off or on in the column `BY_HAND`; return how many are off there.

        The column starts as a copy of the last one of this model.

        Raises:
            UsageError: a neuron that the SAE does not have, or all are switched so already.
        """
        own = [variant for variant in self.columns.values() if variant.other_model is None]
        start = self.columns.get(BY_HAND, own[-1])
        neurons = set(checked_neurons(numbers, self.d_sae).tolist())
        before = start.removed()
        after = before | neurons if off else before - neurons
        if after == before:
            state = "off" if off else "on"
            raise UsageError(f"{', '.join(map(str, sorted(neurons)))}: {state} already")
        off_by_hand = torch.tensor(sorted(after), dtype=torch.int64)
        self._set_column(BY_HAND, Variant(off_by_hand, start.error))
        if not after:
            del self.columns[BY_HAND]
        return len(after)

    def _reset_score(self, column: str) -> None:
        """Forget a column's answers, because another model takes its name."""
        for name in self.grid.task_names:
            self.score.pop((column, name), None)

    def random_prompt(self, task: str | None) -> Prompt:
        """Draw a prompt that neither weights nor neurons were chosen on.

        Raises:
            UsageError: an unknown task.
            ToytaskError: the split leaves no such prompt.
        """
        if task is not None and task not in self.grid.task_names:
            raise unknown_choice("task", task, self.grid.task_names)
        _, pairs = self.grid.matched_pairs()
        pair = pairs[torch.randint(len(pairs), (), generator=self._generator)]
        index = int(torch.randint(len(self.grid.tasks), (), generator=self._generator))
        index = self.grid.task_names.index(task) if task else index
        a, b = self.grid.operands(pair)
        return Prompt(self.grid.tasks[index], int(a), int(b))

    @cached_property
    def _generator(self) -> torch.Generator:
        return generator(self.seed, "chat")

    @cached_property
    def neuron_scores(self) -> NeuronScores:
        """Every neuron's importance; the first use takes some seconds."""
        return score_neurons(self.model, self.grid, seed=0, resamples=1)

    @cached_property
    def unseen_examples(self) -> ResidualSample:
        """The model's x on unseen examples; the first use takes a second or two."""
        return sample_residuals(self.model, self.grid)

    @cached_property
    def all_operands(self) -> MatchedPairs:
        """All tasks at all operands; the first use takes some seconds."""
        return at_all_operands(self.model, self.grid)

    def known_importance(self) -> Tensor:
        """Return [task, d_sae] nats, as measured in this chat or by `toytask importance`.

        Raises:
            ToytaskError: neither has been measured, or the run's is of other weights.
        """
        if "neuron_scores" in vars(self):
            return self.neuron_scores.tensors.importance
        importance = self.run.read_tensors("importance").get("importance")
        shape = (len(self.grid.task_names), self.d_sae)
        if importance is None or (importance.shape, importance.dtype) != (shape, torch.float32):
            again = f"toytask importance {self.run.shell_path}"
            raise ToytaskError(f"measure it again with `{again}`")
        return importance
