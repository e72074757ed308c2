"""One training step, and one pass over the validation part."""

from typing import NamedTuple

import torch
from torch import Tensor

from toytask_cli.dataset import Examples
from toytask_cli.model import Output, Transformer
from toytask_cli.objective import Sums, Terms, combine, exact_match, measure
from toytask_cli.recipe import Recipe
from toytask_cli.tokenizer import PAD

# Small enough for activations to stay in a processor's cache.
VALIDATION_BATCH = 512

EMBEDDINGS = ("token_embedding", "prompt_positions", "answer_positions")


class Validation(NamedTuple):
    """What one pass over the validation part says."""

    terms: dict[str, float]  # the loss and its terms, with the phase's β
    accuracy: list[float]  # exact match of each task
    l0: float  # neurons that fire at a position, on average
    dead_neurons: int  # neurons that fire nowhere


class Engine:
    """Takes training steps and measures, on one device and in one precision.

    Args:
        recipe: the objective, the optimiser's settings, the batch size.
        model: on the device already.
        n_tasks: number of tasks.
        precision: the type that all but embeddings and losses are computed in.
    """

    def __init__(self, recipe: Recipe, model: Transformer, n_tasks: int, precision: torch.dtype):
        self.recipe = recipe
        self.model = model
        self.n_tasks = n_tasks
        self.precision = precision
        self.parameters = list(model.parameters())
        self.optimizer = torch.optim.AdamW(
            self.parameters, lr=recipe.lr, weight_decay=recipe.weight_decay, fused=True
        )

    def step(self, batch: Examples, rate: float, beta: float) -> Terms:
        """One step of gradient descent; the loss and its terms before it, on the device."""
        terms = combine(self._measure(self._forward(batch), batch), self.recipe, beta)
        self.optimizer.zero_grad()
        terms.loss.backward()
        if self.recipe.clip > 0:
            torch.nn.utils.clip_grad_norm_(self.parameters, self.recipe.clip, foreach=True)
        self.optimizer.param_groups[0]["lr"] = rate
        self.optimizer.step()
        return Terms(*(term.detach() for term in terms))

    @torch.no_grad()
    def validate(self, examples: Examples, beta: float) -> Validation:
        """One pass; every mean is over all positions of the part, whatever the batches."""
        totals: Sums | None = None
        right = torch.zeros(self.n_tasks, device=examples.tasks.device)
        fired = torch.zeros(self.recipe.d_sae, device=examples.tasks.device)
        for batch in examples.batches(VALIDATION_BATCH):
            output = self._forward(batch)
            sums = self._measure(output, batch)
            totals = sums if totals is None else totals + sums
            right.index_add_(0, batch.tasks, exact_match(output.logits, batch.answers).float())
            real = (batch.answers[:, 1:] != PAD).unsqueeze(-1)
            fired += ((output.acts > 0) & real).sum(dim=(0, 1))
        assert totals is not None
        counts = torch.bincount(examples.tasks, minlength=self.n_tasks)
        terms = combine(totals, self.recipe, beta)
        return Validation(
            terms={name: float(value) for name, value in terms._asdict().items()},
            accuracy=(right / counts.clamp(min=1)).tolist(),
            l0=float(fired.sum() / totals.positions.sum()),
            dead_neurons=int((fired == 0).sum()),
        )

    def _forward(self, batch: Examples) -> Output:
        model, inputs = self.model, (batch.prompts, batch.answers[:, :-1])
        output: Output = torch.func.functional_call(model, self._weights(), inputs)
        return output

    def _weights(self) -> dict[str, Tensor]:
        """The weights in the precision that is computed in.

        Cast once a step, where autocast would cast every layer's input and output as well.
        Embeddings stay in float32: a row's gradient is a sum over many examples.
        """
        return {
            name: weight if name.startswith(EMBEDDINGS) else weight.to(self.precision)
            for name, weight in self.model.named_parameters()
        }

    def _measure(self, output: Output, batch: Examples) -> Sums:
        return measure(output, batch.answers, batch.tasks, self.n_tasks)

    def state(self) -> dict[str, Tensor]:
        """A copy of weights and optimiser state under flat names."""
        state = {f"model.{name}": p for name, p in self.model.state_dict().items()}
        for name, parameter in self.model.named_parameters():
            for key, value in self.optimizer.state[parameter].items():
                state[f"optimizer.{name}.{key}"] = value
        return {name: tensor.detach().clone() for name, tensor in state.items()}

    def load_state(self, state: dict[str, Tensor]) -> None:
        """Puts back what `state` gave, in place."""
        for name, parameter in self.model.named_parameters():
            parameter.data.copy_(state[f"model.{name}"])
            prefix = f"optimizer.{name}."
            self.optimizer.state[parameter] = {
                key.removeprefix(prefix): value.to(parameter.device, copy=True)
                for key, value in state.items()
                if key.startswith(prefix)
            }
