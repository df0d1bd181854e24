"""The face map: the kit's face template as SVG, each region coloured by its number, with the numbers beside it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from facexkit.faces.regions import TOP_TO_BOTTOM
from facexkit.faces.template import POLYGONS, svg_path
from facexkit.show.readings import Reading, difference, method_of, mirrored, names_of, ranked, read_regions
from facexkit.show.words import in_markup

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
    scores: xr.Dataset,
    *,
    title: str | None = None,
    label: str | None = None,
    limit: float | None = None,
    interactive: bool = False,
) -> Drawing:
    """Draw the scores of one class on the face, with every number beside it.

    Parameters
    ----------
    scores : what `fx.score_regions` gives for one class.
    title : what the picture shows; the class and the model if None.
    label : the legend's words; the method's unit if None.
    limit : the value at the dark end of the colours; from the largest score if None.
    interactive : regions are buttons for `face_map.js`, else the picture is one image.

    Returns
    -------
    The SVG. Regions without data are hatched. Glasses and hat lie beside the face.
    """
    readings, limit = read_regions(scores), limit or scale_limit(scores)
    title = " · ".join(names_of(scores)) if title is None else title
    top = 48 if title else 2
    body = _face(readings, limit, interactive, (COLUMN, top)) + _labels(readings, (COLUMN, top))
    body += _legend(readings, limit, label or method_of(scores).unit, (COLUMN + CARD / 2, top + HEIGHT + 20))
    return _picture(title, readings, limit, body, (CARD + 2 * COLUMN, top + HEIGHT + 64), interactive)


def small_maps(results: Sequence[xr.Dataset], *, titles: Sequence[str] | None = None, top: int = 5) -> list[Drawing]:
    """Draw results without label columns, each with its `top` numbers; see `face_maps`."""
    results, titles = list(results), list(titles or short_titles(results))
    methods = [method_of(scores) for scores in results]
    labels = [method.unit for method in methods]
    scales = [scale_limit(*(s for s, other in zip(results, methods) if other == method)) for method in methods]
    if len(results) == 2 and methods[0] == methods[1]:
        results.append(difference(*results))
        titles.append("Difference")
        labels.append(f"← more in {shortened(titles[1], 16)} · more in {shortened(titles[0], 16)} →")
        scales.append(scale_limit(results[2]))
    return [_small(*each, top) for each in zip(results, titles, labels, scales)]


def face_maps(results: Sequence[xr.Dataset], *, titles: Sequence[str] | None = None, top: int = 5) -> Drawing:
    """Draw several results side by side in one picture, those of one method on one colour scale.

    Parameters
    ----------
    results : one-class results; with two of one method their difference is the third map. Of the two classes of a
        two-class model, whose decision shares are the same, the first is drawn.
    titles : one a result; what tells them apart if None.
    top : how many regions are listed with their numbers under each map.
    """
    if titles is None:
        results = [scores for k, scores in enumerate(results) if not any(mirrored(r, scores) for r in results[:k])]
    drawings, step = small_maps(results, titles=titles, top=top), CARD + 30
    height = HEIGHT + 112 + 34 * top
    inner = "".join(d.replace("<svg ", f'<svg x="{k * step}" ', 1) for k, d in enumerate(drawings))
    return _svg(inner, step * len(drawings) - 30, height, 'role="group"')


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


def _small(scores: xr.Dataset, title: str, unit: str, limit: float, top: int) -> Drawing:
    readings = read_regions(scores)
    best = ranked(scores, by="size")[:top]
    rows = []
    for place, reading in enumerate(best):
        y = HEIGHT + 134 + 34 * place
        rows.append(
            f'<rect x="20" y="{y - 17}" width="22" height="22" rx="5" fill="{colour(reading.value, limit)}" '
            f'stroke="{INK}" stroke-opacity=".35"/>{_text(54, y, reading.title, 19, INK)}'
            + _text(CARD - 20, y, reading.text, 19, INK, "end", bold=True)
        )
    body = _face(readings, limit, False, (0, 48)) + _legend(readings, limit, unit, (CARD / 2, 48 + HEIGHT + 20), 18)
    return _picture(title, readings, limit, body + "".join(rows), (CARD, HEIGHT + 112 + 34 * top), False)


def _picture(
    title: str, readings: dict[str, Reading], limit: float, body: str, size: tuple[float, float], interactive: bool
) -> Drawing:
    """Put title, hatching and gradient around the body; ids are the content's, so that pictures share a page."""
    key = f"{zlib.crc32(body.encode()):08x}"
    low = _low(readings, limit)
    stops = "".join(
        f'<stop offset="{k / 16:.4f}" stop-color="{colour(low + (limit - low) * k / 16, limit)}"/>' for k in range(17)
    )
    defs = (
        f'<defs><pattern id="hatch-{key}" width="8" height="8" patternUnits="userSpaceOnUse" '
        'patternTransform="rotate(45)"><rect width="8" height="8" fill="#fff"/>'
        f'<path d="M0 0V8" stroke="#8a93a3" stroke-width="3"/></pattern>'
        f'<linearGradient id="ramp-{key}">{stops}</linearGradient></defs>'
    )
    best = max((r for r in readings.values() if np.isfinite(r.value)), key=lambda r: r.value, default=None)
    told = f"{title or 'Face map'}. " + (f"Highest: {best.title}, {best.text}." if best else "No data.")
    head = _text(size[0] / 2, 29, shortened(title, 48), 22, INK, "middle", bold=True)
    body = body.replace("url(#hatch)", f"url(#hatch-{key})").replace("url(#ramp)", f"url(#ramp-{key})")
    role = "group" if interactive else "img"
    return _svg(defs + head + body, *size, f'class="face-map" role="{role}" aria-label="{in_markup(told)}"')


