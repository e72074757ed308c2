"""Render a page as one HTML file that refers to nothing outside itself."""

from base64 import b64encode
from hashlib import sha256
from importlib.resources import files

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from toytask_cli.figures.colours import COLOURS, TASK_COLOURS
from toytask_cli.report.blocks import Page


def render(page: Page) -> bytes:
    """Return the HTML of a page.

    The policy in its head forbids the browser every request, and every script but the page's own.
    """
    environment = Environment(
        loader=PackageLoader("toytask_cli.report", "template"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    script = _asset("page.js")
    colours = {f"t{i}": colour for i, colour in enumerate(TASK_COLOURS)} | COLOURS
    html = environment.get_template("page.html").render(
        page=page,
        script=Markup(script),
        script_hash=b64encode(sha256(script.encode()).digest()).decode(),
        style=Markup(_asset("page.css")),
        colours=colours,
        sprite=b64encode(page.sprite).decode(),
    )
    return html.encode(errors="replace")  # JSON can hold halves of characters


def _asset(name: str) -> str:
    return files("toytask_cli.report").joinpath("template", name).read_text(encoding="utf-8")
