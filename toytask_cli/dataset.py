"""The grid of all examples as token tensors, its split into parts, and matched pairs.

Tensors are laid out [task, pair, ...], where pair = a · 10^digits + b, so the twins `12+34` and
`12C34` share an index. Sequences are cut to the longest real prompt and answer.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace

import numpy as np
import torch
from torch import Tensor

from toytask_cli.errors import ToytaskError, UsageError, unknown_choice
from toytask_cli.recipe import DataSpec
from toytask_cli.rng import generator
from toytask_cli.tasks import Task, find_tasks
from toytask_cli.tokenizer import BOS, EOS, PAD, Tokenizer

SPLITS = ("train", "validation", "test")


@dataclass(frozen=True)
class Examples:
    """Some examples of the grid, one a row."""

    prompts: Tensor  # [n, prompt length] token ids, int64 as all here
    answers: Tensor  # [n, answer length] token ids, `B` first
    tasks: Tensor  # [n] index into the grid's tasks
    pairs: Tensor  # [n] a · 10^digits + b

    def __len__(self) -> int:
        return len(self.prompts)

    def take(self, rows: Tensor | slice) -> "Examples":
        """The examples of these rows, in this order."""
        return self._each(lambda tensor: tensor[rows])

    def to(self, device: torch.device | str) -> "Examples":
        """The same examples on a device."""
        return self._each(lambda tensor: tensor.to(device))

    def cut(self) -> "Examples":
        """The same with no column of answers that holds pads alone."""
        length = int((self.answers != PAD).sum(dim=1).max())
        return replace(self, answers=self.answers[:, :length])

    def batches(self, size: int) -> Iterator["Examples"]:
        """All examples in order, up to `size` at a time."""
        for start in range(0, len(self), size):
            yield self.take(slice(start, start + size))

    def _each(self, change: Callable[[Tensor], Tensor]) -> "Examples":
        return Examples(*(change(getattr(self, field.name)) for field in fields(self)))


@dataclass(frozen=True)
class Grid:
    """All examples of all tasks, and the part each one belongs to."""

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
        """Where accuracy is reported: test, or validation in a split that has no test part."""
        return "test" if (self.splits == SPLITS.index("test")).any() else "validation"

    def split(self, name: str) -> Examples:
        """All examples of one part, task by task.

        Raises:
            UsageError: a part that does not exist.
        """
        if name not in SPLITS:
            raise unknown_choice("split", name, SPLITS)
        tasks, pairs = torch.nonzero(self.splits == SPLITS.index(name), as_tuple=True)
        return self.examples(tasks, pairs)

    def examples(self, tasks: Tensor, pairs: Tensor) -> Examples:
        """The examples of these tasks at these pairs, [n] and [n]."""
        prompts, answers = self.prompts[tasks, pairs].long(), self.answers[tasks, pairs].long()
        return Examples(prompts, answers, tasks, pairs)

    def matched(self, pairs: Tensor) -> list[Examples]:
        """For each task, the examples at these pairs: row j of each is a twin of the others'."""
        return [self.examples(torch.full_like(pairs, t), pairs) for t in range(len(self.tasks))]

    def matched_pairs(self) -> tuple[Tensor, Tensor]:
        """Pairs to choose neurons on, and other pairs to report on; no twin was trained on.

        Validation and test pairs. Where the split has no test part, the pairs that are validation
        for every task are halved, by a draw that depends on the split's seed alone.

        Raises:
            ToytaskError: a split by example left no such pairs.
        """
        choose, report = self._pairs_in("validation"), self._pairs_in("test")
        if self.report_split != "test":
            draw = generator(self.spec.split_seed, "halves")
            order = torch.randperm(len(choose), generator=draw)
            halves = choose[order].tensor_split(2)
            choose, report = (half.sort().values for half in halves)
        if not (len(choose) and len(report)):
            raise ToytaskError(
                "no operand pair is in one unseen split for every task: train with --split-by pair"
            )
        return choose, report

    def _pairs_in(self, name: str) -> Tensor:
        return torch.nonzero((self.splits == SPLITS.index(name)).all(dim=0))[:, 0]

    def operands(self, pairs: Tensor) -> tuple[Tensor, Tensor]:
        """The two operands of each pair, [n] and [n]."""
        size = 10**self.spec.digits
        return pairs // size, pairs % size

    def index_of(self, task: Task, a: int, b: int) -> tuple[int, int]:
        """Where an example is in the tensors: its task's index and its pair."""
        return self.tasks.index(task), a * 10**self.spec.digits + b

    def split_of(self, task: Task, a: int, b: int) -> str:
        """The name of the part that an example is in."""
        return SPLITS[int(self.splits[self.index_of(task, a, b)])]

    def merged_tokens(self) -> Tensor:
        """[task, pair] whether the answer's tokens are other than the numbers it is made of.

        `B12C34E` is: its answer `B1234E` reads as `B 123 4 E` under maximal munch.
        """
        a, b = (operand.numpy() for operand in self.operands(torch.arange(self.n_pairs)))
        rows = [self._plain_tokens(task.numbers(a, b)) for task in self.tasks]
        return torch.from_numpy(np.stack(rows) != self.answers.numpy()).any(dim=-1)

    def unseen_token(self) -> Tensor:
        """[task, pair] whether the answer has a token that training never shows so.

        That is, at this place of an answer of this length: `175` ends the answer of `1C75`, and
        goes on in that of `17C50`. Some are rare: `0` is the sum of one pair alone.
        """
        rows = []
        for shown, splits in zip(_token_and_length(self.answers), self.splits, strict=True):
            taught = shown[splits == SPLITS.index("train")]
            places = zip(shown.T, taught.T, strict=True)
            rows.append(torch.stack([~torch.isin(s, t.unique()) for s, t in places]).any(dim=0))
        return torch.stack(rows)

    def _plain_tokens(self, numbers: Sequence[np.ndarray]) -> np.ndarray:
        """[pair, answer length] one token for each number of the answer."""
        tokens = np.full((self.n_pairs, self.answers.shape[-1]), PAD, np.int16)
        tokens[:, 0] = BOS
        for column, number in enumerate(numbers, start=1):
            tokens[:, column] = number + self.tokenizer.first_number
        tokens[:, len(numbers) + 1] = EOS
        return tokens


