"""One training step, and one pass over the validation split, on one device in one precision."""

from collections.abc import Callable, Sequence
from copy import deepcopy
from functools import partial, reduce
from operator import add

import torch
from torch import Tensor

from toytask_cli.dataset import Examples
from toytask_cli.model import Transformer
from toytask_cli.objective import Coefficients, LossSums, loss_sums, loss_terms
from toytask_cli.recipe import Recipe
from toytask_cli.training.cuda_graphs import Captured, Function, GraphedCallable
from toytask_cli.training.flat_parameters import FlatParameters
from toytask_cli.training.optimizers import make_optimizers
from toytask_cli.training.validation import Distribution, validate
from toytask_cli.training.workers import ONE_WORKER, Workers


class Engine:
    """Steps and measures a model.

    With `capture` both are replayed from CUDA graphs: the same arithmetic, with learning rate and
    coefficients read from the device.

    Args:
        recipe: the objective, the optimiser's settings, the batch size.
        model: the initial weights, on the device; it is copied and stays as it is.
        n_tasks: number of tasks.
        precision: type of everything but embeddings and losses.
        capture: how to capture work for replaying; None runs it anew each time.
        workers: among whom batches and matrices are divided.
        teacher: gives the probabilities to learn; None to learn the answers' tokens.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Transformer,
        n_tasks: int,
        precision: torch.dtype,
        capture: Callable[[Function], Captured] | None = None,
        workers: Workers = ONE_WORKER,
        teacher: Distribution | None = None,
    ):
        self.teacher = teacher
        self.workers = workers
        self.recipe = recipe
        self.model = deepcopy(model)
        self.n_tasks = n_tasks
        self.weights = FlatParameters(self.model, precision)
        device = next(model.parameters()).device
        self.rate, *self.coefficients = torch.zeros(1 + len(Coefficients._fields), device=device)
        self.optimizers = make_optimizers(recipe, self.weights, self.rate, precision, workers)
        self._run_step: Callable[..., dict[str, Tensor]] = self._step
        self._run_validate: Callable[..., dict[str, Tensor]] = self._validate
        if capture:
            self._run_step = GraphedCallable(self._step, lambda step: self._undo(capture, step))
            self._run_validate = GraphedCallable(self._validate, capture)

    def step(self, batch: Examples, rate: float, coefficients: Coefficients) -> dict[str, Tensor]:
        """Take one step of gradient descent.

        Returns:
            The loss and its terms before the step, on the device; overwritten by the next step.
        """
        self.rate.fill_(rate)
        self._set_coefficients(coefficients)
        return self._run_step(batch.prompts, batch.answers, batch.tasks)

    def _step(self, prompts: Tensor, answers: Tensor, tasks: Tensor) -> dict[str, Tensor]:
        self.weights.sync_weights()
        shares = (tensor.chunk(self.workers.n) for tensor in (prompts, answers, tasks))
        sums = self.workers.map(self._loss_sums, *shares)
        terms, slopes = self._loss_and_slopes(sums)
        self.weights.set_gradients(self.workers.map(partial(self._backward, slopes), sums))
        if self.recipe.clip > 0:
            vectors = self.weights.vectors.values()
            torch.nn.utils.clip_grad_norm_(vectors, self.recipe.clip, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

    def _loss_sums(self, prompts: Tensor, answers: Tensor, tasks: Tensor) -> LossSums:
        """Return the sums of the loss over a share of the batch."""
        inputs = answers[:, :-1]
        output = self.model(prompts, inputs)
        probabilities = self.teacher(prompts, inputs) if self.teacher else None
        return loss_sums(output, answers, tasks, self.n_tasks, probabilities)

    def _loss_and_slopes(self, shares: Sequence[LossSums]) -> tuple[dict[str, Tensor], LossSums]:
        """Return the batch's loss and its terms, and the derivative of the loss by each sum."""
        totals = reduce(add, (LossSums(*map(Tensor.detach, sums)) for sums in shares))
        totals = LossSums(*(total.clone().requires_grad_() for total in totals))
        coefficients = Coefficients(*self.coefficients)
        terms = loss_terms(totals, coefficients, self.model.sae.sparsity_penalty)
        slopes = torch.autograd.grad(terms["loss"], totals, materialize_grads=True)
        return terms, LossSums(*slopes)

    def _backward(self, slopes: LossSums, sums: LossSums) -> list[Tensor]:
        """Return the gradients of the weights that come from one share of the batch."""
        loss = sum(((a * b).sum() for a, b in zip(slopes, sums, strict=True)), torch.zeros(()))
        return self.weights.backward(loss)

    def validate(
        self, batches: Sequence[Examples], coefficients: Coefficients
    ) -> dict[str, Tensor]:
        """Return what `validation.validate` does; overwritten by the next validation."""
        self._set_coefficients(coefficients)
        return self._run_validate(*(t for b in batches for t in (b.prompts, b.answers, b.tasks)))

    def _validate(self, *tensors: Tensor) -> dict[str, Tensor]:
        """Validate on prompts, answers and tasks of one batch after the other."""
        self.weights.sync_weights()
        batches = zip(tensors[::3], tensors[1::3], tensors[2::3], strict=True)
        coefficients = Coefficients(*self.coefficients)
        return validate(self.model, batches, self.n_tasks, coefficients, self.workers, self.teacher)

    def _set_coefficients(self, coefficients: Coefficients) -> None:
        """Write them where captured work reads them."""
        for tensor, value in zip(self.coefficients, coefficients, strict=True):
            tensor.fill_(value)

    def _undo(self, capture: Callable[[Function], Captured], step: Function) -> Captured:
        """Capture a step, and undo the steps that the capture took."""
        before = self.state()
        captured = capture(step)
        self.load_state(before)
        return captured

    def state(self) -> dict[str, Tensor]:
        """Return copies of weights and optimiser state under flat names."""
        return {name: tensor.detach().clone() for name, tensor in self._state().items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Restore what `state` returned, in place."""
        for name, tensor in self._state().items():
            tensor.detach().copy_(state[name])

    def _state(self) -> dict[str, Tensor]:
        state: dict[str, Tensor] = {}
        for name, vector in self.weights.vectors.items():
            state[f"weights.{name}"] = vector
            for optimizer in self.optimizers:
                for key, value in optimizer.state.get(vector, {}).items():
                    state[f"optimizer.{name}.{key}"] = value
        return state
