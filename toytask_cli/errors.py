"""Errors that a user can fix: one line that says what is wrong and what to do next."""

from collections.abc import Iterable
from difflib import get_close_matches
from typing import Any

LONGEST = 80  # characters of a value that are shown


class ToytaskError(Exception):
    """An error that a user can fix. Shown as one red line; the exit code is 1."""

    exit_code = 1


class UsageError(ToytaskError):
    """A value that no run accepts. The exit code is 2."""

    exit_code = 2


class NoPairsError(ToytaskError):
    """There is no operand pair to measure the neurons on."""


def unknown_choice(kind: str, name: str, known: Iterable[str]) -> UsageError:
    """Return the error for an unknown name; `cncat` gets the suggestion `concat`."""
    known = list(known)
    close = get_close_matches(name[:LONGEST], known, n=1)
    hint = f"did you mean {close[0]!r}? " if close else ""
    return UsageError(f"unknown {kind} {short_repr(name)}: {hint}choose from {', '.join(known)}")


def short_repr(value: Any) -> str:
    """Return the repr of an untrusted value: one printable line, not long."""
    return shorten(repr(value))


def shorten(text: str, longest: int = LONGEST) -> str:
    """Return the first characters of a text, and `…` where there are more."""
    return text if len(text) <= longest else f"{text[:longest]}…"