def build_grid(spec: DataSpec) -> Grid:
    """Every example of the spec's tasks, tokenised, and the split. The same spec, the same grid.

    Raises:
        UsageError: a part to train on, or to choose on, that has no example of some task.
    """
    tasks = find_tasks(spec.tasks)
    tokenizer = Tokenizer.for_tasks(tasks, spec.digits)
    size = 10**spec.digits
    a, b = np.divmod(np.arange(size * size), size)
    names = np.array(tokenizer.tokens[tokenizer.first_number :])
    prompts = [_join("B", names[a], task.symbol, names[b], "E") for task in tasks]
    answers = [_join("B", *(names[number] for number in task.numbers(a, b)), "E") for task in tasks]
    answer_tokens = _tokens(tokenizer, answers)
    return Grid(
        spec=spec,
        tasks=tasks,
        tokenizer=tokenizer,
        prompts=_tokens(tokenizer, prompts),
        answers=answer_tokens,
        splits=_draw_splits(spec, answer_tokens),
    )


def _join(*pieces: str | np.ndarray) -> np.ndarray:
    """Pieces written side by side: [pair] strings."""
    text = pieces[0]
    for piece in pieces[1:]:
        text = np.strings.add(text, piece)
    return np.asarray(text)


def _tokens(tokenizer: Tokenizer, texts: Sequence[np.ndarray]) -> Tensor:
    """[task, pair, length] token ids, cut to the longest string's tokens."""
    width = max(text.dtype.itemsize for text in texts) // 4
    ids = np.stack([tokenizer.encode_all(text, width) for text in texts])
    return torch.from_numpy(ids[..., : int((ids != PAD).sum(axis=-1).max())].copy())


def _draw_splits(spec: DataSpec, answers: Tensor) -> Tensor:
    """[task, pair] the part of every example: a random order, cut at the fractions."""
    n_tasks, n_pairs, _ = answers.shape
    n = n_pairs if spec.split_by == "pair" else n_tasks * n_pairs
    n_train = round(n * spec.train_fraction)
    n_validation = min(round(n * spec.validation_fraction), n - n_train)
    order = torch.randperm(n, generator=generator(spec.split_seed, "split"))
    if spec.split_by == "pair":
        order = _cover_tokens_first(order, answers)
    splits = torch.full((n,), SPLITS.index("test"), dtype=torch.uint8)
    splits[order[:n_train]] = SPLITS.index("train")
    splits[order[n_train : n_train + n_validation]] = SPLITS.index("validation")
    splits = splits.view(-1, n_pairs).expand(n_tasks, n_pairs).contiguous()
    for name in ("train", "validation"):
        has_some = (splits == SPLITS.index(name)).any(dim=1).tolist()
        if not all(has_some):
            task = spec.tasks[has_some.index(False)]
            raise UsageError(
                f"no example of {task} is left for the {name} split: change its fraction"
            )
    return splits


def _cover_tokens_first(order: Tensor, answers: Tensor) -> Tensor:
    """Return the same pairs, those first that show an answer token for the first time.

    If it is large enough for these pairs, the training part shows every token at every place of an
    answer of every length that has it there. By chance alone one concatenation in 40 of the test
    part has a token that was never taught so: that would measure the draw, not what was learnt.
    """
    columns = _token_and_length(answers[:, order]).permute(0, 2, 1).flatten(0, 1).numpy()
    firsts = [np.unique(column, return_index=True)[1] for column in columns]
    teaches = torch.zeros(len(order), dtype=torch.bool)
    teaches[np.concatenate(firsts)] = True
    return torch.cat([order[teaches], order[~teaches]])


def _token_and_length(answers: Tensor) -> Tensor:
    """[task, pair, place] a number for each token and length of answer together."""
    length = (answers != PAD).sum(dim=-1, keepdim=True).to(torch.int32)
    return answers * (answers.shape[-1] + 1) + length


class StringDataset(torch.utils.data.Dataset[tuple[Tensor, Tensor]]):
    """Examples as a PyTorch `Dataset` of (prompt, answer) token rows, for use in a `DataLoader`.

    Args:
        examples: what to hold.
        length: pad every row to this many tokens.
    """

    def __init__(self, examples: Examples, length: int):
        self.prompts = pad_to(examples.prompts, length)
        self.answers = pad_to(examples.answers, length)

    def __len__(self) -> int:
        return len(self.prompts)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        return self.prompts[index], self.answers[index]


def pad_to(tokens: Tensor, length: int) -> Tensor:
    """[n, length] the same rows, filled up with pads."""
    return torch.nn.functional.pad(tokens, (0, length - tokens.shape[1]), value=PAD)


def padded_length(digits: int) -> int:
    """Length of the longest prompt string and one pad: 8 for two digits."""
    return 2 * digits + 4
