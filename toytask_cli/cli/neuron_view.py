"""One neuron in the terminal: when it fires, what it writes, and its maps over both operands."""

from collections.abc import Mapping
from typing import TYPE_CHECKING

from toytask_cli.cli.console import out, percent, plain_table
from toytask_cli.cli.heatmap import shade

if TYPE_CHECKING:
    from rich.console import RenderableType
    from rich.text import Text
    from torch import Tensor

    from toytask_cli.analysis.atlas import MappedNeuron, OperandMap
    from toytask_cli.analysis.neurons import NeuronSummary

CELLS = 50  # on a side of a map, at most
HALF_BLOCK = "▀"  # two cells in one character: the upper one is its colour, the lower one behind it
MARGIN = 3  # columns of the first operands beside a map


def neuron_view(
    neuron: "NeuronSummary", mapped: "MappedNeuron | None", importance: "Mapping[str, Tensor]"
) -> "RenderableType":
    """Return all that is known of one neuron.

    Args:
        neuron: when it fires, and which logits it raises and lowers.
        mapped: what it does over both operands; None if it never fires.
        importance: task → [d_sae] nats; empty if it is not known.
    """
    from rich.console import Group
    from rich.text import Text

    title = f"neuron {neuron.neuron} on {neuron.n:,} examples of the {neuron.split} split"
    rows = [
        [task, percent(density)]
        + ([f"{float(importance[task][neuron.neuron]):+z.4f}"] if importance else [])
        for task, density in neuron.density.items()
    ]
    table = plain_table(["task", "fires at", *(["importance"] if importance else [])], rows)
    up, down = " ".join(neuron.tokens.promoted), " ".join(neuron.tokens.suppressed)
    logits = Text(f" raises the logits of {up}; lowers those of {down}")
    maps = [] if mapped is None else [maps_view(mapped)]
    return Group(Text(title, "bold"), table, logits, _top_prompts_view(neuron), *maps)


def _top_prompts_view(neuron: "NeuronSummary") -> "RenderableType":
    from rich.text import Text

    if not neuron.top_prompts:
        return Text(" fires for no prompt")
    rows = ([one.prompt, one.step, f"{one.activation:.2f}"] for one in neuron.top_prompts)
    return plain_table(["fires most for", "at", "act."], rows)


def maps_view(mapped: "MappedNeuron") -> "RenderableType":
    """Return the neuron's pattern in words, and its maps: side by side, or under each other."""
    from rich.columns import Columns
    from rich.console import Group
    from rich.text import Text

    top = max(float(each.values.nan_to_num().max()) for each in mapped.maps)
    maps = Columns([_map_view(each, mapped.operands, top) for each in mapped.maps], padding=(1, 2))
    colours = "white" if _has_colours() else "█"
    legend = f"first operand down, second to the right; {colours} is {top:.2f}, each cell the "
    legend += "largest of its pairs" if len(mapped.operands) > CELLS else "activation at a pair"
    return Group(Text(f" {_pattern_in_words(mapped)}\n"), maps, Text(legend, "dim"))


def _pattern_in_words(mapped: "MappedNeuron") -> str:
    from toytask_cli.analysis.atlas import in_words

    row = mapped.described
    where = f"at token {row.position + 1} of {row.task}"
    if row.pattern is None:
        return f"follows no simple pattern {where}: none explains half of its variance"
    return f"follows {in_words(row.pattern)} {where}: {100 * row.explained:.0f} % of its variance"


def _map_view(each: "OperandMap", operands: "Tensor", top: float) -> "Text":
    """Return a square of cells, with some of the operands at its sides."""
    from rich.text import Text

    from toytask_cli.analysis.operand_maps import shrink

    cells = shrink(each.values[None], min(CELLS, max(8, out().width - MARGIN - 1)))[0].tolist()
    first, last = str(int(operands[0])), str(int(operands[-1]))
    text = Text(f"{each.task}, token {each.position + 1}\n", no_wrap=True)
    pairs = list(zip(cells[::2], [*cells[1::2], None][: len(cells[::2])], strict=True))
    for number, (upper, lower) in enumerate(pairs):
        label = first if number == 0 else last if number == len(pairs) - 1 else ""
        text.append(f"{label:>{MARGIN}} ")
        text.append_text(_line(upper, lower or upper, top)).append("\n")
    return text.append(f"{'':{MARGIN}} {first}{last.rjust(len(cells) - len(first))}")


def _line(upper: list[float], lower: list[float], top: float) -> "Text":
    """Return two rows of cells on one line, in colours or in shades."""
    from rich.text import Text

    text = Text()
    for above, below in zip(upper, lower, strict=True):
        if _has_colours():
            text.append(HALF_BLOCK, f"{_colour(above / top)} on {_colour(below / top)}")
        else:
            text.append(shade(max(above, below), top))
    return text


def _has_colours() -> bool:
    return out().is_terminal and not out().no_color and out().encoding.startswith("utf")


def _colour(share: float) -> str:
    """Return a colour from black at 0 to white at 1, as `#60ceac`; the scale of the figures."""
    from toytask_cli.figures.colours import MAP_COLOURS

    last = len(MAP_COLOURS) - 1
    start = min(int((1 - share) * last), last - 1)
    part = (1 - share) * last - start
    ends = (bytes.fromhex(MAP_COLOURS[i].removeprefix("#")) for i in (start, start + 1))
    mixed = (round(a + part * (b - a)) for a, b in zip(*ends, strict=True))
    return "#" + bytes(mixed).hex()
