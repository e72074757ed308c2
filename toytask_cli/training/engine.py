"""One training step, and one pass over the validation part."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.dataset import Examples
from toytask_cli.device import products_are_dear
from toytask_cli.model import Output, Transformer
from toytask_cli.objective import Coefficients, Sums, Terms, combine, exact_match, measure, one_hot
from toytask_cli.recipe import Recipe
from toytask_cli.tokenizer import PAD
from toytask_cli.training.packing import PackedWeights
from toytask_cli.training.replay import Recording, Replay, Work


class Validation(NamedTuple):
    """What one pass over the validation part says."""

    terms: dict[str, float]  # the loss and its terms
    accuracy: list[float]  # exact match of each task
    l0: float  # neurons that fire at a position, on average
    dead_neurons: int  # neurons that fire nowhere

    @classmethod
    def of(cls, found: Sequence[float]) -> "Validation":
        """From the numbers that `Engine.validate` gives, in that order."""
        n_terms = len(Terms._fields)
        return cls(
            terms=dict(zip(Terms._fields, found[:n_terms], strict=True)),
            l0=found[n_terms],
            dead_neurons=int(found[n_terms + 1]),
            accuracy=list(found[n_terms + 2 :]),
        )


class Engine:
    """Takes training steps and measures, on one device and in one precision.

    On CUDA a step is recorded once and replayed, and so is validation: the same arithmetic, with
    rate and coefficients read from the device and nothing read back before an epoch's end.

    Args:
        recipe: the objective, the optimiser's settings, the batch size.
        model: on the device already, with the weights to start from; it stays as it is.
        n_tasks: number of tasks.
        precision: the type that all but embeddings and losses are computed in.
        record: how to record work for replaying; None computes everything anew each time.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Transformer,
        n_tasks: int,
        precision: torch.dtype,
        record: Callable[[Work], Recording] | None = None,
    ):
        self.recipe = recipe
        self.model = deepcopy(model)
        self.n_tasks = n_tasks
        self.weights = PackedWeights(self.model, precision)
        self.vectors = self.weights.vectors
        device = next(model.parameters()).device
        self.spares_pads = products_are_dear(precision, device)
        self.rate, *self.coefficients = torch.zeros(4, device=device)
        self.optimizer = torch.optim.AdamW(
            self.vectors.values(),
            lr=self.rate,
            weight_decay=recipe.weight_decay,
            fused=True,
            capturable=device.type == "cuda",
        )
        self._start_optimizer()
        self._do_step: Callable[..., Tensor] = self._step
        self._do_validate: Callable[..., Tensor] = self._validate
        if record:
            self._do_step = Replay(self._step, lambda work: self._undone(record, work))
            self._do_validate = Replay(self._validate, record)

    def step(self, batch: Examples, rate: float, coefficients: Coefficients) -> Tensor:
        """One step of gradient descent.

        Returns:
            [5] the loss and its terms before it, on the device, until the next step.
        """
        self.rate.fill_(rate)
        self._set(coefficients)
        return self._do_step(batch.prompts, batch.answers, batch.tasks)

    def _step(self, prompts: Tensor, answers: Tensor, tasks: Tensor) -> Tensor:
        self.weights.round()
        real = (answers[:, 1:] != PAD).flatten().nonzero()[:, 0] if self.spares_pads else None
        _, sums = self._look(prompts, answers, tasks, real)
        terms = combine(sums, Coefficients(*self.coefficients))
        self.weights.differentiate(terms.loss)
        if self.recipe.clip > 0:
            vectors = self.vectors.values()
            torch.nn.utils.clip_grad_norm_(vectors, self.recipe.clip, foreach=True)
        self.optimizer.step()
        return torch.stack(terms).detach()

    def validate(self, batches: Sequence[Examples], coefficients: Coefficients) -> Tensor:
        """One pass; every mean is over all positions of all batches, however they are cut.

        Returns:
            [5 + 2 + n_tasks] the numbers of a `Validation`, on the device, until the next pass.
        """
        self._set(coefficients)
        parts = (part for batch in batches for part in (batch.prompts, batch.answers, batch.tasks))
        return self._do_validate(*parts)

    @torch.no_grad()
    def _validate(self, *parts: Tensor) -> Tensor:
        """[5 + 2 + n_tasks] terms, l0, dead neurons, accuracies.

        Args:
            parts: prompts, answers and tasks of each batch, one batch after the other.
        """
        self.weights.round()
        totals: Sums | None = None
        right, seen = parts[0].new_zeros(2, self.n_tasks, dtype=torch.float32)
        fired = parts[0].new_zeros(())
        for prompts, answers, tasks in zip(parts[::3], parts[1::3], parts[2::3], strict=True):
            output, sums = self._look(prompts, answers, tasks)
            totals = sums if totals is None else totals + sums
            of_task = one_hot(tasks, self.n_tasks)
            right += of_task @ exact_match(output.logits, answers).float()
            seen += of_task.sum(dim=1)
            # In place of `> 0`: booleans are added up as int64, four times as slowly.
            firing = output.acts.sign().sum(dim=-1, dtype=torch.float32).long()
            fired += (firing * (answers[:, 1:] != PAD)).sum()
        assert totals is not None
        l0, dead = fired / totals.positions.sum(), (totals.acts.sum(dim=0) == 0).sum()
        accuracy = right / seen
        return torch.cat(
            [torch.stack([*combine(totals, Coefficients(*self.coefficients)), l0, dead]), accuracy]
        )

    def _look(
        self, prompts: Tensor, answers: Tensor, tasks: Tensor, kept: Tensor | None = None
    ) -> tuple[Output, Sums]:
        """A forward pass, and what the loss needs of it: at the kept positions alone, if given."""
        output: Output = self.model(prompts, answers[:, :-1], kept)
        return output, measure(output, answers, tasks, self.n_tasks, kept)

    def _set(self, coefficients: Coefficients) -> None:
        """Puts them where `_step` and `_validate` read them."""
        for place, value in zip(self.coefficients, coefficients, strict=True):
            place.fill_(value)

    def _start_optimizer(self) -> None:
        """Makes the optimiser's state before the first step, to be written to in place."""
        self.optimizer.step()  # at rate 0: it changes nothing
        for vector in self.vectors.values():
            self.optimizer.state[vector]["step"].zero_()

    def _undone(self, record: Callable[[Work], Recording], work: Work) -> Recording:
        """Records a step, and takes back the steps that this took."""
        before = self.state()
        recording = record(work)
        self.load_state(before)
        return recording

    def state(self) -> dict[str, Tensor]:
        """A copy of weights and optimiser state under flat names."""
        return {name: tensor.detach().clone() for name, tensor in self._state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts back what `state` gave, in place."""
        for name, tensor in self._state().items():
            tensor.detach().copy_(state[name])

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name, vector in self.vectors.items():
            state[f"weights.{name}"] = vector
            for key, value in self.optimizer.state[vector].items():
                state[f"optimizer.{name}.{key}"] = value
        return state
