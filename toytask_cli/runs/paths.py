"""Where runs are: numbered directories under `runs/`, and the reference run."""

from pathlib import Path

from toytask_cli.errors import ToytaskError

RUNS = Path("runs")
REFERENCE = RUNS / "reference"
MODEL = "model.safetensors"
TRAIN_FIRST = "train a model with `toytask train`"


def claim_number(root: Path) -> Path:
    """The next free number: mkdir either makes it for us alone or fails."""
    root.mkdir(parents=True, exist_ok=True)
    number = max([0, *(int(p.name) for p in root.iterdir() if p.name.isdecimal())])
    while True:
        number += 1
        path = root / f"{number:02d}"
        try:
            path.mkdir()
            return path
        except FileExistsError:
            continue


def claim(out: Path) -> Path:
    """A directory of the user's choice, new or empty.

    Raises:
        ToytaskError: it is not empty, or cannot be made.
    """
    try:
        out.mkdir(parents=True, exist_ok=True)
        if not any(out.iterdir()):
            return out
    except OSError as error:
        raise ToytaskError(f"cannot make {out}: {error.strerror}") from error
    raise ToytaskError(f"{out} is not empty: name a new directory with --out")


def newest() -> Path:
    """The run with the highest number, else the reference run.

    Runs that have weights come before those that have none, or none yet.

    Raises:
        ToytaskError: there is neither.
    """
    numbered = [run for run in _made() if run.name.isdecimal()]
    if numbered:
        return max(numbered, key=lambda p: ((p / MODEL).exists(), int(p.name)))
    if REFERENCE.is_dir():
        return REFERENCE
    raise ToytaskError(f"there is no run under {RUNS}/ yet: {TRAIN_FIRST}")


def known_runs() -> str:
    """The runs that are there, or how to get one."""
    there = [str(run) for run in _made()]
    return f"there are {', '.join(there[-5:])}" if there else TRAIN_FIRST


def _made() -> list[Path]:
    """The runs under `runs/`; none where that cannot be read."""
    try:
        return sorted(config.parent for config in RUNS.glob("*/config.json"))
    except OSError:
        return []


def refuse_bytes(path: Path | None) -> None:
    """Refuses a name that is no text: safetensors files under it could be written, not read."""
    try:
        str(path).encode()
    except UnicodeEncodeError as error:
        raise ToytaskError(f"the name {path} is no UTF-8: use another directory") from error


def refuse_link(path: Path) -> None:
    """Refuses a link: what is written through it would lie outside the run."""
    if path.is_symlink():
        raise ToytaskError(f"{path} is a link, through which nothing is written: remove it")
