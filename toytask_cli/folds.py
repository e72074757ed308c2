"""Folds of cross-validation: `fold-2-of-5` tests the second of five disjoint fifths."""

import re
from typing import NamedTuple

PATTERN = re.compile(r"fold-([1-9]\d{0,5})-of-([1-9]\d{0,5})")


class Fold(NamedTuple):
    """The fold that is tested, and how many there are."""

    number: int  # from 1
    total: int  # 2 or more


def parse_fold(text: str) -> Fold | None:
    """Return the fold that a text names, or None if it names none."""
    match = PATTERN.fullmatch(text)
    fold = Fold(*map(int, match.groups())) if match else None
    return fold if fold and fold.number <= fold.total >= 2 else None


def fold_names(total: int) -> list[str]:
    """Return the names of all folds: `fold-1-of-2`, `fold-2-of-2`."""
    return [f"fold-{number}-of-{total}" for number in range(1, total + 1)]
