"""Read an HTML page, and change the reports that it is made from."""

import json
import re
from collections.abc import Callable
from html.parser import HTMLParser
from itertools import pairwise
from pathlib import Path
from typing import Any

from toytask_cli.runs.files import write_json

VOID = {"meta", "link", "img"}


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


def check_readable(page: str) -> None:
    """Headings are in order, tables have headers, pictures are described, links lead somewhere."""
    elements = Elements(page).found
    levels = [int(tag[1]) for tag, _, _ in elements if re.fullmatch("h[1-6]", tag)]
    assert levels[0] == 1
    assert levels.count(1) == 1
    assert all(later - earlier <= 1 for earlier, later in pairwise(levels))
    tables = page.split("<table")[1:]
    for table in (table.split("</table>")[0] for table in tables):
        assert "<caption>" in table
        assert 'scope="col"' in table
        assert table.count('scope="row"') == table.split("<tbody>")[1].count("<tr")
    for tag, attributes, _ in elements:
        if tag == "svg":
            assert attributes.get("aria-label") or attributes.get("aria-hidden") == "true"
        if tag == "img":
            assert attributes["alt"]
        if tag == "html":
            assert attributes["lang"] == "en"
    ids = [a["id"] for _, a, _ in elements if "id" in a]
    assert len(ids) == len(set(ids))
    links = [a["href"] for tag, a, _ in elements if tag == "a"]
    assert {link[1:] for link in links if link.startswith("#")} <= set(ids)


def check_alone(page: str, beside: Path) -> None:
    """The page is small and refers to nothing but itself and files beside it."""
    assert len(page.encode()) < 1e6
    for tag, attributes, _ in Elements(page).found:
        for name, value in attributes.items():
            if name in ("href", "src", "srcset", "action", "data", "poster"):
                is_own = value.startswith(("#", "data:"))
                assert is_own or (tag == "a" and (beside / value).is_file()), (tag, name, value)
    without_picture = re.sub(r"base64,[A-Za-z0-9+/=]+", "", page)
    assert not re.findall(r"url\((?!data:)|@import|https?:|//[a-z]", without_picture)


def rewrite(path: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change a report as a person could who knows its checksum."""
    values = json.loads(path.read_text())
    del values["schema_version"], values["sha256"]
    change(values)
    write_json(path, values)
