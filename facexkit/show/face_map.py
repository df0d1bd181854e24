"""The face map: the kit's face template as SVG, each region coloured by its number, with the numbers beside it."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from functools import cache
from html import escape
from pathlib import Path

import cv2
import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM
from facexkit.faces.template import POLYGONS
from facexkit.show.readings import Reading, difference, method_of, ranked, read_regions, title_of

UP = ("#eef1f2", "#c9e6ef", "#9ad4e8", "#63b6da", "#2f95c8", "#0f73b3", "#0a539a", "#13387a", "#152259")
DOWN = ("#eef1f2", "#f3dcc2", "#e8bd90", "#d99a60", "#c67a36", "#ab5a10", "#8b3d00", "#6b2200", "#4d0c00")
"""Colours from 0 upwards and from 0 downwards; lightness falls evenly on both (CIE L* 95 to 16)."""

FACE, CARD, HEIGHT, COLUMN = 464, 572, 496, 132  # pixels: face square, card, card height, a label column
ASIDE = {"hat": (76, 72, 108), "eye_g": (CARD - 78, 72, 114)}  # centre x, y and width of what is moved aside
INK, SOFT, FONT = "#16203a", "#4a566b", "'Segoe UI','Helvetica Neue','DejaVu Sans Condensed',Arial,sans-serif"


class Drawing(str):
    """An SVG picture as text, which notebooks display."""

    def _repr_html_(self) -> str:
        return str(self)

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
    """Return the end of a common colour scale: the largest absolute score, rounded up to 1, 1.5, 2, 3, 4, 5, 6, 8 × 10^k."""
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
    width, title = CARD + 2 * COLUMN, _title(scores) if title is None else title
    top = 48 if title else 2
    body = _face(readings, limit, interactive, (COLUMN, top)) + _labels(readings, (COLUMN, top))
    body += _legend(readings, limit, label or method_of(scores).unit, (width / 2, top + HEIGHT + 20))
    return _picture(title, readings, limit, body, width, top + HEIGHT + 64, interactive)


def small_maps(results: Sequence[xr.Dataset], *, titles: Sequence[str] | None = None, top: int = 5) -> list[Drawing]:
    """Draw results on one colour scale without label columns, each with its `top` numbers; two get their difference."""
    results, titles = list(results), list(titles or short_titles(results))
    labels = [method_of(scores).unit for scores in results]
    scales = [scale_limit(*results)] * len(results)
    if len(results) == 2:
        results.append(difference(*results))
        titles.append("Difference")
        labels.append(f"← more in {shortened(titles[1], 16)} · more in {shortened(titles[0], 16)} →")
        scales.append(scale_limit(results[2]))
    return [_small(*each, top) for each in zip(results, titles, labels, scales)]


def face_maps(results: Sequence[xr.Dataset], *, titles: Sequence[str] | None = None, top: int = 5) -> Drawing:
    """Draw several results side by side in one picture; with two of one method their difference is the third."""
    drawings, step = small_maps(results, titles=titles, top=top), CARD + 30
    height = HEIGHT + 112 + 34 * top
    inner = "".join(d.replace("<svg ", f'<svg x="{k * step}" ', 1) for k, d in enumerate(drawings))
    return Drawing(_svg(inner, step * len(drawings) - 30, height, f'role="group" font-family="{FONT}"'))


def short_titles(results: Sequence[xr.Dataset]) -> list[str]:
    """Return what tells results apart: class names, model names, or both."""
    told = [(str(s.attrs.get("class_name", "class")), str(s.attrs.get("model", "model"))) for s in results]
    classes, models = ({pair[k] for pair in told} for k in (0, 1))
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
            f'stroke="{INK}" stroke-opacity=".35"/>{_text(54, y, title_of(reading.region), 19, INK)}'
            + _text(CARD - 20, y, reading.text, 19, INK, "end", bold=True)
        )
    body = _face(readings, limit, False, (0, 48)) + _legend(readings, limit, unit, (CARD / 2, 48 + HEIGHT + 20), 18)
    return _picture(title, readings, limit, body + "".join(rows), CARD, HEIGHT + 112 + 34 * top, False)


def _picture(
    title: str, readings: dict[str, Reading], limit: float, body: str, width: float, height: float, interactive: bool
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
    told = f"{title or 'Face map'}. " + (f"Highest: {title_of(best.region)}, {best.text}." if best else "No data.")
    role = "group" if interactive else "img"
    head = _text(width / 2, 29, shortened(title, 48), 22, INK, "middle", bold=True)
    body = body.replace("url(#hatch)", f"url(#hatch-{key})").replace("url(#ramp)", f"url(#ramp-{key})")
    attributes = f'class="face-map" role="{role}" aria-label="{escape(told)}" font-family="{FONT}"'
    return Drawing(_svg(defs + head + body, width, height, attributes))


def _svg(inner: str, width: float, height: float, attributes: str) -> str:
    size = f'width="{width:g}" height="{height:g}" viewBox="0 0 {width:g} {height:g}"'
    return f'<svg xmlns="http://www.w3.org/2000/svg" {size} style="max-width:100%;height:auto" {attributes}>{inner}</svg>'


def _face(readings: dict[str, Reading], limit: float, interactive: bool, at: tuple[float, float]) -> str:
    """Return the card with the face, bottom region first."""
    parts = []
    for region in reversed(TOP_TO_BOTTOM):
        reading = readings[region]
        known = np.isfinite(reading.value)
        fill = colour(reading.value, limit) if known else "url(#hatch)"
        told = escape(f"{title_of(region)}: {reading.sentence}")
        button = f' role="button" tabindex="0" aria-label="{told}"' if interactive else ""
        if region == "background":
            shape = f"M16 0H{CARD - 16}Q{CARD} 0 {CARD} 16V{HEIGHT - 16}Q{CARD} {HEIGHT} {CARD - 16} {HEIGHT}H16"
            shape += f"Q0 {HEIGHT} 0 {HEIGHT - 16}V16Q0 0 16 0Z"
        else:
            shape = "".join(f"M{'L'.join(f'{x:.1f} {y:.1f}' for x, y in part)}Z" for part in _placed(region))
        parts.append(
            f'<g class="region" data-region="{region}" data-value="{f"{reading.value:.6g}" if known else ""}"{button}>'
            f'<title>{told}</title><path d="{shape}" fill="{fill}" fill-rule="nonzero" stroke="{INK}" '
            'stroke-opacity=".55" stroke-width="1.1" stroke-linejoin="round"/></g>'
        )
    return f'<g class="face" transform="translate({at[0]:g} {at[1]:g})">{"".join(parts)}</g>'


@cache
def _placed(region: str) -> tuple[np.ndarray, ...]:
    """Return the polygons of a region on the card, in pixels; hat and glasses moved aside."""
    polygons = [np.asarray(p, float) * FACE for p in POLYGONS[region]]
    if region not in ASIDE:
        return tuple(p + ((CARD - FACE) / 2, HEIGHT - FACE) for p in polygons)
    x, y, width = ASIDE[region]
    every = np.concatenate(polygons)
    low, high = every.min(0), every.max(0)
    return tuple((p - (low + high) / 2) * (width / (high - low)[0]) + (x, y) for p in polygons)


@cache
def _anchors() -> dict[str, tuple[float, float]]:
    """Return for each region the visible place farthest from its border, on the card."""
    painted = np.zeros((HEIGHT, CARD), np.uint8)
    for region in reversed(TOP_TO_BOTTOM):
        for polygon in () if region == "background" else _placed(region):
            cv2.fillPoly(painted, [np.round(polygon).astype(np.int32)], REGIONS.index(region))
    anchors = {"background": (CARD - 24.0, 148.0)}
    for region in REGIONS[1:]:
        inside = np.pad((painted == REGIONS.index(region)).astype(np.uint8), 1)
        depth = cv2.distanceTransform(inside, cv2.DIST_L2, 5)[1:-1, 1:-1]
        deep = np.argwhere(depth >= 0.9 * depth.max())
        y, x = deep[np.abs(deep - deep.mean(0)).sum(1).argmin()]
        anchors[region] = (float(x), float(y))
    return anchors


@cache
def _label_places() -> dict[str, tuple[bool, float]]:
    """Return for each region whether its label stands on the left, and at which height, without overlaps."""
    anchors, middle = _anchors(), CARD / 2
    sided = sorted(REGIONS, key=lambda r: -abs(anchors[r][0] - middle))
    left, right = [], []
    for region in sided:
        x = anchors[region][0]
        near = abs(x - middle) < 30
        side = left if (len(left) <= len(right) if near else x < middle) else right
        side.append(region)
    places = {}
    for side in (left, right):
        side.sort(key=lambda r: anchors[r][1])
        gap = min(48.0, (HEIGHT - 24) / max(len(side) - 1, 1))
        heights = [anchors[r][1] for r in side]
        for _ in range(200):
            for k in range(len(side) - 1):
                push = max(0.0, gap - (heights[k + 1] - heights[k])) / 2
                heights[k], heights[k + 1] = heights[k] - push, heights[k + 1] + push
            heights = [float(np.clip(h, 12, HEIGHT - 12)) for h in heights]
        places.update({region: (side is left, height) for region, height in zip(side, heights)})
    return places


def _labels(readings: dict[str, Reading], at: tuple[float, float]) -> str:
    """Return name and number of every region beside the card, each with a line to its place."""
    parts, anchors = [], _anchors()
    for region, (left, height) in _label_places().items():
        x, y = anchors[region]
        edge, end, text = (-8, "end", -14) if left else (CARD + 8, "start", CARD + 14)
        bend = 14 if left else CARD - 14
        line = f"M{edge} {height:.1f}H{bend}L{x:.1f} {y:.1f}"
        parts.append(
            f'<g class="label" data-region="{region}"><path d="{line}" fill="none" stroke="#fff" stroke-width="2.4" '
            f'stroke-opacity=".6"/><path d="{line}" fill="none" stroke="{INK}" stroke-width=".9" stroke-opacity=".75"/>'
            f'<circle cx="{x:.1f}" cy="{y:.1f}" r="2.8" fill="{INK}" stroke="#fff" stroke-width="1.2"/>'
            + _text(text, height - 4, title_of(region), 14.5, SOFT, end)
            + _text(text, height + 13, readings[region].text, 16.5, INK, end, bold=True)
            + "</g>"
        )
    return f'<g class="labels" aria-hidden="true" transform="translate({at[0]:g} {at[1]:g})">{"".join(parts)}</g>'


def _low(readings: dict[str, Reading], limit: float) -> float:
    """Return where the legend begins: 0, or below the lowest value that can be told from 0 by its colour."""
    lowest = min((r.value for r in readings.values() if np.isfinite(r.value)), default=0.0)
    return max(-_rounded_up(-lowest), -limit) if lowest < -limit / 20 else 0.0


def _legend(
    readings: dict[str, Reading], limit: float, label: str, at: tuple[float, float], size: float = 14
) -> str:
    """Return the colour bar with its ends and unit, and what hatching means if a region has no data."""
    method, (x, y) = next(iter(readings.values())).method, at
    box = f'<rect x="{{:g}}" y="{{:g}}" width="{{}}" height="{{}}" rx="3" fill="url(#{{}})" stroke="{SOFT}" stroke-opacity=".5"/>'
    parts = [box.format(x - 110, y, 220, 12, "ramp"), _text(x, y + 18 + size, label, size, SOFT, "middle")]
    parts.append(_text(x - 118, y + 11, method.say(_low(readings, limit)), size, INK, "end"))
    parts.append(_text(x + 118, y + 11, method.say(limit), size, INK))
    if not all(np.isfinite(r.value) for r in readings.values()):
        parts += [box.format(x + 182, y - 2, 16, 16, "hatch"), _text(x + 204, y + 11, "no data", size, INK)]
    return f'<g class="legend" aria-hidden="true">{"".join(parts)}</g>'


def _text(x: float, y: float, text: str, size: float, fill: str, anchor: str = "start", bold: bool = False) -> str:
    weight = ' font-weight="650"' if bold else ""
    return (
        f'<text x="{x:g}" y="{y:.4g}" font-size="{size:g}" fill="{fill}" text-anchor="{anchor}"{weight}>{escape(text)}</text>'
    )


def _title(scores: xr.Dataset) -> str:
    told = scores.attrs
    return f"{told.get('class_name', told.get('target_class', 'class'))} · {told.get('model', 'model')}"
