"""Text from anywhere (prompts, file names, JSON) on a terminal: shown, never obeyed."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment


def printable(text: str) -> str:
    r"""The text with every character that a terminal would not show as a letter written out.

    Control characters could move the cursor, retitle the window or type commands; marks that turn
    the direction of writing could hide what is there. `"\x1b[2J"` becomes the five characters
    `\x1b[2J`, newlines are written out too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SafeConsole(Console):
    """A console that sends only its own control codes to the terminal, and knows no markup.

    Rich's markup would be read from prompts and file names as well: `runs/[red]` would vanish, and
    `runs/[/]` would be an error.
    """

    def __init__(self, *, stderr: bool = False):
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """What is to be printed, piece by piece; called by rich for everything."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable() or text == "\n":
                yield segment
            else:
                yield Segment("\n".join(map(printable, text.split("\n"))), style)
