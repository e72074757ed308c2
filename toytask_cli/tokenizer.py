"""The vocabulary, and maximal munch: reading always takes the longest token that matches.

The vocabulary is pad, `B` (begin), `E` (end), the tasks' symbols, then every number from 0 up.
With the default tasks that makes 204 tokens, and `B12C34E` reads as

    B  12  C  34  E      →  1 17 3 39 2
    B  123  4  E         →  1 128 9 2      (its answer: 123 is the longest match, not 12)
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from toytask_cli.answers import largest_number
from toytask_cli.errors import ToytaskError
from toytask_cli.tasks import TASKS, Task

PAD, BOS, EOS = 0, 1, 2


class UnknownCharacterError(ToytaskError):
    """A character that starts no token."""


class Tokenizer:
    """Strings to token ids and back.

    Args:
        symbols: the tasks' symbols, one character each.
        largest: the largest number that is a token, 9 or more.
    """

    def __init__(self, symbols: Sequence[str], largest: int):
        self.largest = largest
        self.tokens: tuple[str, ...] = (" ", "B", "E", *symbols, *map(str, range(largest + 1)))
        self.first_number = len(self.tokens) - largest - 1
        self._ids = {token: i for i, token in enumerate(self.tokens)}
        self._longest = len(str(largest))

    @classmethod
    def for_tasks(cls, tasks: Sequence[Task], digits: int) -> "Tokenizer":
        """Return the vocabulary for these tasks; it does not depend on their order."""
        symbols = [task.symbol for task in TASKS.values() if task in tasks]
        return cls(symbols, largest_number(tasks, digits))

    def __len__(self) -> int:
        return len(self.tokens)

    def encode(self, text: str) -> list[int]:
        """Return the token ids of one string, by greedy longest match.

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
        """Return the string of these tokens without pads."""
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

    def encode_all(self, texts: NDArray[np.str_]) -> NDArray[np.integer[Any]]:
        """Return [n, most tokens] the token ids of n strings, each as `encode` gives them.

        Raises:
            UnknownCharacterError: a character that starts no token.
        """
        # [n, character] the digit that a character is; negative for the other tokens.
        digits = self._character_ids(texts) - self.first_number
        end = np.strings.str_len(texts)
        rows, position, column = np.arange(len(texts)), np.zeros_like(end), 0
        ids = np.full((len(texts), end.max()), PAD, np.int16 if len(self) <= 2**15 else np.int32)
        while (position < end).any():
            number, length = digits[rows, position], np.ones_like(end)
            for more in range(1, self._longest):
                digit = digits[rows, position + more]
                longer = 10 * number + digit
                # A number begins with 0 only if it is 0.
                grows = (length == more) & (number > 0) & (digit >= 0) & (longer <= self.largest)
                number = np.where(grows, longer, number)
                length += grows
            ids[:, column] = number + self.first_number
            position = np.minimum(position + length, end)
            column += 1
        return ids[:, :column]

    def _character_ids(self, texts: NDArray[np.str_]) -> NDArray[np.int32]:
        """Return [n, character] each character's token id, with pads to read beyond the end."""
        codes = np.ascontiguousarray(texts).view(np.uint32).reshape(len(texts), -1)
        known = {ord(token): i for token, i in self._ids.items() if len(token) == 1}
        ids_by_code = np.full(max(known) + 2, -1, np.int32)
        ids_by_code[list(known)] = list(known.values())
        ids_by_code[0] = PAD  # NumPy fills short strings up with character 0
        ids = ids_by_code[np.minimum(codes, max(known) + 1)]
        unknown = (ids < 0).any(axis=1)
        if unknown.any():
            self.encode(str(texts[unknown][0]))  # raises the error that names the character
        return np.pad(ids, ((0, 0), (0, self._longest)), constant_values=PAD)
