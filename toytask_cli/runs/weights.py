"""Weights on disk, bound to the configuration that they were trained by."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from toytask_cli.analysis.generate import teacher_forced
from toytask_cli.dataset import Grid
from toytask_cli.errors import ToytaskError
from toytask_cli.model import Transformer, empty_model, n_weights
from toytask_cli.recipe import Recipe
from toytask_cli.runs import files, tensor_files
from toytask_cli.runs.config import Config
from toytask_cli.tasks import find_tasks
from toytask_cli.tokenizer import Tokenizer

TRIED = 32  # pairs
CONFIG = "config"  # the name under which a file keeps the sha256 of its configuration


@dataclass(frozen=True)
class Weights:
    """A file of weights.

    Args:
        path: the file, which need not be there.
        config: what the weights were trained by.
        config_file: where that is from.
        hint: the next step to name in an error.
    """

    path: Path
    config: Config
    config_file: Path
    hint: str

    def write(self, weights: Mapping[str, Tensor]) -> None:
        """Makes these the run's weights."""
        tensor_files.write(self.path, weights, {CONFIG: self.config.sha256(with_epochs=False)})

    def check(self) -> None:
        """Refuses a file that, by its size and by what it says, is of another configuration.

        Nothing is made or read yet: a model never takes much more memory than its file.

        Raises:
            ToytaskError: it is, or it is missing, cut or foreign.
        """
        metadata = tensor_files.read_metadata(self.path, self.hint)
        spare = files.file_size(self.path, self.hint) - n_bytes(self.config.recipe)
        ours = self.config.sha256(with_epochs=False)
        if not 0 <= spare <= tensor_files.LARGEST_HEADER or metadata.get(CONFIG, ours) != ours:
            raise ToytaskError(f"{self.path} does not fit {self.config_file}: {self.hint}")

    def read(self, vocabulary: int) -> Transformer:
        """The model with these weights, in float32 on the CPU.

        Args:
            vocabulary: number of tokens.

        Raises:
            ToytaskError: the file is missing, cut, foreign, changed, or of another configuration.
        """
        self.check()
        largest = n_bytes(self.config.recipe) + tensor_files.LARGEST_HEADER
        tensors = tensor_files.read(self.path, self.hint, largest)
        model = empty_model(self.config.recipe, vocabulary)
        expected = model.state_dict()
        tensor_files.check_layout(self.path, tensors, expected, self.config_file, self.hint)
        model.load_state_dict(tensors)
        return model.eval()

    def try_out(self, model: Transformer, grid: Grid) -> None:
        """Looks at what the model gives for some examples, before anything is measured or said.

        Raises:
            ToytaskError: numbers that are not finite.
        """
        pairs = torch.linspace(0, grid.n_pairs - 1, TRIED).long()
        for examples in grid.matched(pairs):
            for _, out in teacher_forced(model, examples):
                if not all(tensor.isfinite().all() for tensor in out):
                    raise self.overflow()

    def overflow(self) -> ToytaskError:
        """What to raise where these weights, finite as they are, give numbers that are not."""
        return ToytaskError(f"{self.path} gives numbers that are not finite: {self.hint}")


def n_bytes(recipe: Recipe) -> int:
    """How much room the weights take; none are made."""
    tokenizer = Tokenizer.for_tasks(find_tasks(recipe.tasks), recipe.digits)
    return 4 * n_weights(recipe, len(tokenizer))
