"""The data of the heatmaps of one prompt, without torch or matplotlib."""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray


class ActivationMap(NamedTuple):
    """The activations at one hook point for one prompt."""

    title: str
    positions: Sequence[str]
    values: NDArray[np.float32]  # [position, width]


class AttentionPattern(NamedTuple):
    """The attention weights of one layer for one prompt."""

    title: str
    query_tokens: list[str]  # the tokens that attend
    key_tokens: list[str]  # the tokens attended to
    values: NDArray[np.float32]  # [heads, queries, keys] 0 to 1, each query's weights add up to 1


class NeuronMap(NamedTuple):
    """The activation of one neuron over both operands, for one task at one answer position."""

    neuron: int
    position: int  # 0: the answer token after `B`
    importance: float  # of the neuron to the task, nats
    values: NDArray[np.float32]  # [k, k], NaN where there is none to show
    removed: bool
