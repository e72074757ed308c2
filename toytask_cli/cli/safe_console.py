"""Show text from anywhere (prompts, file names, JSON) without letting it control the terminal."""

from collections.abc import Iterable

from rich.console import Console, ConsoleOptions, RenderableType
from rich.segment import Segment

from toytask_cli.cli.streams import discard_unwritten


def printable(text: str) -> str:
    r"""Return the text with every unprintable character written as an escape sequence.

    Control characters could move the cursor, retitle the window or type commands; marks that turn
    the direction of writing could hide characters. `"\x1b[2J"` becomes the seven characters
    `\x1b[2J`, and newlines are escaped too.
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


class SafeConsole(Console):
    """A console that sends only its own control codes to the terminal, and knows no markup.

    Rich would read markup in prompts and file names as well: `runs/[red]` would vanish, and
    `runs/[/]` would be an error.
    """

    def __init__(self, *, stderr: bool = False):
        super().__init__(stderr=stderr, highlight=False, markup=False, emoji=False)

    def on_broken_pipe(self) -> None:
        """Print nothing more: the reader has seen enough, but figures may be still to be written.

        Rich would end the program.
        """
        self.quiet = True
        discard_unwritten()

    def render(
        self, renderable: RenderableType, options: ConsoleOptions | None = None
    ) -> Iterable[Segment]:
        """Yield what to print, made printable; rich calls this for everything."""
        for segment in super().render(renderable, options):
            text, style, control = segment
            if control or text.isprintable() or text == "\n":
                yield segment
            else:
                yield Segment("\n".join(map(printable, text.split("\n"))), style)
