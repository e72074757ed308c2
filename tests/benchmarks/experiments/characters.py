"""Do numbers have to be tokens? Train with a token for each character instead.

    python tests/benchmarks/experiments/characters.py --preset article --epochs 300

`47+23` is then five tokens between `B` and `E`, and an answer has up to four. All else is as in
`toytask train` with the same preset, epochs and seed, whose last line is to be compared with it.
Prints what is measured on validation at every tenth part of the training.
"""

import argparse
from dataclasses import replace

import numpy as np
import torch
from shared import CPU, print_table

from toytask_cli.dataset import Grid, build_grid
from toytask_cli.device import find_precision
from toytask_cli.model import new_model
from toytask_cli.recipe import PRESETS, resolve
from toytask_cli.tokenizer import Tokenizer
from toytask_cli.training.loop import Trainer


def spelled(grid: Grid) -> Grid:
    """Return the grid with a token for each character: no number above 9 is one."""
    tokenizer = Tokenizer([task.symbol for task in grid.tasks], largest=9)

    def spell(rows: torch.Tensor) -> torch.Tensor:
        texts = [grid.tokenizer.decode(row) for row in rows.flatten(0, 1).tolist()]
        ids = torch.from_numpy(tokenizer.encode_all(np.array(texts)))
        return ids.view(*rows.shape[:2], -1)

    prompts, answers = spell(grid.prompts), spell(grid.answers)
    return replace(grid, tokenizer=tokenizer, prompts=prompts, answers=answers)


def main() -> None:
    """Train, and print the table."""
    options = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    options.add_argument("--preset", choices=PRESETS, default="default")
    options.add_argument("--epochs", type=int, default=60)
    options.add_argument("--seed", type=int, default=0)
    args = options.parse_args()
    every = max(1, args.epochs // 10)
    fields = {"epochs": args.epochs, "seed": args.seed, "validate_every": every}
    recipe = resolve(args.preset, fields)
    grid = spelled(build_grid(recipe))
    model = new_model(recipe, len(grid.tokenizer))
    trainer = Trainer(recipe, grid, model, find_precision("auto", CPU))
    header = ["epoch", "training loss", "validation loss", *(f"{n} %" for n in grid.task_names)]
    rows = (
        [
            record.epoch,
            f"{record.train['loss']:.3f}",
            f"{record.validation['loss']:.3f}",
            *(f"{100 * share:.2f}" for share in record.validation["accuracy"].values()),
        ]
        for record in trainer.run()
        if record.validation is not None
    )
    print_table(header, rows)


if __name__ == "__main__":
    main()
