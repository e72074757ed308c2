"""What the tests share: a tiny recipe, a tiny run truly trained, and the command itself."""

import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from toytask_cli import recipe
from toytask_cli.cli.app import main
from toytask_cli.errors import ToytaskError
from toytask_cli.recipe import Recipe, resolve
from toytask_cli.runs.run import Run
from toytask_cli.sae import SAE_CLASSES, SparseAutoencoder
from toytask_cli.studies.one_run import train_and_measure
from toytask_cli.studies.workers import LocalRuns, RunFailedError

TINY = {
    "digits": 1,
    "d_model": 32,
    "n_heads": 2,
    "d_ff": 64,
    "d_sae": 48,
    "batch_size": 32,
    "epochs": 12,
    "separate_epochs": 4,
    "learnt_accuracy": 0.2,
    "train_fraction": 0.5,
}
# Long enough to get all of concat and most of sum right, in some seconds.
COMPETENT = TINY | {
    "d_model": 64, "epochs": 50, "separate_epochs": 15, "learnt_accuracy": 0.9, "lr": 0.004,
    "train_fraction": 0.6, "batch_size": 24,
}  # fmt: skip

# Long enough to get all of concat and some of sum right, in a second or two.
SMALL = TINY | {"epochs": 30, "separate_epochs": 8, "batch_size": 16}
SAE_WITH = {"k": "topk", "target_l0": "jumprelu"}  # field → the kind of SAE that has it


def options(fields: dict[str, object]) -> list[str]:
    """The command line that asks for these fields."""
    pairs = ((f"--{key.replace('_', '-')}", str(value)) for key, value in fields.items())
    return [part for pair in pairs for part in pair]


TINY_OPTIONS = options(TINY)
STUDY = ["--seeds", "0-1", "--split-seeds", "0-1", "--precision", "float32"]

TOYTASK = [sys.executable, "-m", "toytask_cli"]  # in a process of its own


def environment(**more: str) -> dict[str, str]:
    """Return variables of a `toytask` in its own process, where Python does as for most."""
    unusual = ("PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE")
    plain = {name: value for name, value in os.environ.items() if name not in unusual}
    return {**plain, "OMP_NUM_THREADS": "1", "TERM": "xterm-256color", **more}


def all_files(place: Path) -> dict[Path, bytes]:
    """Return what every file below a place holds."""
    return {path: path.read_bytes() for path in place.rglob("*") if path.is_file()}


def cut(path: Path) -> None:
    """Takes the end of a file away, as a full disk would."""
    path.write_bytes(path.read_bytes()[:-10])


torch.set_num_threads(1)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


# Files whose tests share what takes long to make: one worker of `pytest -n` runs all of a group.
PAGES = ("test_study_", "test_report")
ALONE = (
    "test_attack_command", "test_distill_command", "test_hostile_runs", "test_killed",
    "test_reference", "test_trust",
)  # fmt: skip


class Together(LoadScopeScheduling):
    """Hands out tests one by one, but for those that share something."""

    def _split_scope(self, nodeid: str) -> str:
        name = Path(nodeid.split("::", maxsplit=1)[0]).stem
        return "pages" if name.startswith(PAGES) else name if name in ALONE else nodeid


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Together:
    return Together(config, log)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--rounds", type=int, help="rounds of each test of robustness; default: few")


@pytest.fixture
def rounds(request: pytest.FixtureRequest) -> int | None:
    """Return how often a test of robustness tries, or None for its own small number."""
    return request.config.getoption("--rounds")


@pytest.fixture(autouse=True)
def denormals_count() -> Iterator[None]:
    """A training has the process flush them; the next test is not to notice."""
    torch.set_flush_denormal(False)
    yield
    torch.set_flush_denormal(False)


@pytest.fixture
def tiny() -> Recipe:
    return resolve("default", TINY)


class AbsoluteSAE(SparseAutoencoder):
    """A further kind, f = |p|, without a penalty: one class and one name are all it takes."""

    class Absolute(torch.nn.Module):
        def forward(self, pre_acts: torch.Tensor) -> torch.Tensor:
            return pre_acts.abs()

    def __init__(self, recipe: Recipe):
        super().__init__(recipe, self.Absolute())

    def sparsity_penalty(self, l1: torch.Tensor, l0: torch.Tensor) -> torch.Tensor:
        return torch.zeros_like(l1)


@pytest.fixture
def absolute_sae(monkeypatch: pytest.MonkeyPatch) -> str:
    """The name of a further kind of SAE, known while a test runs."""
    monkeypatch.setattr(recipe, "SAE_KINDS", (*recipe.SAE_KINDS, "absolute"))
    monkeypatch.setitem(SAE_CLASSES, "absolute", AbsoluteSAE)
    return "absolute"


def run_main(patch: pytest.MonkeyPatch, *args: object) -> int:
    """Run `toytask ARGS` in this process, and return its exit code."""
    patch.setattr(sys, "argv", ["toytask", *map(str, args)])
    with pytest.raises(SystemExit) as left:
        main()
    return int(left.value.code or 0)


@pytest.fixture
def toytask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `toytask ARGS` in this process, in the current directory."""

    def run(*args: object) -> Result:
        capsys.readouterr()
        code = run_main(monkeypatch, *args)
        said = capsys.readouterr()
        return Result(code, said.out, said.err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `toytask train` made a competent `runs/01`."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        assert run_main(patch, "train", "--no-figures", *options(COMPETENT)) == 0
    return place


@pytest.fixture(scope="session")
def studied(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `toytask study` made `runs/study-01`: two seeds, two splits."""
    place = tmp_path_factory.mktemp("studied")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(LocalRuns, "train", train_here)
        assert run_main(patch, "study", *options(SMALL), *STUDY, "--jobs", 2) == 0
    return place


def train_here(_: LocalRuns, job: Mapping[str, Any]) -> dict[str, bytes]:
    """Does a job of a study in this process, which has loaded PyTorch, in place of another."""
    with tempfile.TemporaryDirectory() as directory:
        try:
            train_and_measure(job, Path(directory))
        except ToytaskError as error:
            raise RunFailedError(str(error)) from error
        files = all_files(Path(directory))
        return {str(path.relative_to(directory)): content for path, content in files.items()}


@pytest.fixture
def studies_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Has a study train its runs in this process."""
    monkeypatch.setattr(LocalRuns, "train", train_here)


@pytest.fixture
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An empty directory to work in."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def run(trained: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """The competent run, its directory to work in."""
    monkeypatch.chdir(trained)
    return Run.open(None)


@pytest.fixture(scope="session")
def measured(trained: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a run of which everything is measured."""
    place = tmp_path_factory.mktemp("measured")
    others = shutil.ignore_patterns("ablations", "figures")  # what other tests have made
    shutil.copytree(trained / "runs", place / "runs", ignore=others)
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        for command in (
            ["eval"], ["sparsity"], ["importance"],
            ["ablate", "--remove", "concat", "--tolerance", "0.1"], ["ablate", "--remove", "sum"],
        ):  # fmt: skip
            assert run_main(patch, *command, "--no-figures") == 0
    return place


@pytest.fixture
def measured_run(measured: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """A copy of the run, its directory to work in."""
    shutil.copytree(measured / "runs", tmp_path / "runs")
    monkeypatch.chdir(tmp_path)
    return Run.open(None)
