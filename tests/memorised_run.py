"""The model that has learnt its grid by heart, as a run directory to talk to."""

from pathlib import Path

import torch
from memorised import memorised

from toytask_cli.analysis.importance import score_neurons
from toytask_cli.analysis.select import select_neurons
from toytask_cli.runs import tensor_files
from toytask_cli.runs.config import Config
from toytask_cli.runs.run import Run

CPU = torch.device("cpu")


def memorised_run(place: Path, *tasks: str) -> Run:
    """`runs/01` in this place, with the ablation `no-concat`; its tasks are sum and concat."""
    model, grid = memorised(*(tasks or ("sum", "concat")))
    config = Config.here(grid.spec, CPU, torch.float32)
    run = Run.create(config, place / "runs" / "01")
    run.write_config()
    tensor_files.write(run.model_file, model.state_dict())
    scores = score_neurons(model, grid, seed=0)
    neurons = select_neurons(scores, ["concat"], tolerance=0.1).neurons
    run.write_ablation("no-concat", {"neurons": neurons.tolist(), "error": "keep"})
    return run
