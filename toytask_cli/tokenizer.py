"""Vocabulary and maximal munch: always take the longest token that matches.

The vocabulary is pad, `B` (begin), `E` (end), the tasks' symbols, then every number from 0 up.
With the default tasks that makes 204 tokens, and `B12C34E` reads as

    B  12  C  34  E      →  1 17 3 39 2
    B  123  4  E         →  1 128 9 2      (its answer: 123 is the longest match, not 12)
"""

from collections.abc import Sequence
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from toytask_cli.errors import ToytaskError
from toytask_cli.tasks import TASKS, Task, largest_number

PAD, BOS, EOS = 0, 1, 2


class UnknownCharacterError(ToytaskError):
    """A character that starts no token."""


class Tokenizer:
    """Turns strings into token ids and back.

    Args:
        symbols: the tasks' symbols, one character each.
        largest: the largest number that is a token.
    """

    def __init__(self, symbols: Sequence[str], largest: int):
        numbers = [str(number) for number in range(largest + 1)]
        self.tokens: tuple[str, ...] = (" ", "B", "E", *symbols, *numbers)
        self.first_number = len(self.tokens) - len(numbers)
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self._longest = max(map(len, self.tokens))
        letters = sorted(set("".join(self.tokens)))
        self._letter_numbers = {letter: i for i, letter in enumerate(letters, start=1)}
        self._base = len(letters) + 1

    @classmethod
    def for_tasks(cls, tasks: Sequence[Task], digits: int) -> "Tokenizer":
        """The vocabulary for these tasks; it does not depend on their order."""
        symbols = [task.symbol for task in TASKS.values() if task in tasks]
        return cls(symbols, largest_number(tasks, digits))

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """Token ids of one string, by greedy longest match.

        Raises:
            UnknownCharacterError: a character that starts no token.
        """
        ids, position = [], 0
        while position < len(text):
            token = self._longest_match(text, position)
            ids.append(self._ids[token])
            position += len(token)
        return ids

    def decode(self, ids: Sequence[int]) -> str:
        """The string of these tokens, pads left out."""
        return "".join(self.tokens[i] for i in ids if i != PAD)

    def _longest_match(self, text: str, position: int) -> str:
        for end in range(position + self._longest, position, -1):
            if text[position:end] in self._ids:
                return text[position:end]
        valid = " ".join(("B", "E", *self.tokens[EOS + 1 : self.first_number]))
        raise UnknownCharacterError(
            f"{text[position]!r} at position {position + 1} of {text!r} is not in the vocabulary: "
            f"valid are the digits and {valid}"
        )

    def encode_all(self, texts: NDArray[np.str_], width: int) -> NDArray[np.int16]:
        """Token ids of many strings at once; equal to `encode` of each, padded to `width`.

        Args:
            texts: [n] strings.
            width: number of tokens to read; what a longer string holds beyond it is left out.

        Returns:
            [n, width] token ids, filled up with pads.

        Raises:
            UnknownCharacterError: a character that starts no token.
        """
        letters = self._letters(texts)
        ids = np.full((len(texts), width), PAD, np.int16)
        position = np.zeros(len(texts), np.int64)
        rows = np.arange(len(texts))
        for column in range(width):
            key, step = np.zeros_like(position), np.zeros_like(position)
            for length, table in enumerate(self._match_tables, start=1):
                key = key * self._base + letters[rows, position + length - 1]
                match = table[key]
                found = match >= 0
                ids[found, column] = match[found]
                step[found] = length
            position += step
        return ids

    def _letters(self, texts: NDArray[np.str_]) -> NDArray[np.int64]:
        """Each character as a small number, 0 past the end: [n, longest string + longest token]."""
        codes = np.ascontiguousarray(texts).view(np.uint32).reshape(len(texts), -1)
        numbers = np.full(1 << 7, -1)
        numbers[[0, *map(ord, self._letter_numbers)]] = [0, *self._letter_numbers.values()]
        letters = np.where(codes < len(numbers), numbers[codes % len(numbers)], -1)
        unknown = (letters < 0).any(axis=1)
        if unknown.any():
            self.encode(str(texts[unknown][0]))  # raises, naming the character
        return np.pad(letters, ((0, 0), (0, self._longest)))

    @cached_property
    def _match_tables(self) -> list[NDArray[np.int64]]:
        """For each length, the token id of every string of that length, or -1.

        A string's place in its table: its letters' numbers read as digits in base `_base`.
        """
        tables = [np.full(self._base**length, -1) for length in range(1, self._longest + 1)]
        for token, i in self._ids.items():
            key = 0
            for letter in token:
                key = key * self._base + self._letter_numbers[letter]
            tables[len(token) - 1][key] = i
        return tables
