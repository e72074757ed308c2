"""A long training takes no more memory and no more files than a short one.

The full count: python -m pytest tests/test_long_training.py --rounds 20000
"""

import gc
import resource
from dataclasses import replace
from pathlib import Path

import pytest
import torch

from toytask_cli.cli.train_display import TrainDisplay
from toytask_cli.runs.session import Session

STATM = Path("/proc/self/statm")


def resident() -> float:
    """MB of memory that this process holds."""
    return int(STATM.read_text().split()[1]) * resource.getpagesize() / 1e6


@pytest.mark.skipif(not STATM.exists(), reason="memory is read from /proc")
def test_memory_and_files_stay_flat(tmp_path, tiny, rounds):
    recipe = replace(tiny, epochs=rounds or 20, separate_epochs=0)
    session = Session.start(recipe, torch.device("cpu"), torch.float32, tmp_path / "run")
    seen = []

    def look(record):
        display.epoch(record)
        if record.epoch % (recipe.epochs // 10) == 0:
            gc.collect()
            files = [path for path in session.run.path.rglob("*") if path.is_file()]
            seen.append((resident(), len(gc.get_objects()), len(files)))

    with TrainDisplay(session.trainer, {}, live=True) as display:
        session.train(on_step=display.step, on_epoch=look)
    memory, objects, files = zip(*seen[1:], strict=True)  # the first part warms up
    assert memory[-1] - memory[0] < 10
    assert objects[-1] - objects[0] < 1000
    assert set(files) == {3}
    lines = session.run.metrics_file.read_bytes().splitlines()
    assert len(lines) == recipe.epochs
    assert max(map(len, lines)) < 700
