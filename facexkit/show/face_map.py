"""The face map: the kit's face template as SVG, each region coloured by its number, with the numbers beside it."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Sequence
from functools import cache
from pathlib import Path

import numpy as np
import xarray as xr

from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM
from facexkit.faces.template import POLYGONS, svg_path
from facexkit.show.pages import templates
from facexkit.show.readings import (
    Reading,
    difference,
    each_class,
    method_of,
    mirrored,
    names_of,
    one_class,
    ranked,
    read_parts,
)

UP = ("#eef1f2", "#aedceb", "#7ac3e0", "#4da8d2", "#278cc3", "#0f70b1", "#0a549b", "#123a7c", "#152259")
DOWN = ("#eef1f2", "#eecfad", "#e2ae7c", "#d28e51", "#be702b", "#a5540d", "#883b00", "#6b2200", "#4d0c00")
"""Colours from 0 upwards and from 0 downwards; lightness falls evenly on both (CIE L* 95 to 16)."""

FACE, CARD, HEIGHT, COLUMN = 464, 572, 496, 132  # pixels: face square, card, card height, a label column
ASIDE = {"hat": (76, 72, 108), "eye_g": (CARD - 78, 72, 114)}  # centre x, y and width of what is moved aside
PLACES = {
    "hat": ("left", 52, 76, 69), "hair": ("left", 100, 232, 119), "r_brow": ("left", 148, 241, 204),
    "r_eye": ("left", 196, 239, 232), "r_ear": ("left", 244, 178, 255), "nose": ("left", 292, 286, 277),
    "u_lip": ("left", 340, 294, 320), "l_lip": ("left", 388, 286, 341), "neck": ("left", 436, 286, 426),
    "cloth": ("left", 484, 184, 468), "eye_g": ("right", 61, 519, 71), "background": ("right", 109, 548, 148),
    "l_brow": ("right", 157, 332, 204), "l_eye": ("right", 205, 333, 232), "l_ear": ("right", 253, 394, 255),
    "skin": ("right", 301, 341, 270), "ear_r": ("right", 349, 384, 322), "mouth": ("right", 397, 286, 330),
    "neck_l": ("right", 469, 286, 469),
}  # fmt: skip
"""On which side and at which height of the card a region's label stands, and the place (x, y) that it points to."""

INK, SOFT, FONT = "#16203a", "#4a566b", "'Segoe UI','Helvetica Neue','DejaVu Sans Condensed',Arial,sans-serif"


class Drawing(str):
    """An SVG picture as text, which notebooks display."""

    def _repr_html_(self) -> str:
        return f'<div class="mathjax_ignore">{self}</div>'

    def save(self, path: str | Path) -> Path:
        """Write the picture as an SVG file and return its path."""
        Path(path).write_text(self, encoding="utf-8")
        return Path(path)


def colour(value: float, limit: float) -> str:
    """Return the colour of a value on a scale from −limit over 0 (grey) to limit, as #rrggbb."""
    ramp = np.array([[int(c[k : k + 2], 16) for k in (1, 3, 5)] for c in (UP if value >= 0 else DOWN)], float)
    place = min(abs(value) / limit, 1.0) * (len(ramp) - 1) if limit else 0.0
    rgb = [np.interp(place, np.arange(len(ramp)), ramp[:, channel]) for channel in range(3)]
    return "#" + "".join(f"{round(c):02x}" for c in rgb)


def scale_limit(*results: xr.Dataset) -> float:
    """Return the end of a common colour scale: the largest absolute score, rounded up."""
    return _rounded_up(max((abs(r.value) for scores in results for r in ranked(scores)), default=0.0))


def _rounded_up(largest: float) -> float:
    if not largest:
        return 1.0
    power = 10.0 ** np.floor(np.log10(largest))
    return float(next(step * power for step in (1, 1.5, 2, 3, 4, 5, 6, 8, 10) if step * power >= largest * 0.999))


def face_map(
    scores: xr.Dataset, *, title: str | None = None, interactive: bool = False, limit: float | None = None
) -> Drawing:
    """Draw the scores of one class on the face, with every number beside it; both lips, say, with that of the two together.

    Parameters
    ----------
    scores : what `fx.score_regions` gives for one class, or one of several: `scores.sel(target_class=1)`.
    title : what the picture shows; the class and the model if None.
    interactive : regions are buttons for `face_map.js`, else the picture is one image.
    limit : the end of the colour scale, one for maps that are compared, see `scale_limit`; of these scores if None.

    Returns
    -------
    The SVG. Regions without data are hatched, such as the masks cannot tell drawn as everything else. Glasses and hat lie beside the face.
    """
    scores = one_class(scores)
    title = " · ".join(names_of(scores)) if title is None else title
    return _picture(scores, title, method_of(scores).unit, limit or scale_limit(scores), interactive=interactive)


