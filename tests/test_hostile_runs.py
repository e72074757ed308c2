"""Whatever happens to its files, a command gives right numbers, or one line that names the file.

`pytest tests/test_hostile_runs.py --rounds 2000 -s` does it 2,000 times and prints a table;
`-k "[17-"` repeats round 17. A round copies a trained run, mutates it, and runs commands on it.
"""

import io
import json
import re
import resource
import shutil
import signal
import subprocess
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import redirect_stderr, redirect_stdout, suppress
from hashlib import sha256
from pathlib import Path
from random import Random
from types import FrameType
from typing import NamedTuple

import pytest
import torch
from conftest import COMPETENT, TOYTASK, Command, Result, environment, run_main
from mutations import MUTATIONS
from mutations.victim import DATA, GIGABYTE, RUN, Victim
from rich.console import Console

from toytask_cli.cli.chat.commands import run_command
from toytask_cli.cli.chat.session import Chat
from toytask_cli.cli.common import open_run
from toytask_cli.dataset import build_grid
from toytask_cli.errors import ToytaskError
from toytask_cli.recipe import resolve
from toytask_cli.runs.data_files import write_data
from toytask_cli.runs.session import Session

ROUNDS = 30
IN_PROCESS = 53  # rounds of which one is repeated in a process of its own
SECONDS = 60  # after which a command hangs; the slowest takes one
CPU = torch.device("cpu")
ABLATIONS = ("off-concat", "off-sum")
PIPED = b"4+7\n4C7\n3C9\n"

COMMANDS: dict[str, tuple[str, ...]] = {
    "eval": ("eval", RUN, "--json", "--no-figures"),
    "eval with figures": ("eval", RUN, "--json", "--limit", "5"),
    "eval --ablation": ("eval", RUN, "--json", "--no-figures", "--ablation", ABLATIONS[0]),
    "sparsity": ("sparsity", RUN, "--json", "--no-figures"),
    "importance": ("importance", RUN, "--json", "--no-figures"),
    "ablate": ("ablate", RUN, "--json", "--no-figures", "--remove", "sum", "--tolerance", "0.3"),
    "chat": ("chat", RUN, "--json", "--ablation", ABLATIONS[0], "--ablation", ABLATIONS[1]),
    "chat :neuron": (":neuron", "3"),
    "train --resume": ("train", "--resume", RUN, "--json", "--no-figures"),
    "train --data": (
        "train", "--data", DATA, "--out", "new", "--json", "--no-figures", "--epochs", "2",
        "--separate-epochs", "0", "--d-model", "32", "--d-ff", "32", "--d-sae", "48",
    ),
}  # fmt: skip

# Weights that were written with a checksum are other weights, and have numbers of their own if any.
OTHER_WEIGHTS = "weights that overflow, with checksum"

# What a command reads, so that a mutation of it is looked for there.
READERS = {
    "config.json": [name for name in COMMANDS if name != "train --data"],
    "model.safetensors": ["eval", "sparsity", "importance", "ablate", "chat"],
    "train.json": ["eval", "sparsity", "importance", "ablate", "chat"],
    "checkpoint.safetensors": ["train --resume"],
    "metrics.jsonl": ["train --resume"],
    "importance.safetensors": ["chat :neuron"],
    "manifest.json": ["train --data"],
    "tokens.safetensors": ["train --data"],
    "off-concat.json": ["eval --ablation", "chat"],
    "off-sum.json": ["chat"],
    "ablations": ["ablate", "chat"],
    "figures": ["eval with figures"],
    "reports": ["eval", "sparsity", "importance"],
}


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    if "seed" in metafunc.fixturenames:
        rounds = metafunc.config.getoption("--rounds") or ROUNDS
        kinds = [*MUTATIONS, "two at once"]
        step = IN_PROCESS if "process" in metafunc.function.__name__ else 1
        seeds = range(0, rounds, step)
        metafunc.parametrize(("seed", "kind"), [(i, kinds[i % len(kinds)]) for i in seeds])


# The tree, and the results of the commands before anything happens to it


