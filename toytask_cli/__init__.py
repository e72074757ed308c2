"""toytask: train a toy transformer on two tasks, look inside it, and cut one task out."""

import os

__version__ = "0.1.0"

# PyTorch's threads spin while they wait for one another. Beside another busy program they then
# wait for the processor that they keep busy: an analysis took six times as long. OpenMP reads this
# when PyTorch is loaded, so it is set before that; a setting of the user's own wins.
if "GOMP_SPINCOUNT" not in os.environ:
    os.environ.setdefault("OMP_WAIT_POLICY", "PASSIVE")
