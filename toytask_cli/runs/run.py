"""One run directory: made once, then read strictly.

runs/01/
  config.json              recipe, device, precision, versions; enough to rebuild everything
  model.safetensors        the best weights
  checkpoint.safetensors   the state at the last finished epoch, for --resume
  metrics.jsonl            one line an epoch
  reports/                 what the commands measured
  ablations/               sets of neurons, bound to the weights by their sha256
  figures/
"""

import shlex
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError, unknown_choice
from toytask_cli.model import Transformer
from toytask_cli.runs import ablation_files, files, json_files, paths, tensor_files
from toytask_cli.runs.checksums import read_sealed, write_sealed
from toytask_cli.runs.config import Config
from toytask_cli.runs.metrics import read_metrics
from toytask_cli.runs.weights import Weights


class Run:
    """A run directory that exists.

    Args:
        path: the directory.
        config: what its `config.json` says.
    """

    def __init__(self, path: Path, config: Config):
        self.path = path
        self.config = config

    @classmethod
    def create(cls, config: Config, out: Path | None = None) -> "Run":
        """A new directory: the next free number under `runs/`, or `out`.

        It is a run once `write_config` has written its configuration.

        Raises:
            ToytaskError: `out` is there and not empty, or the disk does not take it.
        """
        paths.refuse_bytes(out)
        try:
            path = paths.claim_number(paths.RUNS) if out is None else paths.claim(out)
        except OSError as error:
            raise ToytaskError(f"cannot make {error.filename}: {error.strerror}") from error
        run = cls(path, config)
        run.prepare()
        return run

    @classmethod
    def open(cls, path: Path | None) -> "Run":
        """An existing run; None takes the newest that has weights, else `runs/reference`.

        Raises:
            ToytaskError: there is none, or its configuration cannot be read.
        """
        paths.refuse_bytes(path)
        path = paths.newest() if path is None else path
        if not path.is_dir():
            raise ToytaskError(f"there is no run at {path}: {paths.known_runs()}")
        config = json_files.read(path / "config.json", f"{path} is no run; {paths.known_runs()}")
        return cls(path, Config.from_json(config, str(path / "config.json")))

    @property
    def config_file(self) -> Path:
        """The configuration."""
        return self.path / "config.json"

    @property
    def model_file(self) -> Path:
        """The best weights."""
        return self.path / paths.MODEL

    @property
    def checkpoint_file(self) -> Path:
        """The state for resuming."""
        return self.path / "checkpoint.safetensors"

    @property
    def metrics_file(self) -> Path:
        """One line for each epoch."""
        return self.path / "metrics.jsonl"

    def write_figure(self, name: str, png: bytes) -> None:
        """Writes `figures/<name>.png`."""
        files.write_bytes(self._folder("figures") / f"{name}.png", png)

    def has_figure(self, name: str) -> bool:
        """Whether `figures/<name>.png` is there."""
        return (self.path / "figures" / f"{name}.png").exists()

    def write_config(self) -> None:
        """Writes `config.json`."""
        json_files.write(self.config_file, self.config.to_json())

    @property
    def named(self) -> str:
        """Its path as it can be typed into a shell."""
        return shlex.quote(str(self.path))

    def grid(self) -> Grid:
        """The run's examples and split, built anew.

        Raises:
            ToytaskError: the weights that are there are of another configuration. It is told
                before a large grid is built.
        """
        if self.model_file.exists():
            self.weights.check()
        return build_grid(self.config.recipe)

    @property
    def weights(self) -> Weights:
        """The file of the best weights."""
        hint = f"go on with `toytask train --resume {self.named}`, train anew, or name another run"
        return Weights(self.model_file, self.config, self.config_file, hint)

    def model(self, grid: Grid, device: torch.device) -> Transformer:
        """The trained model, in float32.

        Raises:
            ToytaskError: training has not finished, or the file is cut, foreign, not the one that
                training reported on, or gives numbers that are not finite.
        """
        hint = self.weights.hint
        if not self.model_file.exists():
            raise ToytaskError(
                f"{self.path} has no model.safetensors yet: wait for its end, {hint}"
            )
        model = self.weights.read(len(grid.tokenizer))
        report = self.path / "reports" / "train.json"
        if report.exists():
            self._read_bound(report, hint)
        self.weights.try_out(model, grid)
        return model.to(device)

    def weights_sha256(self) -> str:
        """What binds reports and ablations to the weights they were made from."""
        return files.file_sha256(self.model_file, self.weights.hint)

    def write_report(self, name: str, report: Mapping[str, Any]) -> dict[str, Any]:
        """Writes `reports/<name>.json`, bound to run and weights; gives what was written."""
        return self._write_bound("reports", name, report)

    def read_report(self, name: str) -> dict[str, Any]:
        """Reads a report, refusing one that was made from other weights.

        Raises:
            ToytaskError: it is missing, cut, foreign, or made from other weights.
        """
        hint = f"make it with `toytask {name} {self.named}`"
        return self._read_bound(self.path / "reports" / f"{name}.json", hint)

    def write_ablation(self, name: str, report: Mapping[str, Any]) -> dict[str, Any]:
        """Writes `ablations/<name>.json`, bound to run and weights; gives what was written.

        Raises:
            ToytaskError: what `ablation_files.check_name` raises.
        """
        ablation_files.check_name(name)
        return self._write_bound("ablations", name, report)

    def read_ablation(self, name: str) -> dict[str, Any]:
        """Reads an ablation, with at least `neurons` and `error`, of these very weights.

        Raises:
            ToytaskError: there is none of this name, or it is cut, foreign, or of other weights.
        """
        ablation_files.check_name(name)
        names = self.ablation_names()
        path = self.path / "ablations" / f"{name}.json"
        if names and name not in names:
            raise ToytaskError(f"{path.parent}: {unknown_choice('ablation', name, names)}")
        hint = f"make it with `toytask ablate {self.named}`"
        report = self._read_bound(path, hint)
        ablation_files.check(path, report, self.config.recipe.d_sae, hint)
        return report

    def ablation_names(self) -> list[str]:
        """Names of the ablations that are there, in order; other files are passed over."""
        found = (path.stem for path in (self.path / "ablations").glob("*.json"))
        return sorted(name for name in found if ablation_files.NAME.fullmatch(name))

    def prepare(self) -> None:
        """Has all places to write to, so that what takes long does not fail at its end.

        Raises:
            ToytaskError: one leads elsewhere, or cannot be made.
        """
        for name in ("reports", "ablations", "figures"):
            self._folder(name)
        paths.refuse_link(self.metrics_file)

    def _folder(self, name: str) -> Path:
        """A folder of the run that can be written to: nothing is ever written outside.

        Raises:
            ToytaskError: it leads elsewhere, or cannot be made.
        """
        folder = self.path / name
        paths.refuse_link(folder)
        with files.writing(folder):
            folder.mkdir(exist_ok=True)
        return folder

    def _write_bound(self, folder: str, name: str, report: Mapping[str, Any]) -> dict[str, Any]:
        bound = {"run": str(self.path), "weights_sha256": self.weights_sha256(), **report}
        try:
            return write_sealed(self._folder(folder) / f"{name}.json", bound)
        except ValueError as error:
            raise self.weights.overflow() from error

    def _read_bound(self, path: Path, hint: str) -> dict[str, Any]:
        report = read_sealed(path, hint)
        self._check_weights(path, report, hint)
        return report

    def _check_weights(self, path: Path, bound: Mapping[str, Any], hint: str) -> None:
        if bound.get("weights_sha256") != self.weights_sha256():
            raise ToytaskError(f"{path} was made from other weights than {self.model_file}: {hint}")

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Writes `reports/<name>.safetensors`, bound to the weights."""
        if not all(tensor.isfinite().all() for tensor in tensors.values()):
            raise self.weights.overflow()
        metadata = {"weights_sha256": self.weights_sha256()}
        tensor_files.write(self._folder("reports") / f"{name}.safetensors", tensors, metadata)

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """Reads `reports/<name>.safetensors`, refusing what was made from other weights.

        Raises:
            ToytaskError: it is missing, cut, foreign, or made from other weights.
        """
        path = self.path / "reports" / f"{name}.safetensors"
        hint = f"make it with `toytask {name} {self.named}`"
        tensors = tensor_files.read(path, hint)
        self._check_weights(path, tensor_files.read_metadata(path, hint), hint)
        return tensors

    def read_metrics(self, epochs: int | None = None) -> list[dict[str, Any]]:
        """The first epochs in order, or all; raises what `metrics.read_metrics` raises."""
        return read_metrics(self.metrics_file, epochs)

    def remove_partial(self) -> None:
        """Removes what training was writing when it was killed; for the process that holds it."""
        for pattern in (".*", "reports/.train.json.*"):
            for left in self.path.glob(pattern + files.PARTIAL):
                with files.writing(left):
                    left.unlink()
