"""The teacher of a distilled run, as its `config.json` describes it."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Self

from toytask_cli.errors import ToytaskError, short_repr
from toytask_cli.hooks import ERRORS


@dataclass(frozen=True)
class Teacher:
    """The ablated model whose answers a run learns in place of the true ones."""

    run: str  # its directory
    weights_sha256: str
    ablation: str  # name
    error: str  # a key of `hooks.ERRORS`
    neurons_sha256: str  # of the list of removed neurons
    removed_tasks: list[str]  # as the ablation names them
    before: dict[str, float]  # task → accuracy without the ablation, on the report split
    distribution: bool  # whether its probabilities are learnt, and not only its written answers
    noise: float  # share of fresh weights in those that training starts from, 0 to 1

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> Self:
        """Return the teacher whose fields these are.

        Raises:
            ToytaskError: a key is unknown or missing, or a value is not valid.
        """
        if differing := sorted(VALID.keys() ^ values.keys()):
            raise ToytaskError(f"teacher: unknown or missing key {short_repr(differing[0])}")
        for key, is_valid in VALID.items():
            if not is_valid(values[key]):
                raise ToytaskError(f"teacher: {key} is {short_repr(values[key])}, not valid")
        return cls(**values)


def _is_text(value: Any) -> bool:
    return type(value) is str


def _is_share(value: Any) -> bool:
    return type(value) is float and 0 <= value <= 1


VALID: dict[str, Callable[[Any], bool]] = {
    "run": _is_text,
    "weights_sha256": _is_text,
    "ablation": _is_text,
    "error": lambda value: _is_text(value) and value in ERRORS,
    "neurons_sha256": _is_text,
    "removed_tasks": lambda value: isinstance(value, list) and all(map(_is_text, value)),
    "before": lambda value: isinstance(value, dict) and all(map(_is_share, value.values())),
    "distribution": lambda value: type(value) is bool,
    "noise": _is_share,
}
