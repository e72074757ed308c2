"""All small maps of neurons in one PNG, which the page shows cut out."""

import io

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from toytask_cli.figures.colours import MAP_COLOURS

TILE = 50  # pixels on a side
ACROSS = 20  # maps in a row
LEVELS = 16
MOST = 1000


def draw_sprite(packed: NDArray[np.uint8]) -> bytes:
    """Return a PNG of all maps, `ACROSS` in a row.

    Args:
        packed: [map, side, side / 2] levels, two in a byte, the left one high.

    Raises:
        ValueError: more maps than are ever written, or too large ones.
    """
    if len(packed) > MOST or max(packed.shape) > MOST or packed.shape[1] > TILE:
        raise ValueError("no small maps")
    levels = np.stack([packed // LEVELS, packed % LEVELS], axis=-1).reshape(*packed.shape[:2], -1)
    factor = max(1, TILE // levels.shape[-1])
    tiles = levels.repeat(factor, axis=1).repeat(factor, axis=2)[:, :TILE, :TILE]
    n_rows = -(-len(tiles) // ACROSS)
    sheet = np.zeros((n_rows * ACROSS, TILE, TILE), np.uint8)
    sheet[: len(tiles), : tiles.shape[1], : tiles.shape[2]] = tiles
    rows = sheet.reshape(n_rows, ACROSS, TILE, TILE).swapaxes(1, 2)
    image = Image.fromarray(rows.reshape(n_rows * TILE, ACROSS * TILE), mode="P")
    image.putpalette(_palette())
    buffer = io.BytesIO()
    image.save(buffer, format="png", optimize=True, bits=4)
    return buffer.getvalue()


def _palette() -> bytes:
    """Return the colour of each level, as red, green and blue."""
    anchors = np.array([list(bytes.fromhex(colour[1:])) for colour in MAP_COLOURS])
    at = np.linspace(0, len(anchors) - 1, LEVELS)
    channels = [np.interp(at, np.arange(len(anchors)), channel) for channel in anchors.T]
    return np.round(channels).T.astype(np.uint8).tobytes()
