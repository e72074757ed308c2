"""Pictures of a task's most important neurons over both operands."""

from collections.abc import Collection
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure

    from toytask_cli.analysis.importance import ImportanceTensors
    from toytask_cli.analysis.matched_pairs import MatchedPairs
    from toytask_cli.figures.data import NeuronMap

SHOWN = 16  # neurons of each task


def neuron_figures(
    prefix: str,
    matched: "MatchedPairs",
    tensors: "ImportanceTensors",
    removed: Collection[int] = (),
    unseen: bool = False,
) -> "dict[str, Figure]":
    """Draw a picture for each task, named after it.

    Args:
        prefix: of the names.
        matched: all pairs of the shown operands.
        tensors: the importance of all neurons.
        removed: neurons to mark.
        unseen: whether to leave pairs blank that training saw.
    """
    from toytask_cli.figures.neurons import draw_neurons

    grid = matched.grid
    operands = grid.operands(matched.pairs)[1].unique().numpy()
    blank = "the answer has ended" + (", or training saw the pair" if unseen else "")
    return {
        f"{prefix}-{name}": draw_neurons(
            name, _task_maps(matched, tensors, task, removed, unseen), operands, blank
        )
        for task, name in enumerate(grid.task_names)
    }


def _task_maps(
    matched: "MatchedPairs",
    tensors: "ImportanceTensors",
    task: int,
    removed: Collection[int],
    unseen: bool,
) -> "list[NeuronMap]":
    """Return the maps of a task's most important neurons at the positions that matter."""
    import torch

    from toytask_cli.analysis.importance import top_neurons
    from toytask_cli.analysis.operand_maps import activation_maps, shown_positions
    from toytask_cli.figures.data import NeuronMap
    from toytask_cli.splits import SPLITS

    neurons = top_neurons(tensors.importance[task], SHOWN)
    maps = activation_maps(matched, task, neurons)
    if unseen:
        seen = matched.grid.splits[task, matched.pairs] == SPLITS.index("train")
        maps[:, :, seen.view(maps.shape[-2:])] = torch.nan
    return [
        NeuronMap(
            neuron, position, float(tensors.importance[task, neuron]), maps[i, position].numpy(),
            neuron in removed,
        )
        for i, neuron in enumerate(neurons.tolist())
        for position in shown_positions(tensors.by_position[task, :, neuron])
    ]  # fmt: skip
