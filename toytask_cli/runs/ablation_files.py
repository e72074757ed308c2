"""What an ablation may be called, and what its file must say."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from toytask_cli.errors import ToytaskError, UsageError
from toytask_cli.hooks import check_error, checked_neurons

NAME = re.compile(r"\w[\w.+-]*")


def check_name(name: str) -> None:
    """Refuses a name whose files would lead elsewhere, or be those of another report.

    Raises:
        ToytaskError: saying why.
    """
    if not NAME.fullmatch(name):
        raise ToytaskError(f"{name!r} is no name: use letters, digits, and . _ + -")
    # `eval` writes eval-validation, eval-sample and eval-NAME; figures are NAME-curve.
    if (
        name in ("importance", "sample", "trained")
        or name.startswith("validation")
        or name.endswith("-sample")
    ):
        raise ToytaskError(f"{name!r} is what other files of a run are called: use another name")


def check(path: Path, report: Mapping[str, Any], d_sae: int, hint: str) -> None:
    """Refuses a report that does not say which neurons of an SAE to remove, and how.

    Raises:
        ToytaskError: saying what is missing or wrong, and `hint`.
    """
    neurons, error = report.get("neurons"), report.get("error")
    if not (isinstance(neurons, list) and all(type(i) is int for i in neurons)):
        raise ToytaskError(f"{path}: neurons is no list of numbers: {hint}")
    if not isinstance(error, str):
        raise ToytaskError(f"{path}: error is missing: {hint}")
    try:
        check_error(error)
        checked_neurons(neurons, d_sae)
    except UsageError as cause:
        raise ToytaskError(f"{path}: {cause}: {hint}") from cause
