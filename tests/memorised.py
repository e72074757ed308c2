"""A tiny model that has learnt its whole grid by heart, in a second."""

from functools import cache

import torch

from toytask_cli.dataset import Grid, build_grid
from toytask_cli.model import Transformer, new_model
from toytask_cli.objective import Coefficients, loss_sums, loss_terms
from toytask_cli.recipe import resolve

SMALL = {"digits": 1, "d_model": 32, "n_heads": 2, "d_ff": 64, "d_sae": 48}


@cache
def memorised(*tasks: str, steps: int = 200) -> tuple[Transformer, Grid]:
    """The model and its grid; the overlap between tasks is penalised in the second half."""
    recipe = resolve("default", SMALL | {"tasks": tasks, "validation_fraction": 0.4})
    grid = build_grid(recipe)
    model = new_model(recipe, len(grid.tokenizer))
    examples = grid.examples(
        *(
            index.flatten()
            for index in torch.meshgrid(
                torch.arange(len(tasks)), torch.arange(grid.n_pairs), indexing="ij"
            )
        )
    )
    optimiser = torch.optim.AdamW(model.parameters(), lr=1e-2, weight_decay=0.1, fused=True)
    for step in range(steps):
        out = model(examples.prompts, examples.answers[:, :-1])
        sums = loss_sums(out, examples.answers, examples.tasks, len(tasks))
        terms = loss_terms(
            sums, Coefficients(1.0, 0.05 if step > steps / 2 else 0.0), model.sae.sparsity_penalty
        )
        optimiser.zero_grad()
        terms["loss"].backward()
        optimiser.step()
    return model.eval(), grid