def _svg(inner: str, width: float, height: float, attributes: str) -> Drawing:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    look = f'style="max-width:100%;height:auto" font-family="{FONT}"'
    return Drawing(f'<svg xmlns="http://www.w3.org/2000/svg" {size} {look} {attributes}>{inner}</svg>')


def _face(readings: dict[str, Reading], limit: float, interactive: bool, at: tuple[float, float]) -> str:
    """Return the card with the face, bottom region first."""
    parts = []
    for region in reversed(TOP_TO_BOTTOM):
        reading = readings[region]
        known = np.isfinite(reading.value)
        fill = colour(reading.value, limit) if known else "url(#hatch)"
        told = in_markup(f"{reading.title}: {reading.sentence}")
        button = f' role="button" tabindex="0" aria-label="{told}"' if interactive else ""
        if region == "background":
            wide, high = CARD - 32, HEIGHT - 32
            shape = f"M16 0h{wide}q16 0 16 16v{high}q0 16-16 16h-{wide}q-16 0-16-16v-{high}q0-16 16-16z"
        else:
            shape = "".join(svg_path(polygon, digits=1) for polygon in placed(region))
        parts.append(
            f'<g class="region" data-region="{region}" data-value="{f"{reading.value:.6g}" if known else ""}"{button}>'
            f'<title>{told}</title><path d="{shape}" fill="{fill}" fill-rule="nonzero" stroke="{INK}" '
            'stroke-opacity=".55" stroke-width="1.1" stroke-linejoin="round"/></g>'
        )
    return f'<g class="face" transform="translate({at[0]:g} {at[1]:g})">{"".join(parts)}</g>'


def placed(region: str) -> tuple[np.ndarray, ...]:
    """Return the polygons of a region on the card, in pixels; hat and glasses moved aside."""
    if region not in ASIDE:
        return tuple(polygon * FACE + ((CARD - FACE) / 2, HEIGHT - FACE) for polygon in POLYGONS[region])
    x, y, width = ASIDE[region]
    low, high = (end(np.concatenate(POLYGONS[region]), axis=0) for end in (np.min, np.max))
    return tuple((p - (low + high) / 2) * (width / (high - low)[0]) + (x, y) for p in POLYGONS[region])


def _labels(readings: dict[str, Reading], at: tuple[float, float]) -> str:
    """Return name and number of every region beside the card, each with a line to its place."""
    parts = []
    for region, (side, height, x, y) in PLACES.items():
        edge, bend, text, end = (-8, 14, -14, "end") if side == "left" else (CARD + 8, CARD - 14, CARD + 14, "start")
        line = f'<path d="M{edge} {height}H{bend}L{x} {y}" fill="none" '
        parts.append(
            f'<g class="label" data-region="{region}">{line}stroke="#fff" stroke-width="2.4" stroke-opacity=".6"/>'
            f'{line}stroke="{INK}" stroke-width=".9" stroke-opacity=".75"/>'
            f'<circle cx="{x}" cy="{y}" r="2.8" fill="{INK}" stroke="#fff" stroke-width="1.2"/>'
            + _text(text, height - 4, readings[region].title, 14.5, SOFT, end)
            + _text(text, height + 13, readings[region].text, 16.5, INK, end, bold=True)
            + "</g>"
        )
    return f'<g class="labels" aria-hidden="true" transform="translate({at[0]} {at[1]})">{"".join(parts)}</g>'


def _low(readings: dict[str, Reading], limit: float) -> float:
    """Return where the legend begins: 0, or below the lowest value that can be told from 0 by its colour."""
    lowest = min((r.value for r in readings.values() if np.isfinite(r.value)), default=0.0)
    return max(-_rounded_up(-lowest), -limit) if lowest < -limit / 20 else 0.0


def _legend(
    readings: dict[str, Reading], limit: float, label: str, at: tuple[float, float], size: float = 14
) -> str:
    """Return the colour bar with its ends and unit, and what hatching means if a region has no data."""
    method, (x, y) = readings["skin"].method, at
    box = '<rect x="{:g}" y="{:g}" width="{}" height="{}" rx="3" fill="url(#{})" '
    box += f'stroke="{SOFT}" stroke-opacity=".5"/>'
    parts = [box.format(x - 110, y, 220, 12, "ramp"), _text(x, y + 18 + size, label, size, SOFT, "middle")]
    parts.append(_text(x - 118, y + 11, method.say(_low(readings, limit)), size, INK, "end"))
    parts.append(_text(x + 118, y + 11, method.say(limit), size, INK))
    if not all(np.isfinite(r.value) for r in readings.values()):
        parts += [box.format(x + 182, y - 2, 16, 16, "hatch"), _text(x + 204, y + 11, "no data", size, INK)]
    return f'<g class="legend" aria-hidden="true">{"".join(parts)}</g>'


def _text(x: float, y: float, text: str, size: float, fill: str, anchor: str = "start", bold: bool = False) -> str:
    look = f'font-size="{size:g}" fill="{fill}" text-anchor="{anchor}"' + (' font-weight="650"' if bold else "")
    return f'<text x="{x:g}" y="{y:.4g}" {look}>{in_markup(text)}</text>'
