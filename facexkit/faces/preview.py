"""What a notebook shows of a face set: faces with their masks over them, and how many there are of whom."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.images import encoded
from facexkit.faces.regions import REGIONS, TITLES, TOP_TO_BOTTOM, VOCABULARY

if TYPE_CHECKING:
    import pandas as pd

    from facexkit.faces.faceset import FaceSet

SIDE = 112
FACES = 12
COLOURS = {name: region["colour"] for name, region in VOCABULARY["regions"].items()}
PAGE = Path(__file__).with_suffix(".html")


def face_set_html(faces: FaceSet) -> str:
    """Return a grid of up to 12 faces with their masks, and the counts by label and group, as one piece of HTML."""
    from jinja2 import Environment  # here, as it is seldom needed

    shown = np.unique(np.linspace(0, max(0, len(faces) - 1), min(FACES, len(faces))).astype(int))
    views = [_face(faces, faces.table.iloc[row]) for row in shown]
    seen = {name for face in views for name in face.get("regions", ())}
    key = [(COLOURS[name], TITLES[name]) for name in REGIONS[1:] if name in seen]
    table = faces.describe(quiet=True)
    counts = {column: table.loc[column].itertuples() for column in table.index.unique("column")[:8]}
    page = Environment(autoescape=True, trim_blocks=True, lstrip_blocks=True).from_string(PAGE.read_text("utf-8"))
    return page.render(faces=faces, views=views, key=key, counts=counts)


def _face(faces: FaceSet, row: pd.Series) -> dict[str, object]:
    """Return what is shown of one face: its path and caption, and pictures and regions, or the problem with them."""
    columns = [c for c in (faces.target, *faces.protected) if c] or list(faces.table.columns[1:3])
    labels = (row[c] if isinstance(row[c], str) else f"{c} {row[c]}" for c in dict.fromkeys(columns))
    told = {"path": str(row.path), "caption": " · ".join(labels) or str(row.path)}
    try:
        picture = _inline(faces.images.read(row.path).resize((SIDE, SIDE), Image.Resampling.BILINEAR), "JPEG")
        masks = faces.masks.read(row.path) if faces.masks is not None else {}
    except (OSError, FacexkitError) as error:
        return told | {"problem": str(error)}
    regions = {name for name in masks if name in COLOURS and name != "background"}
    cover = _inline(_overlay(masks, regions), "PNG") if regions else None
    return told | {"picture": picture, "cover": cover, "regions": regions}


def _overlay(masks: dict[str, np.ndarray], regions: set[str]) -> Image.Image:
    cover = Image.new("RGBA", (SIDE, SIDE))
    for name in reversed(TOP_TO_BOTTOM):
        if name in regions:
            cover.paste(COLOURS[name], mask=Image.fromarray(masks[name].astype(np.uint8) * 255).resize((SIDE, SIDE)))
    return cover


def _inline(image: Image.Image, kind: str) -> str:
    return f"data:image/{kind.lower()};base64,{base64.b64encode(encoded(image, kind, quality=80)).decode()}"