@pytest.fixture(scope="module")
def sound(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """`runs/01`, interrupted three epochs before its end, with all reports; and `data`."""
    root = tmp_path_factory.mktemp("sound")
    recipe = resolve("default", COMPETENT | {"d_model": 32, "separate_epochs": 25})
    silence = redirect_stdout(io.StringIO()), redirect_stderr(io.StringIO())
    with pytest.MonkeyPatch.context() as patch, silence[0], silence[1]:
        patch.chdir(root)
        session = Session.start(recipe, CPU, torch.float32, Path(RUN))
        last = recipe.epochs - 3
        session.train(stop=lambda: session.trainer.progress.epoch == last)
        assert session.trainer.progress.epoch == last
        write_data(build_grid(recipe.data_spec()), Path(DATA))
        for command in (
            ["importance", RUN, "--no-figures"],
            ["ablate", RUN, "--no-figures", "--remove", "concat", "--name", ABLATIONS[0]],
            ["ablate", RUN, "--no-figures", "--remove", "sum", "--name", ABLATIONS[1]],
            ["sparsity", RUN, "--no-figures"],
            ["eval", RUN],
        ):
            assert run_main(patch, *command) == 0
    return root


@pytest.fixture
def try_command(toytask: Command, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], Result]:
    """Runs a row of `COMMANDS` in the current directory, in some seconds or not at all."""

    def late(number: int, frame: FrameType | None) -> None:
        raise TimeoutError(f"still running after {SECONDS} s")

    def run(name: str) -> Result:
        monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(PIPED)))
        before = signal.signal(signal.SIGALRM, late)
        signal.alarm(SECONDS)
        try:
            return _look_at_neuron() if name == "chat :neuron" else toytask(*COMMANDS[name])
        finally:
            signal.alarm(0)
            signal.signal(signal.SIGALRM, before)

    return run


def _look_at_neuron() -> Result:
    """`:neuron 3` in a chat; that importance is not known is its error."""
    shown = Console(file=io.StringIO(), width=1000)
    try:
        shown.print(run_command(Chat(*open_run(Path(RUN), "cpu"), seed=0), ":neuron 3"))
    except ToytaskError as error:
        return Result(error.exit_code, "", f"error: {error}\n")
    text = shown.file.getvalue()  # type: ignore[attr-defined]
    if match := re.search(r"importance is not known: (.*)", text, re.DOTALL):
        return Result(1, "", f"error: {match[1].strip()}\n")
    return Result(0, json.dumps(text), "")


@pytest.fixture(scope="module")
def expected() -> dict[str, "Sound"]:
    """Command → its numbers on the sound tree; filled as they are asked for."""
    return {}


@pytest.fixture(scope="module")
def outcomes(request: pytest.FixtureRequest) -> Iterator[Counter[tuple[str, int]]]:
    """(kind, exit code) → how often; printed at the end."""
    counts: Counter[tuple[str, int]] = Counter()
    yield counts
    if request.config.getoption("--rounds"):
        print(f"\n\n{'mutation':32} {'commands':>8} {'exit 0':>8} {'exit 1':>8}")
        for kind in dict.fromkeys(kind for kind, _ in counts):
            right, line = counts[kind, 0], counts[kind, 1]
            print(f"{kind:32} {right + line:8,} {right:8,} {line:8,}")


def numbers(result: Result) -> object:
    """Return what a command measured, without how long it took and which weights it names."""

    def without(value: object) -> object:
        if isinstance(value, dict):
            left_out = ("seconds", "weights_sha256", "sha256", "run")
            return {k: without(v) for k, v in value.items() if k not in left_out}
        return [without(v) for v in value] if isinstance(value, list) else value

    return [without(json.loads(text)) for text in _objects(result.out)]


def _objects(text: str) -> list[str]:
    """A report, or a line for each prompt."""
    lines = text.splitlines()
    return lines if all(line.startswith("{") and line.endswith("}") for line in lines) else [text]


def _tree(root: Path) -> dict[Path, str]:
    """Every path under this one, with what is there."""
    return {path: _content(path) for path in root.rglob("*")}


def _content(path: Path) -> str:
    if path.is_symlink():
        return str(path.readlink())
    if not path.is_file():
        return "directory" if path.is_dir() else "pipe"
    size = path.stat().st_size
    return sha256(path.read_bytes()).hexdigest() if size < GIGABYTE else str(size)


def _memory() -> int:
    """The most bytes that this process ever had in memory."""
    unit = 1 if sys.platform == "darwin" else 1024
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * unit


class Sound(NamedTuple):
    """A command on the sound tree."""

    numbers: object
    memory: int  # the most bytes that the process had ever had in memory by then


