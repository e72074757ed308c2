"""Paths of runs: under `runs/`, or the reference run; and names of ablations."""

import re
import shlex
from contextlib import suppress
from itertools import count
from pathlib import Path

from toytask_cli.errors import ToytaskError
from toytask_cli.runs.files import WriteError, writing

RUNS = Path("runs")
STUDY_PREFIX = "study-"
# The first there is, the second in the wheel; written into only if the user names it.
REFERENCES = (RUNS / "reference", Path(__file__).parents[1] / "reference")
CONFIG = "config.json"
MODEL = "model.safetensors"
PAGE = "report.html"
RUN_ID = re.compile(r"\w[\w.+-]*-\d+")  # of a study: ends in a number, unlike its folders
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
    """Return the newest run under `runs/`, or the reference if there is no other.

    Raises:
        ToytaskError: there is no run at all.
    """
    if runs := known_runs():
        return runs[-1]
    raise ToytaskError(f"there is no run under {RUNS}/ yet: {TRAIN_FIRST}")


def known_runs() -> list[Path]:
    """Return the reference and the runs under `runs/`, the newest last.

    Runs without weights come before all others. A run is as old as its weights.
    """
    try:
        runs = {config.parent for config in RUNS.glob(f"*/{CONFIG}")}
        references = [run for run in reversed(REFERENCES) if (run / CONFIG).exists()]
    except OSError:
        return []
    return references + sorted(runs.difference(REFERENCES), key=_newness)


def _newness(run: Path) -> tuple[bool, int, int, str]:
    """Return a key to sort runs by; of two that are equally old, the larger number is newer."""
    for file in (MODEL, CONFIG):
        with suppress(OSError):
            return file == MODEL, (run / file).stat().st_mtime_ns, len(run.name), run.name
    return False, 0, 0, run.name


def known_in_words() -> str:
    """Name the newest few runs, or the command that makes one."""
    runs = [str(run) for run in known_runs()]
    return f"there are {', '.join(runs[-5:])}" if runs else TRAIN_FIRST


def ablation_names(run: Path) -> list[str]:
    """Return the names of a run's ablations, in order; files of other names are ignored."""
    stems = (path.stem for path in (run / "ablations").glob("*.json"))
    return sorted(filter(ABLATION_NAME.fullmatch, stems))


def report_names(run: Path) -> list[str]:
    """Return the names of a run's reports, in order."""
    return sorted(path.stem for path in (run / "reports").glob("*.json"))


def as_typed(path: Path) -> str:
    """Return a path as it can be typed into a shell: quoted, and never like an option."""
    return shlex.quote(f"./{path}" if str(path).startswith("-") else str(path))


def check_not_link(path: Path) -> None:
    """Raise a WriteError for a link, through which a write would leave the run."""
    if path.is_symlink():
        raise WriteError(f"{path} is a link, through which nothing is written: remove it")


def check_ablation_name(name: str) -> None:
    """Raise a ToytaskError for a name whose files would be elsewhere or belong to other reports."""
    if not ABLATION_NAME.fullmatch(name):
        raise ToytaskError(
            f"{name!r} cannot name an ablation: use letters, digits, and . _ + -, and no name that "
            "other files of a run have"
        )
