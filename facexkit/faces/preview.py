"""What a notebook shows of a face set: faces with their masks over them, and how many there are of whom."""

from __future__ import annotations

import base64
import io
from html import escape
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, TITLES, TOP_TO_BOTTOM

if TYPE_CHECKING:
    import pandas as pd

    from facexkit.faces.faceset import FaceSet

SIDE = 112
FACES = 12
COLOURS = dict(zip(TOP_TO_BOTTOM, (
    "#0b3c5d", "#6a3d9a", "#ffb000", "#b8860b", "#5a0a1e", "#d1495b", "#f28482", "#0072b2", "#56b4e9", "#5c4033",
    "#8d6346", "#009e73", "#cc79a7", "#e5a4cb", "#3d348b", "#f0c987", "#c9a66b", "#7d8597", "#000000",
), strict=True))  # fmt: skip
STYLE = f"<style>\n{Path(__file__).with_suffix('.css').read_text('utf-8').strip()}</style>"


def face_set_html(faces: FaceSet) -> str:
    """Return a grid of up to 12 faces with their masks, and the counts by label and group, as one piece of HTML."""
    shown = np.unique(np.linspace(0, max(0, len(faces) - 1), min(FACES, len(faces))).astype(int))
    views = [_face(faces, faces.table.iloc[row]) for row in shown]
    seen = {name for _, regions in views for name in regions}
    key = "".join(
        f'<span><i style="background:{COLOURS[name]}"></i>{escape(TITLES[name])}</span>'
        for name in REGIONS[1:]
        if name in seen
    )
    hint = "<p class=note>Regions in colour; point at a face to see it without.</p>" if key else ""
    notes = "".join(f"<p class=note>{escape(note)}</p>" for note in faces.notes)
    return (
        f'{STYLE}<div class="fx-set mathjax_ignore"><h4>{escape(faces.name)}: {len(faces):,} faces</h4>{hint}'
        f'<div class="faces">{"".join(html for html, _ in views)}</div><div class="key">{key}</div>'
        f'<div class="counts">{_counts(faces.describe(quiet=True))}</div>{notes}</div>'
    )


def _face(faces: FaceSet, row: pd.Series) -> tuple[str, set[str]]:
    """Return one face as a figure, and the regions that it shows."""
    columns = [c for c in (faces.target, *faces.protected) if c] or list(faces.table.columns[1:3])
    labels = (row[c] if isinstance(row[c], str) else f"{c} {row[c]}" for c in dict.fromkeys(columns))
    caption = escape(" · ".join(labels) or str(row.path))
    title = escape(str(row.path), quote=True)
    try:
        picture = _inline(faces.images.read(row.path).resize((SIDE, SIDE), Image.Resampling.BILINEAR), "JPEG")
        masks = faces.masks.read(row.path) if faces.masks is not None else {}
    except (OSError, FacexkitError) as error:
        return f'<figure title="{title}"><div class="face">{escape(str(error))}</div>{caption}</figure>', set()
    regions = {name for name in masks if name in COLOURS and name != "background"}
    cover = f'<img alt="" src="{_inline(_overlay(masks, regions), "PNG")}">' if regions else ""
    return (
        f'<figure title="{title}"><div class="face"><img alt="{title}" src="{picture}">{cover}</div>'
        f"<figcaption>{caption}</figcaption></figure>"
    ), regions


def _overlay(masks: dict[str, np.ndarray], regions: set[str]) -> Image.Image:
    cover = Image.new("RGBA", (SIDE, SIDE))
    for name in reversed(TOP_TO_BOTTOM):
        if name in regions:
            cover.paste(COLOURS[name], mask=Image.fromarray(masks[name].astype(np.uint8) * 255).resize((SIDE, SIDE)))
    return cover


def _inline(image: Image.Image, kind: str) -> str:
    image.save(buffer := io.BytesIO(), kind, quality=80)
    return f"data:image/{kind.lower()};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def _counts(table: pd.DataFrame) -> str:
    """Return a small table for each of the first columns, a bar a value."""
    html = []
    for column in table.index.unique("column")[:8]:
        rows = "".join(
            f'<tr><td>{escape(str(value))}</td><td class="n">{row.faces:,.0f}</td>'
            f'<td title="{row.share:.1%} of the faces"><b style="width:{80 * row.share:.0f}px"></b></td></tr>'
            for value, row in table.loc[column].iterrows()
        )
        html.append(f"<table><caption>{escape(str(column))}</caption>{rows}</table>")
    return "".join(html)