@pytest.fixture
def measured(
    sound: Path, expected: dict[str, Sound], try_command: Callable[[str], Result],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> Callable[[str], Sound]:  # fmt: skip
    """Return the results of a command on the sound tree."""

    def measure(name: str) -> Sound:
        if name not in expected:
            shutil.copytree(sound, tmp_path / "sound")
            with monkeypatch.context() as patch:
                patch.chdir(tmp_path / "sound")
                result = try_command(name)
            assert result.code == 0, result.err
            expected[name] = Sound(numbers(result), _memory())
            shutil.rmtree(tmp_path / "sound")
        return expected[name]

    return measure


# The rounds


def test_a_mutated_run_gives_right_numbers_or_one_line(
    seed: int, kind: str, sound: Path, measured: Callable[[str], Sound],
    try_command: Callable[[str], Result], outcomes: Counter[tuple[str, int]],
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    random = Random(seed)
    root, touched = mutated(sound, tmp_path, kind, random)
    monkeypatch.chdir(root)
    for name in commands(touched, random):
        where = f"seed {seed}, {kind} ({', '.join(map(repr, touched))}), {name}"
        right, before = measured(name), _tree(tmp_path)
        result = try_command(name)
        judge(result, right.numbers, touched, where, kind)
        outcomes[kind, result.code] += 1
        assert _memory() - right.memory < GIGABYTE, where
        shutil.rmtree(root / "new", ignore_errors=True)
        changed = {path for path, _ in before.items() ^ _tree(tmp_path).items()}
        assert all(path.is_relative_to(root / RUN) for path in changed), where
        assert result.code == 0 or not changed or "/figures" in result.err, where


def test_a_process_of_its_own_prints_the_same(
    seed: int, kind: str, sound: Path, measured: Callable[[str], Sound],
    try_command: Callable[[str], Result], tmp_path: Path, monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root, touched = mutated(sound, tmp_path, kind, Random(seed))
    right = measured("eval")
    monkeypatch.chdir(root)
    done = subprocess.run(
        [*TOYTASK, *COMMANDS["eval"]],
        env=environment(), capture_output=True, text=True, check=False, timeout=SECONDS,
    )  # fmt: skip
    result = Result(done.returncode, done.stdout, done.stderr)
    judge(result, right.numbers, touched, f"seed {seed}, {kind}", kind)
    assert try_command("eval") == result


def test_the_page_of_a_mutated_run_is_written_or_refused_in_one_line(
    seed: int, kind: str, sound: Path, toytask: Command, tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:  # fmt: skip
    root, touched = mutated(sound, tmp_path, kind, Random(seed))
    monkeypatch.chdir(root)
    before = _tree(tmp_path)
    result = toytask("report", RUN)
    where = f"seed {seed}, {kind} ({', '.join(map(repr, touched))}): {result}"
    if result.code == 0:
        assert Path(RUN, "report.html").read_text().endswith("</html>"), where
    else:
        assert (result.code, result.out, result.err.count("\n")) == (1, "", 1), where
        assert result.err.startswith("error: "), where
    changed = {path for path, _ in before.items() ^ _tree(tmp_path).items()}
    assert changed <= {root / RUN / "report.html"}, where


def mutated(sound: Path, parent: Path, kind: str, random: Random) -> tuple[Path, list[Path]]:
    """A mutated copy of the sound tree, and the paths that were touched, as commands see them."""
    root, outside = parent / "root", parent / "outside"
    shutil.copytree(sound, root)
    outside.mkdir()
    (outside / "file").write_text("{}")
    victim = Victim(root, outside, random)
    if kind in MUTATIONS:
        touched = MUTATIONS[kind](victim)
    else:
        kinds = [name for name in MUTATIONS if name != OTHER_WEIGHTS]
        first, second = victim.random.sample(kinds, 2)
        touched = MUTATIONS[first](victim)
        with suppress(Exception):  # the first may have left nothing to mutate
            touched += MUTATIONS[second](victim)
    return root, [path.relative_to(root) for path in touched]


def commands(touched: list[Path], random: Random) -> list[str]:
    """One that reads what was touched, and one of all; training on comes last, as it changes
    what others measure."""
    readers = [name for path in touched for name in READERS.get(path.name, ["eval"])]
    first = random.choice(readers)
    second = random.choice([name for name in COMMANDS if name != first])
    return sorted([first, second], key=lambda name: name == "train --resume")


def judge(result: Result, right: object, touched: list[Path], where: str, kind: str) -> None:
    """Right numbers, or one line that names the file; both where they could not be written."""
    details = f"{where}\n{result}"
    assert "Traceback" not in result.err, details
    assert all(c.isprintable() or c == "\n" for c in result.err), details
    if result.code == 0:
        assert numbers(result) == right or kind == OTHER_WEIGHTS, details
        return
    assert result.code == 1, details
    assert not result.out or numbers(result) == right, details
    assert result.err.startswith("error: "), details
    assert result.err.count("\n") == 1, details
    named = any(path.stem in result.err for path in touched)
    assert named or (kind == OTHER_WEIGHTS and "train it longer" in result.err), details
