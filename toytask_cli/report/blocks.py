"""What a page is made of. `template/page.html` renders each kind; every text in it is escaped."""

from base64 import b64encode
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar


@dataclass(frozen=True)
class Words:
    """A paragraph."""

    kind: ClassVar[str] = "words"
    text: str
    style: str = ""  # `verdict`, `note` or none


@dataclass(frozen=True)
class Heading:
    """A heading within a section."""

    kind: ClassVar[str] = "heading"
    text: str


@dataclass(frozen=True)
class Commands:
    """Lines to type into a shell."""

    kind: ClassVar[str] = "commands"
    lines: Sequence[str]


@dataclass(frozen=True)
class Cell:
    """A cell of a table."""

    text: str
    detail: str = ""  # smaller, after the text
    value: float | str | None = None  # to sort by, where the text would sort wrongly
    tile: int | None = None  # number of the small map to show
    link: str = ""  # address that the text leads to: `#id`, or a file beside the page


@dataclass(frozen=True)
class Row:
    """A row of a table."""

    cells: Sequence[Cell]  # the first one is the row's heading
    id: str = ""  # to link to


@dataclass(frozen=True)
class Table:
    """A table with a heading for each column and each row."""

    kind: ClassVar[str] = "table"
    caption: str
    headings: Sequence[str]
    rows: Sequence[Row]
    is_sortable: bool = False
    text_columns: Sequence[int] = ()  # columns of words, which begin on the left

    @classmethod
    def of(cls, caption: str, headings: Sequence[str], rows: Sequence[Sequence[str]]) -> "Table":
        """Return a table of plain texts; a column in which one is no number holds words."""
        columns = enumerate(zip(*rows, strict=True))
        words = [i for i, texts in columns if any(not _is_number(text) for text in texts)]
        cells = [Row([Cell(text) for text in row]) for row in rows]
        return cls(caption, headings, cells, text_columns=words)


def _is_number(text: str) -> bool:
    return text[:1].isdigit() or text == "–"


@dataclass(frozen=True)
class Tiles:
    """Small maps beside each other, each with the row of a table that it links to."""

    kind: ClassVar[str] = "tiles"
    label: str
    tiles: Sequence[tuple[int, str, str]]  # number of the map, the row's id, caption


@dataclass(frozen=True)
class Definitions:
    """Terms and what they mean."""

    kind: ClassVar[str] = "definitions"
    entries: Sequence[tuple[str, str]]


@dataclass(frozen=True)
class Tick:
    """A mark on an axis."""

    at: float  # in the chart's units
    label: str


@dataclass(frozen=True)
class Line:
    """A line of a chart."""

    label: str
    colour: str  # a class of the style sheet
    points: str  # as SVG writes them


@dataclass(frozen=True)
class Point:
    """A point of a chart."""

    x: float
    y: float
    colour: str
    label: str
    link: str  # id of the row that it stands for


@dataclass(frozen=True)
class Chart:
    """A picture with two axes, in units of its `width` and `height`."""

    kind: ClassVar[str] = "chart"
    title: str
    description: str  # for who cannot see it
    x_label: str
    y_label: str
    x_ticks: Sequence[Tick]
    y_ticks: Sequence[Tick]
    width: int
    height: int
    lines: Sequence[Line] = ()
    points: Sequence[Point] = ()
    markers: Sequence[Tick] = ()  # vertical lines
    legend: Sequence[tuple[str, str]] = ()  # colour, label


@dataclass(frozen=True)
class Charts:
    """Small charts beside each other."""

    kind: ClassVar[str] = "charts"
    charts: Sequence[Chart]


@dataclass(frozen=True)
class Picture:
    """A picture that was drawn before."""

    kind: ClassVar[str] = "picture"
    title: str
    description: str  # for who cannot see it
    png: bytes

    @property
    def base64(self) -> str:
        """The picture as text, to write into the page."""
        return b64encode(self.png).decode()


Block = Words | Heading | Commands | Table | Tiles | Definitions | Chart | Charts | Picture


def with_command(text: str, command: str) -> list[Block]:
    """Return a note, and below it the command that it speaks of."""
    return [Words(text, "note"), Commands([command])]


def missing_blocks(missing: Sequence[tuple[str, str]]) -> list[Block]:
    """Return what is missing, each with the command that makes it."""
    if not missing:
        return [Words("Nothing is missing.")]
    return [block for what, command in missing for block in with_command(f"{what}:", command)]


@dataclass(frozen=True)
class Section:
    """A part of the page that can be folded."""

    id: str
    title: str
    blocks: Sequence[Block]


@dataclass(frozen=True)
class Page:
    """A whole page."""

    title: str
    lead: Sequence[Block]
    sections: Sequence[Section]
    sprite: bytes = b""  # PNG of all small maps
    tile_size: int = 0  # pixels on a side of a map
    tiles_across: int = 1
