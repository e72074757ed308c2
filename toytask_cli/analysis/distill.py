"""The lesson that a model with an ablation gives: what it writes for prompts, and how likely."""

from contextlib import ExitStack
from dataclasses import replace

import torch
from torch import Tensor
from torch.nn.functional import pad

from toytask_cli.analysis.generate import Variant
from toytask_cli.dataset import Grid
from toytask_cli.model import Transformer
from toytask_cli.tokenizer import BOS, PAD


def written_answers(model: Transformer, grid: Grid, variant: Variant) -> Grid:
    """Return the grid with a variant's own answers, written greedily, in place of the true ones.

    Those of the test split are left empty: nobody learns from them.
    """
    answers = torch.full_like(grid.answers, PAD)
    for split in ("train", "validation"):
        examples = grid.split(split)
        ids, _ = variant.decode(model, grid, examples)
        ids *= (ids != PAD).cumprod(dim=1)  # a pad that the model writes ends its answer
        answers[examples.tasks, examples.pairs] = pad(ids, (1, 0), value=BOS).to(answers.dtype)
    return replace(grid, answers=answers)


class AblatedDistribution:
    """A model's probabilities with an ablation, which stays applied to it.

    Args:
        model: nobody else may use it.
        variant: the ablation.
    """

    def __init__(self, model: Transformer, variant: Variant):
        self.model = model
        self._ablation = ExitStack()
        self._ablation.enter_context(variant.applied_to(model))

    @torch.no_grad()
    def __call__(self, prompts: Tensor, answers: Tensor) -> Tensor:
        """Token ids as in `Transformer.forward` → [n, length, vocabulary] probabilities."""
        return self.model.readout(self.model.residual(prompts, answers)).softmax(dim=-1)


@torch.no_grad()
def shrink_and_noise(model: Transformer, teacher: Transformer, noise: float) -> None:
    """Set fresh weights to (1 − A) · the teacher's + A · fresh, with A the noise from 0 to 1.

    As in UNDO (Lee et al., "Distillation Robustifies Unlearning", 2025). 0 leaves the teacher's
    weights, 1 the fresh ones.
    """
    for weight, taught in zip(model.parameters(), teacher.parameters(), strict=True):
        weight.lerp_(taught.to(weight), 1 - noise)
