"""A run directory: created once, then read strictly.

runs/01/
  config.json              recipe, device, precision, versions; enough to rebuild everything
  model.safetensors        the best weights
  checkpoint.safetensors   the state at the last finished epoch, for --resume
  metrics.jsonl            one line for each epoch
  reports/                 what the commands measured
  ablations/               sets of neurons, bound to the weights by their sha256
  attacks/                 the controls of its attacks, each a run of its own
  figures/
  report.html              all of it on one page
"""

from collections.abc import Mapping, Sequence
from hashlib import sha256
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from toytask_cli.dataset import Grid, build_grid
from toytask_cli.errors import ToytaskError, unknown_choice
from toytask_cli.hooks import check_error, checked_neurons
from toytask_cli.model import Transformer, empty_model
from toytask_cli.runs import files, paths, tensor_files
from toytask_cli.runs.config import Config
from toytask_cli.runs.metrics import read_metrics

CHECKED_PAIRS = 32


class Run:
    """An existing run directory.

    Reading raises a ToytaskError if a file is missing, cut, foreign, changed, or made from other
    weights or another configuration; writing raises a WriteError if the system refuses.

    Args:
        path: the directory.
        config: the contents of its `config.json`.
    """

    def __init__(self, path: Path, config: Config):
        self.path = path
        self.name = str(path)  # as reports name it; a run can be trained in another place
        self.config = config
        self.is_protected = False  # whether commands write into a copy: nobody named this run
        self.config_file = path / paths.CONFIG
        self.model_file = path / paths.MODEL
        self.checkpoint_file = path / "checkpoint.safetensors"
        self.metrics_file = path / "metrics.jsonl"
        self.shell_path = paths.as_typed(path)
        resume = f"`toytask train --resume {self.shell_path}`"
        self.weights_hint = f"go on with {resume}, train anew, or name another run"

    @classmethod
    def create(cls, config: Config, out: Path | None = None) -> "Run":
        """Create a directory: the next free number under `runs/`, or `out`, which must be empty.

        It becomes a run when `write_config` writes its configuration.
        """
        path = paths.create_numbered(paths.RUNS) if out is None else paths.create_empty(out)
        run = cls(path, config)
        run.create_folders()
        return run

    @classmethod
    def open(cls, path: Path | None) -> "Run":
        """Open a run; None opens the newest that has weights, else `runs/reference`."""
        is_named = path is not None
        path = paths.newest() if path is None else path
        source = path / paths.CONFIG
        if not path.is_dir():
            raise ToytaskError(f"there is no run at {path}: {paths.known_in_words()}")
        if not source.exists():
            raise ToytaskError(f"{path} is no run (no {paths.CONFIG}): {paths.known_in_words()}")
        with files.reading(source, "name another run, or train anew with `toytask train`"):
            run = cls(path, Config.from_json(files.read_json(source)))
        run.is_protected = not is_named and path in paths.REFERENCES
        return run

    def create_folders(self) -> None:
        """Create the output folders now, so that a long job fails early."""
        for name in ("reports", "ablations", "figures"):
            self._folder(name)
        paths.check_not_link(self.metrics_file)

    def _folder(self, name: str) -> Path:
        folder = self.path / name
        paths.check_not_link(folder)
        with files.writing(folder):
            folder.mkdir(exist_ok=True)
        return folder

    def control_path(self, kept: Sequence[str]) -> Path:
        """Return the directory of the control that is taught these tasks alone.

        Raises:
            ToytaskError: there is something there that is no run.
        """
        path = self._folder("attacks") / f"control-{'+'.join(kept)}"
        paths.check_not_link(path)
        if path.exists() and not (path / paths.CONFIG).exists():
            raise ToytaskError(f"{path} holds no run (no {paths.CONFIG}): remove it, and try again")
        return path

    def remove_partial_files(self) -> None:
        """Remove what a killed training was writing; only the process that trains may do so."""
        for pattern in (".*", "reports/.train.json.*"):
            for path in self.path.glob(pattern + files.PARTIAL):
                with files.writing(path):
                    path.unlink()

    def write_config(self) -> None:
        """Write `config.json`."""
        files.write_json(self.config_file, self.config.to_json())

    def read_metrics(self, epochs: int | None = None) -> list[dict[str, Any]]:
        """Read the records of the first epochs, or of all."""
        return read_metrics(self.metrics_file, epochs)

    # Weights

    def grid(self) -> Grid:
        """Build the run's examples and split."""
        return build_grid(self.config.recipe)

    def model(self, grid: Grid, device: torch.device) -> Transformer:
        """Read the trained model, in float32, and refuse one whose outputs are not finite."""
        model = self.read_saved_model(grid)
        report = self.path / "reports" / "train.json"
        if report.exists():
            self._read_bound(report, self.weights_hint)
        self._check_outputs(model, grid)
        return model.to(device)

    def read_saved_model(self, grid: Grid) -> Transformer:
        """Read the weights into a model on the CPU, even if the train report is not of them."""
        with files.reading(self.model_file, self.weights_hint):
            weights, metadata = tensor_files.read(self.model_file)
            fingerprint = self.config.fingerprint()
            # Weights that a person wrote have no fingerprint.
            if metadata.get(paths.CONFIG, fingerprint) != fingerprint:
                raise ToytaskError(f"does not fit {self.config_file}")
            model = empty_model(self.config.recipe, len(grid.tokenizer))
            tensor_files.check_layout(weights, model.state_dict(), self.config_file)
        model.load_state_dict(weights)
        return model.eval()

    def write_weights(self, weights: Mapping[str, Tensor]) -> None:
        """Write the best weights, bound to the configuration."""
        tensor_files.write(self.model_file, weights, {paths.CONFIG: self.config.fingerprint()})

    def weights_sha256(self) -> str:
        """Return the sha256 of the file of weights, to which reports and ablations are bound."""
        with files.reading(self.model_file, self.weights_hint):
            content = files.read_bytes(self.model_file, tensor_files.MAX_BYTES)
        return sha256(content).hexdigest()

    @torch.no_grad()
    def _check_outputs(self, model: Transformer, grid: Grid) -> None:
        pairs = torch.linspace(0, grid.n_pairs - 1, CHECKED_PAIRS).long()
        for task in range(len(grid.tasks)):
            examples = grid.examples(torch.full_like(pairs, task), pairs)
            outputs = model(examples.prompts, examples.answers[:, :-1])
            if not all(tensor.isfinite().all() for tensor in outputs):
                raise self._overflow()

    def _overflow(self) -> ToytaskError:
        numbers = "gives numbers that are not finite"
        return ToytaskError(f"{self.model_file} {numbers}: {self.weights_hint}")

    # Reports

    def complete_report(self, report: Mapping[str, Any]) -> dict[str, Any]:
        """Return a report as it is written: bound to the weights, with a checksum."""
        bound = {"run": self.name, "weights_sha256": self.weights_sha256(), **report}
        try:
            return files.with_checksum(bound)
        except ValueError as error:
            raise self._overflow() from error

    def write_report(self, name: str, report: Mapping[str, Any]) -> dict[str, Any]:
        """Write `reports/<name>.json`, bound to the weights; return what was written."""
        return self._write_bound("reports", name, report)

    def read_report(self, name: str) -> dict[str, Any]:
        """Read `reports/<name>.json`."""
        return self._read_bound(self.path / "reports" / f"{name}.json", self._command_hint(name))

    def write_ablation(self, name: str, report: Mapping[str, Any]) -> dict[str, Any]:
        """Write `ablations/<name>.json`, bound to the weights; return what was written."""
        paths.check_ablation_name(name)
        return self._write_bound("ablations", name, report)

    def read_ablation(self, name: str) -> dict[str, Any]:
        """Read `ablations/<name>.json`, which has at least valid `neurons` and `error`."""
        paths.check_ablation_name(name)
        names, hint = self.ablation_names(), self._command_hint("ablate")
        path = self.path / "ablations" / f"{name}.json"
        if names and name not in names:
            raise ToytaskError(f"{path.parent}: {unknown_choice('ablation', name, names)}")
        report = self._read_bound(path, hint)
        neurons, error = report.get("neurons"), report.get("error")
        with files.reading(path, hint):
            if not (isinstance(neurons, list) and all(type(i) is int for i in neurons)):
                raise ToytaskError("neurons is not a list of integers")
            if not isinstance(error, str):
                raise ToytaskError("error is missing")
            check_error(error)
            checked_neurons(neurons, self.config.recipe.d_sae)
        return report

    def ablation_names(self) -> list[str]:
        """Return the names of the ablations, in order."""
        return paths.ablation_names(self.path)

    def write_tensors(self, name: str, tensors: Mapping[str, Tensor]) -> None:
        """Write `reports/<name>.safetensors`, bound to the weights."""
        if not tensor_files.is_finite(tensors):
            raise self._overflow()
        path = self._folder("reports") / f"{name}.safetensors"
        tensor_files.write(path, tensors, {"weights_sha256": self.weights_sha256()})

    def read_tensors(self, name: str) -> dict[str, Tensor]:
        """Read `reports/<name>.safetensors`."""
        path, expected = self.path / "reports" / f"{name}.safetensors", self.weights_sha256()
        with files.reading(path, self._command_hint(name)):
            tensors, metadata = tensor_files.read(path)
            self._check_bound(metadata, expected)
        return tensors

    def _write_bound(self, folder: str, name: str, report: Mapping[str, Any]) -> dict[str, Any]:
        complete = self.complete_report(report)
        path = self._folder(folder) / f"{name}.json"
        files.write_bytes(path, files.json_bytes(complete))
        return complete

    def _read_bound(self, path: Path, hint: str) -> dict[str, Any]:
        expected = self.weights_sha256()
        with files.reading(path, hint):
            report = files.read_json(path)
            self._check_bound(report, expected)
        return report

    def _check_bound(self, values: Mapping[str, Any], expected: str) -> None:
        if values.get("weights_sha256") != expected:
            raise ToytaskError(f"made from other weights than {self.model_file}")

    def _command_hint(self, command: str) -> str:
        return f"make it with `toytask {command} {self.shell_path}`"

    def write_figure(self, name: str, png: bytes) -> None:
        """Write `figures/<name>.png`."""
        files.write_bytes(self._folder("figures") / f"{name}.png", png)

    def has_figure(self, name: str) -> bool:
        """Return whether `figures/<name>.png` exists."""
        return (self.path / "figures" / f"{name}.png").exists()

    def write_page(self, html: bytes) -> Path:
        """Write `report.html`; return its path."""
        path = self.path / paths.PAGE
        files.write_bytes(path, html)
        return path
