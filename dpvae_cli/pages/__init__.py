"""Pages of one HTML file: nothing in them runs, nothing is fetched, and text stays text."""

import base64
import hashlib
import re
from pathlib import Path
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined
from markupsafe import Markup

from dpvae_cli.version import __version__

FOLDER = Path(__file__).parent
NEGATIVE = re.compile(r"(?<![\w.)-])-(?=[\d.])")
TOGETHER = re.compile(r"(?<=\d) (?=[%±])|(?<=±) ")


def render_page(template: Path, **content: Any) -> str:
    """Return a page; its template may import the parts that all pages share, and has our style.

    Args:
        template: the page's own.
        **content: what it shows; all of it is escaped.
    """
    environment = Environment(
        loader=FileSystemLoader([template.parent, FOLDER]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.filters["minus"] = _minus
    style = (FOLDER / "page.css").read_text(encoding="utf-8")
    environment.globals |= {
        "style": Markup(style),  # noqa: S704 - our own file
        "style_digest": _digest(style),
        "version": __version__,
    }
    return environment.get_template(template.name).render(**content)


def _digest(style: str) -> str:
    return base64.b64encode(hashlib.sha256(style.encode()).digest()).decode("ascii")


def _minus(text: str) -> str:
    """Return text with minus signs before numbers, and numbers held together with what follows."""
    if text == "-":
        return "–"
    return TOGETHER.sub("\u00a0", NEGATIVE.sub("−", text))
