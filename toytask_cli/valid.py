"""The valid values of a configuration's fields, and their checks."""

from collections.abc import Callable
from typing import Any, NamedTuple

from toytask_cli.errors import ToytaskError, UsageError, short_repr

MAX_DIGITS = 3
LARGEST_INT = 2**63 - 1
SMALLEST_FLOAT, LARGEST_FLOAT = 2.0**-126, (2 - 2**-23) * 2.0**127  # of float32


class Valid(NamedTuple):
    """The valid values of a field, in words and as a check."""

    words: str
    check: Callable[[float], bool]


ZERO_OR_MORE = Valid("0 or more", lambda value: value >= 0)
ONE_OR_MORE = Valid("1 or more", lambda value: value >= 1)
POSITIVE = Valid("more than 0", lambda value: value > 0)
SHARE = Valid("0 to 1", lambda value: 0 <= value <= 1)
INNER_SHARE = Valid("more than 0 and less than 1", lambda value: 0 < value < 1)
DIGITS = Valid(f"1 to {MAX_DIGITS}", lambda value: 1 <= value <= MAX_DIGITS)


def key_of(name: str) -> str:
    """Return the JSON key of a field: `lambda` for `lambda_`."""
    return name.rstrip("_")


def as_type(kind: Any, value: Any, where: str) -> Any:
    """Return a JSON value as a field's type, or raise a ToytaskError that names `where`."""
    if type(value) is int and abs(value) > LARGEST_INT:
        raise ToytaskError(f"{where} is {short_repr(value)}, which is too large")
    if kind is float and type(value) is int:
        return float(value)
    if kind == tuple[str, ...] and type(value) is list and all(type(v) is str for v in value):
        return tuple(value)
    if type(value) is not kind:
        name = "list of names" if kind == tuple[str, ...] else kind.__name__
        raise ToytaskError(f"{where} is {short_repr(value)}, which is no {name}")
    return value


def check_value(name: str, value: Any, valid: Valid | None) -> None:
    """Raise a UsageError for a number that is too large, not finite or not valid."""
    if isinstance(value, int):
        require(value <= LARGEST_INT, name, value, f"{LARGEST_INT} at most")
    if isinstance(value, float):
        is_held = value == 0 or SMALLEST_FLOAT <= abs(value) <= LARGEST_FLOAT
        held = f"a finite number, 0 or {SMALLEST_FLOAT:.2g} to {LARGEST_FLOAT:.2g} in size"
        require(is_held, name, value, held)
    if valid:
        require(valid.check(value), name, value, valid.words)


def require(condition: bool, name: str, value: Any, valid: str) -> None:
    """Raise a UsageError that says what is valid, unless the condition holds."""
    if not condition:
        raise UsageError(f"{key_of(name)} is {value}: must be {valid}")
