"""toytask: train a toy transformer on two tasks, look inside it, and cut one task out."""

__version__ = "0.1.0"
