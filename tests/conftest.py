"""What the tests share: a tiny recipe, a tiny run truly trained, and the command itself."""

import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import pytest
import torch

from toytask_cli.cli.app import main
from toytask_cli.recipe import Recipe, resolve

TINY = {
    "digits": 1,
    "d_model": 32,
    "n_heads": 2,
    "d_ff": 64,
    "d_sae": 48,
    "batch_size": 16,
    "epochs": 12,
    "separate_epochs": 4,
    "learnt_accuracy": 0.2,
    "train_fraction": 0.5,
}
TINY_OPTIONS = [
    part for key, value in TINY.items() for part in (f"--{key.replace('_', '-')}", str(value))
]

torch.set_num_threads(1)


@dataclass(frozen=True)
class Result:
    """What a command left behind."""

    code: int
    out: str
    err: str


Command = Callable[..., Result]


@pytest.fixture
def tiny() -> Recipe:
    return resolve("default", TINY)


@pytest.fixture
def toytask(monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> Command:
    """Runs `toytask ARGS` in this process, in the current directory."""

    def run(*args: object) -> Result:
        capsys.readouterr()
        monkeypatch.setattr(sys, "argv", ["toytask", *map(str, args)])
        with pytest.raises(SystemExit) as left:
            main()
        said = capsys.readouterr()
        return Result(int(left.value.code or 0), said.out, said.err)

    return run


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory in which `toytask train` made `runs/01` from the tiny recipe."""
    place = tmp_path_factory.mktemp("trained")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(place)
        patch.setattr(sys, "argv", ["toytask", "train", "--no-figures", *TINY_OPTIONS])
        with pytest.raises(SystemExit) as left:
            main()
    assert not left.value.code
    return place