def small_maps(
    results: xr.Dataset | Iterable[xr.Dataset], *, titles: Sequence[str] | None = None, top: int = 5, limit: float | None = None
) -> list[Drawing]:
    """Draw results without label columns, each with its `top` numbers; see `face_maps`, and `face_map` for `limit`."""
    results = each_class(results)
    titles = list(titles or short_titles(results))
    methods = [method_of(scores) for scores in results]
    labels = [method.unit for method in methods]
    scales = [limit or scale_limit(*(s for s, other in zip(results, methods) if other == method)) for method in methods]
    if len(results) == 2 and methods[0] == methods[1]:
        results.append(difference(*results))
        titles.append("Difference")
        labels.append(f"← more in {shortened(titles[1], 16)} · more in {shortened(titles[0], 16)} →")
        scales.append(scale_limit(results[2]))
    return [_picture(*each, listed=ranked(each[0], by="size")[:top]) for each in zip(results, titles, labels, scales)]


def face_maps(results: xr.Dataset | Iterable[xr.Dataset], *, titles: Sequence[str] | None = None, top: int = 5) -> Drawing:
    """Draw several results side by side in one picture, those of one method on one colour scale.

    Parameters
    ----------
    results : what `fx.score_regions` gave: one Dataset or several; with two classes or models by one method their
        difference is the third map. Of the two classes of a two-class model, whose decision shares are the same, the
        first is drawn.
    titles : one a result; what tells them apart if None.
    top : how many regions are listed with their numbers under each map.
    """
    results = each_class(results)
    if titles is None:
        results = [scores for k, scores in enumerate(results) if not any(mirrored(r, scores) for r in results[:k])]
    drawings, step = small_maps(results, titles=titles, top=top), CARD + 30
    width, height = step * len(drawings) - 30, HEIGHT + 112 + 34 * top
    inner = "".join(d.replace("<svg ", f'<svg x="{k * step}" ', 1) for k, d in enumerate(drawings))
    look = f'width="{width}" height="{height}" viewBox="0 0 {width} {height}" style="max-width:100%;height:auto"'
    return Drawing(f'<svg xmlns="http://www.w3.org/2000/svg" {look} font-family="{FONT}" role="group">{inner}</svg>')


def short_titles(results: Sequence[xr.Dataset]) -> list[str]:
    """Return what tells results apart: class names, model names, both, or methods."""
    told = [names_of(scores) for scores in results]
    classes, models = ({pair[k] for pair in told} for k in (0, 1))
    if len(results) > 1 and len(classes) == len(models) == 1:
        return [method_of(scores).title for scores in results]
    return [c if len(models) == 1 else m if len(classes) == 1 else f"{c} · {m}" for c, m in told]


def shortened(text: str, most: int) -> str:
    """Return the text, its end replaced by … where it is longer than `most` characters."""
    return text if len(text) <= most else text[: most - 1].rstrip() + "…"


def _picture(
    scores: xr.Dataset, title: str, label: str, limit: float, *,
    interactive: bool = False, listed: list[Reading] | None = None,
) -> Drawing:  # fmt: skip
    """Draw a map with a label at every region, or with the `listed` readings under it; ids are the content's own."""
    readings = read_parts(scores)
    known = [reading for reading in readings.values() if reading.known]
    lowest, best = (end(known, key=lambda reading: reading.value, default=None) for end in (min, max))
    left, top = (COLUMN, 48 if title else 2) if listed is None else (0, 48)
    page = {
        "readings": readings, "owners": {member: r for r in readings.values() for member in r.members}, "limit": limit, "title": shortened(title, 48), "label": label, "listed": listed,
        "told": f"{title or 'Face map'}. " + (f"Highest: {best.title}, {best.text}." if best else "No data."),
        "low": max(-_rounded_up(-lowest.value), -limit) if lowest and lowest.value < -limit / 20 else 0.0,
        "left": left, "top": top, "width": CARD + 2 * left, "interactive": interactive,
        "height": top + HEIGHT + 64 + 34 * len(listed or ()),
    }  # fmt: skip
    key = f"{zlib.crc32(repr(page).encode(errors='backslashreplace')):08x}"
    sizes = {"shapes": shapes(), "places": PLACES, "card": CARD, "face_height": HEIGHT}
    look = {"ink": INK, "soft": SOFT, "font": FONT, "key": key, "colour": colour, "say": method_of(scores).say}
    return Drawing(templates().get_template("face_map.svg").render(page, **sizes, **look))


@cache
def shapes() -> dict[str, str]:
    """Return the outline of every region on the card as the data of an SVG path, the bottom one first."""
    wide, high = CARD - 32, HEIGHT - 32
    card = f"M16 0h{wide}q16 0 16 16v{high}q0 16-16 16h-{wide}q-16 0-16-16v-{high}q0-16 16-16z"
    faces = {r: "".join(svg_path(p, digits=1) for p in placed(r)) for r in reversed(TOP_TO_BOTTOM) if r != REGIONS[0]}
    return {REGIONS[0]: card, **faces}


def placed(region: str) -> tuple[np.ndarray, ...]:
    """Return the polygons of a region on the card, in pixels; hat and glasses moved aside."""
    if region not in ASIDE:
        return tuple(polygon * FACE + ((CARD - FACE) / 2, HEIGHT - FACE) for polygon in POLYGONS[region])
    x, y, width = ASIDE[region]
    low, high = (end(np.concatenate(POLYGONS[region]), axis=0) for end in (np.min, np.max))
    return tuple((p - (low + high) / 2) * (width / (high - low)[0]) + (x, y) for p in POLYGONS[region])
