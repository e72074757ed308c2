"""The grid of all examples as token tensors, its splits, and matched pairs.

Tensors are laid out [task, pair, ...], where pair = a · 10^digits + b, so that `12+34` and `12C34`
share an index. Sequences are cut to the longest real prompt and answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from functools import reduce
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from toytask_cli.answers import answer_numbers
from toytask_cli.errors import NoPairsError, UsageError, unknown_choice
from toytask_cli.recipe import DataSpec
from toytask_cli.rng import generator
from toytask_cli.splits import SPLITS, draw_splits, token_keys
from toytask_cli.tasks import Task, find_tasks
from toytask_cli.tokenizer import EOS, PAD, Tokenizer


@dataclass(frozen=True)
class Examples:
    """Some examples of the grid, one a row."""

    prompts: Tensor  # [n, prompt length] token ids, int64 as all here
    answers: Tensor  # [n, answer length] token ids, `B` first
    tasks: Tensor  # [n] index into the grid's tasks
    pairs: Tensor  # [n] a · 10^digits + b

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, rows: Tensor | slice) -> "Examples":
        """Return the examples of these rows, in this order."""
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> "Examples":
        """Return the same examples on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def cut(self) -> "Examples":
        """Return the same examples, their answers cut to the longest one."""
        length = int((self.answers != PAD).sum(dim=1).max())
        return replace(self, answers=self.answers[:, :length])

    def batches(self, size: int) -> Iterator["Examples"]:
        """Yield all examples in order, up to `size` at a time."""
        for start in range(0, len(self), size):
            yield self[start : start + size]

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Examples":
        return Examples(*(change(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Grid:
    """All examples of all tasks, and the split of each."""

    spec: DataSpec
    tasks: tuple[Task, ...]
    tokenizer: Tokenizer
    prompts: Tensor  # [task, pair, prompt length] int16
    answers: Tensor  # [task, pair, answer length] int16
    splits: Tensor  # [task, pair] uint8, index into SPLITS

    @property
    def task_names(self) -> list[str]:
        """The tasks' names, in order."""
        return [task.name for task in self.tasks]

    @property
    def n_pairs(self) -> int:
        """Number of operand pairs."""
        return self.prompts.shape[1]

    @property
    def report_split(self) -> str:
        """The split to report accuracy on: test, or validation where there is no test split."""
        return "test" if (self.splits == SPLITS.index("test")).any() else "validation"

    def split(self, name: str) -> Examples:
        """Return all examples of one split, task by task.

        Raises:
            UsageError: a split that does not exist.
        """
        if name not in SPLITS:
            raise unknown_choice("split", name, SPLITS)
        tasks, pairs = torch.nonzero(self.splits == SPLITS.index(name), as_tuple=True)
        return self.examples(tasks, pairs)

    def examples(self, tasks: Tensor, pairs: Tensor) -> Examples:
        """Return the examples of these tasks at these pairs, [n] and [n]."""
        prompts, answers = self.prompts[tasks, pairs].long(), self.answers[tasks, pairs].long()
        return Examples(prompts, answers, tasks, pairs)

    def matched(self, pairs: Tensor) -> list[Examples]:
        """Return each task's examples at these pairs; row j of each has the same operands."""
        return [self.examples(torch.full_like(pairs, t), pairs) for t in range(len(self.tasks))]

    def matched_pairs(self) -> tuple[Tensor, Tensor]:
        """Return the pairs to choose neurons on, and the pairs to report on.

        They are the pairs that are in the validation split, or in the test split, for every task.
        Where there is no test split, the validation pairs are halved at random, by the seed of the
        split alone.

        Raises:
            NoPairsError: a split by example left no such pairs.
        """
        choose, report = self._pairs_in("validation"), self._pairs_in("test")
        if self.report_split != "test":
            draw = generator(self.spec.split_seed, "halves")
            shuffled = choose[torch.randperm(len(choose), generator=draw)]
            choose, report = (half.sort().values for half in shuffled.tensor_split(2))
        if not (len(choose) and len(report)):
            raise NoPairsError(
                "no operand pair is in one unseen split for every task: train with --split-by pair"
            )
        return choose, report

    def _pairs_in(self, name: str) -> Tensor:
        return torch.nonzero((self.splits == SPLITS.index(name)).all(dim=0))[:, 0]

    def operands(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """Return the two operands of each pair, [n] and [n]."""
        size = 10**self.spec.digits
        return pairs // size, pairs % size

    def index_of(self, task: Task, a: int, b: int) -> tuple[int, int]:
        """Return the index of an example in the tensors: its task's index and its pair."""
        return self.tasks.index(task), a * 10**self.spec.digits + b

    def split_of(self, task: Task, a: int, b: int) -> str:
        """Return the name of the split that an example is in."""
        return SPLITS[int(self.splits[self.index_of(task, a, b)])]

    def merged_tokens(self) -> Tensor:
        """Return [task, pair] whether the answer's tokens differ from the numbers that it writes.

        They do for `12C34`: the answer `B1234E` reads as `B 123 4 E` under maximal munch.
        """
        merged = []
        for task, answers in zip(self.tasks, self.answers, strict=True):
            numbers = torch.tensor(answer_numbers(task, self.spec.digits))
            count = numbers.shape[1]
            padded = pad_to(answers, answers.shape[1] + count)
            same_numbers = padded[:, 1 : count + 1] == numbers + self.tokenizer.first_number
            merged.append(~same_numbers.all(dim=1) | (padded[:, count + 1] != EOS))
        return torch.stack(merged)

    def unseen_token(self) -> Tensor:
        """Return [task, pair] whether the answer has a token that training never shows there.

        *There* means at this position of an answer of this length: `175` ends the answer of `1C75`,
        and is followed by another number in that of `17C50`.
        """
        keys = token_keys(self.answers)
        shown = keys[self.splits == SPLITS.index("train")]
        return ~torch.isin(keys, shown.unique()).all(dim=-1)


def build_grid(spec: DataSpec) -> Grid:
    """Return every example of the spec's tasks, tokenised and split.

    Raises:
        UsageError: a rule without valid answers, an answer longer than the model has positions, or
            a task without examples to train on or to choose on.
    """
    tasks = find_tasks(spec.tasks)
    tokenizer = Tokenizer.for_tasks(tasks, spec.digits)
    size = 10**spec.digits
    a, b = map(_written, np.divmod(np.arange(size * size), size))
    prompts = [_join("B", a, task.symbol, b, "E") for task in tasks]
    numbers = [answer_numbers(task, spec.digits) for task in tasks]
    answers = [_join("B", *map(_written, columns.T), "E") for columns in numbers]
    answer_tokens = _tokens(tokenizer, answers)
    _check_lengths(spec, answer_tokens)
    return Grid(
        spec=spec,
        tasks=tasks,
        tokenizer=tokenizer,
        prompts=_tokens(tokenizer, prompts),
        answers=answer_tokens,
        splits=draw_splits(spec, answer_tokens),
    )


def _written(numbers: NDArray[np.int64]) -> NDArray[np.str_]:
    """Return [pair] numbers as strings."""
    return numbers.astype(f"U{len(str(numbers.max()))}")


def _join(*pieces: str | NDArray[np.str_]) -> NDArray[np.str_]:
    """Return [pair] strings, the pieces written side by side."""
    text: Any = reduce(np.strings.add, pieces)
    return text


def _tokens(tokenizer: Tokenizer, texts: Sequence[NDArray[np.str_]]) -> Tensor:
    """Return [task, pair, length] the token ids of each task's strings."""
    ids = tokenizer.encode_all(np.concatenate(texts))
    return torch.from_numpy(ids.reshape(len(texts), len(texts[0]), -1))


def _check_lengths(spec: DataSpec, answers: Tensor) -> None:
    limit = padded_length(spec.digits)
    if answers.shape[-1] > limit:
        task, pair = (answers[..., limit] != PAD).nonzero()[0].tolist()
        a, b = divmod(pair, 10**spec.digits)
        raise UsageError(
            f"task {spec.tasks[task]}: its answer for {a} and {b} is too long: {limit} tokens at "
            "most, with B and E"
        )


class StringDataset(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """A PyTorch `Dataset` of (prompt, answer) token rows, for use in a `DataLoader`.

    Args:
        examples: the examples to serve.
        length: tokens to pad every row to.
    """

    def __init__(self, examples: Examples, length: int):
        self.prompts = pad_to(examples.prompts, length)
        self.answers = pad_to(examples.answers, length)

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.prompts[index], self.answers[index]


def pad_to(tokens: Tensor, length: int) -> Tensor:
    """Return [n, length] the same rows, filled up with pads."""
    return torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]), value=PAD)


def padded_length(digits: int) -> int:
    """Return the length of the longest prompt string and one pad: 8 for two digits."""
    return 2 * digits + 4
