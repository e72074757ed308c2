"""Paths of runs: numbered under `runs/`, or the reference run; and names of ablations."""

import re
from itertools import count
from pathlib import Path

from toytask_cli.errors import ToytaskError
from toytask_cli.runs.files import writing

RUNS = Path("runs")
REFERENCE = RUNS / "reference"
CONFIG = "config.json"
MODEL = "model.safetensors"
TRAIN_FIRST = "train a model with `toytask train`"
# `eval` writes eval-validation, eval-sample and eval-NAME, and figures are NAME-curve: a name must
# not lead to the files of another report.
ABLATION_NAME = re.compile(r"(?!validation|(importance|sample|trained)$|.*-sample$)\w[\w.+-]*")


def create_numbered(root: Path, prefix: str = "") -> Path:
    """Create the directory of the next free number; mkdir succeeds for one process only."""
    with writing(root):
        root.mkdir(parents=True, exist_ok=True)
        for number in count(max(numbered(root, prefix), default=0) + 1):
            path = root / f"{prefix}{number:02d}"
            try:
                path.mkdir()
                break
            except FileExistsError:
                continue
    return path


def numbered(root: Path, prefix: str) -> dict[int, Path]:
    """Return number → path of what is named `<prefix>01` and so on under a directory."""
    names = {path.name.removeprefix(prefix): path for path in root.glob(f"{prefix}*")}
    return {int(number): path for number, path in names.items() if number.isdecimal()}


def create_empty(path: Path) -> Path:
    """Create a directory, or accept one that is empty.

    Raises:
        ToytaskError: it is not empty, cannot be created, or a report could not name it.
    """
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ToytaskError(f"the name {path} is no UTF-8: use another directory") from error
    with writing(path):
        path.mkdir(parents=True, exist_ok=True)
        if any(path.iterdir()):
            raise ToytaskError(f"{path} is not empty: name a new directory with --out")
    return path


def newest() -> Path:
    """Return the run with the highest number, one with weights if there is any, else the reference.

    Raises:
        ToytaskError: there is no run at all.
    """
    numbered = [run for run in _runs() if run.name.isdecimal()]
    if numbered:
        return max(numbered, key=lambda run: ((run / MODEL).exists(), int(run.name)))
    if REFERENCE.is_dir():
        return REFERENCE
    raise ToytaskError(f"there is no run under {RUNS}/ yet: {TRAIN_FIRST}")


def known_runs() -> str:
    """Name the last few runs, or the command that makes one."""
    runs = [str(run) for run in _runs()]
    return f"there are {', '.join(runs[-5:])}" if runs else TRAIN_FIRST


def _runs() -> list[Path]:
    try:
        return sorted(config.parent for config in RUNS.glob(f"*/{CONFIG}"))
    except OSError:
        return []


def check_not_link(path: Path) -> None:
    """Raise a ToytaskError for a link, through which a write would leave the run."""
    if path.is_symlink():
        raise ToytaskError(f"{path} is a link, through which nothing is written: remove it")


def check_ablation_name(name: str) -> None:
    """Raise a ToytaskError for a name whose files would be elsewhere or belong to other reports."""
    if not ABLATION_NAME.fullmatch(name):
        raise ToytaskError(
            f"{name!r} cannot name an ablation: use letters, digits, and . _ + -, and no name that "
            "other files of a run have"
        )
