"""Read an HTML page, and change the reports that it is made from."""

import json
from collections.abc import Callable
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

from toytask_cli.runs.files import write_json

VOID = {"meta", "link"}


class Elements(HTMLParser):
    """The elements of a page, in order: tag, attributes and the text within."""

    def __init__(self, html: str):
        super().__init__()
        self.found: list[tuple[str, dict[str, str | None], list[str]]] = []
        self.open: list[int] = []
        self.feed(html)
        assert not self.open, "an element is not closed"

    def handle_starttag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))
        if tag not in VOID:
            self.open.append(len(self.found) - 1)

    def handle_startendtag(self, tag, attrs):
        self.found.append((tag, dict(attrs), []))

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.found[self.open.pop()][0] == tag

    def handle_data(self, data):
        for index in self.open:
            self.found[index][2].append(data)

    def texts(self, tag: str) -> list[str]:
        return [" ".join("".join(text).split()) for name, _, text in self.found if name == tag]


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a report as a person could who knows its checksum."""
    values = json.loads(path.read_text())
    del values["schema_version"], values["sha256"]
    change(values)
    write_json(path, values)
