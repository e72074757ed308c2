"""Tables in Markdown, each row printed as soon as it is there."""

from collections.abc import Iterable, Sequence


def print_row(*cells: object) -> None:
    """Prints a line of a table."""
    print("| " + " | ".join(map(str, cells)) + " |", flush=True)


def print_header(*cells: str) -> None:
    """Prints the first two lines of a table."""
    print_row(*cells)
    print_row(*("---" for _ in cells))


def print_table(header: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Prints a table whose rows come one by one."""
    print_header(*header)
    for row in rows:
        print_row(*row)
