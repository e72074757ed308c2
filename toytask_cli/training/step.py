"""One training step, and one pass over the validation split, on one device in one precision."""

from collections.abc import Callable, Sequence
from copy import deepcopy

import torch
from torch import Tensor

from toytask_cli.dataset import Examples
from toytask_cli.model import Transformer
from toytask_cli.objective import Coefficients, loss_sums, loss_terms
from toytask_cli.recipe import Recipe
from toytask_cli.training.cuda_graphs import Captured, Function, GraphedCallable
from toytask_cli.training.flat_parameters import FlatParameters
from toytask_cli.training.optimizers import make_optimizers
from toytask_cli.training.validation import Distribution, validate


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
        teacher: gives the probabilities to learn; None to learn the answers' tokens.
    """

    def __init__(
        self,
        recipe: Recipe,
        model: Transformer,
        n_tasks: int,
        precision: torch.dtype,
        capture: Callable[[Function], Captured] | None = None,
        teacher: Distribution | None = None,
    ):
        self.recipe = recipe
        self.model = deepcopy(model)
        self.n_tasks = n_tasks
        self.teacher = teacher
        self.weights = FlatParameters(self.model, precision)
        device = next(model.parameters()).device
        self.rate, *self.coefficients = torch.zeros(1 + len(Coefficients._fields), device=device)
        self.optimizers = make_optimizers(recipe, self.weights, self.rate, precision)
        self._create_optimizer_state()
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
        inputs = answers[:, :-1]
        output = self.model(prompts, inputs)
        probabilities = self.teacher(prompts, inputs) if self.teacher else None
        sums = loss_sums(output, answers, tasks, self.n_tasks, probabilities)
        terms = loss_terms(sums, Coefficients(*self.coefficients))
        self.weights.backward(terms["loss"])
        if self.recipe.clip > 0:
            vectors = self.weights.vectors.values()
            torch.nn.utils.clip_grad_norm_(vectors, self.recipe.clip, foreach=True)
        for optimizer in self.optimizers:
            optimizer.step()
        return {name: term.detach() for name, term in terms.items()}

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
        return validate(self.model, batches, self.n_tasks, coefficients, self.teacher)

    def _set_coefficients(self, coefficients: Coefficients) -> None:
        """Write them where captured work reads them."""
        for tensor, value in zip(self.coefficients, coefficients, strict=True):
            tensor.fill_(value)

    def _create_optimizer_state(self) -> None:
        """Create the optimiser's state now, so that graphs and checkpoints find it in place."""
        for optimizer in self.optimizers:
            optimizer.step()  # at rate 0: it changes nothing
            for state in optimizer.state.values():
                for tensor in state.values():
                    tensor.zero_()

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
