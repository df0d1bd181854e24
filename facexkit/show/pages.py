"""The templates of the kit's pages and pictures, and what they show of a picture."""

from __future__ import annotations

import base64
from functools import cache
from pathlib import Path

import jinja2
from markupsafe import Markup

from facexkit.show.words import legible


@cache
def templates() -> jinja2.Environment:
    """Return the pages' templates, with the style and the script; all else that they are given is escaped."""
    here = Path(__file__).parent
    loader = jinja2.FileSystemLoader(here / "templates")
    plain = lambda value: legible(value) if type(value) is str else value  # noqa: E731
    pages = jinja2.Environment(loader=loader, autoescape=True, trim_blocks=True, lstrip_blocks=True, finalize=plain)
    pages.filters["unbroken"] = lambda sentence: sentence.replace(" %", "\N{NO-BREAK SPACE}%")
    for name in ("style.css", "face_map.js", "widgets/widgets.css", "widgets/widgets.js", "standalone.js"):
        pages.globals[Path(name).name.replace(".", "_")] = Markup((here / name).read_text(encoding="utf-8"))
    return pages


def data_uri(content: bytes, kind: str) -> str:
    """Return a picture's file as a data URI; `kind` is its media type, as "image/png"."""
    return f"data:{kind};base64,{base64.b64encode(content).decode()}"
