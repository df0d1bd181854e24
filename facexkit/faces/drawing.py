"""Draws a face as layers, one or more for each region: the picture and its exact masks come from the same layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from facexkit.faces.regions import REGIONS
from facexkit.faces.template import POLYGONS, curve, mirror, outline

_HAIRLINES = {
    "side": ([(-0.138, 0.33), (-0.07, 0.285), (0, 0.245), (0.06, 0.217)], [(0.1, 0.265), (0.145, 0.315), (0.18, 0.37)]),
    "middle": ([(-0.145, 0.3), (-0.07, 0.245), (0, 0.217)], [(0.07, 0.245), (0.145, 0.3), (0.18, 0.37)]),
    "fringe": ([(-0.16, 0.345), (-0.08, 0.337), (0, 0.325), (0.08, 0.337), (0.16, 0.345), (0.18, 0.37)],),
    "up": ([(-0.163, 0.29), (-0.1, 0.236), (0, 0.225), (0.1, 0.236), (0.163, 0.29), (0.18, 0.37)],),
    "high": ([(-0.168, 0.27), (-0.11, 0.217), (-0.05, 0.222), (0, 0.226), (0.05, 0.222), (0.11, 0.217), (0.168, 0.27),
              (0.18, 0.37)],),
}  # fmt: skip
HAIRLINES = tuple(_HAIRLINES)
_COHORTS = {
    "daylight": ((1.0, 1.0, 1.0), 1.0, 0.0),
    "sunset": ((1.07, 0.98, 0.84), 1.04, 0.0),
    "overcast": ((0.9, 0.96, 1.03), 0.95, -0.03),
    "faded": ((1.0, 0.99, 0.95), 0.72, 0.06),
}
COHORTS = tuple(_COHORTS)
BEARDS = {"none": (), "stubble": ("mustache", "jaw"), "goatee": ("mustache", "goatee"),
          "full": ("mustache", "goatee", "jaw")}  # fmt: skip
"""The kinds of beard, and the areas of the skin on which each grows."""


@dataclass(frozen=True)
class Face:
    """What a drawing is made from.

    Attributes
    ----------
    labels : what is true of the face, its row in the table.
    shape : geometry by name, as a factor on the template or in its coordinates.
    colours : RGB float (3,) in 0–1, by what has it.
    picture : pose and light of this picture; `noise` seeds its grain.
    """

    labels: dict[str, object]
    shape: dict[str, float]
    colours: dict[str, np.ndarray]
    picture: dict[str, float]


@dataclass(frozen=True)
class Layer:
    """One region's paint: its share `alpha` float (h, w) of the pixels in `box`, and its colours float (h, w, 3) in 0–1."""

    region: str
    box: tuple[slice, slice]
    alpha: np.ndarray
    colour: np.ndarray


def picture_of(layers: Sequence[Layer], face: Face) -> np.ndarray:
    """Return the layers painted over each other in the picture's light, the cohort's look and grain: uint8 (S, S, 3)."""
    canvas, picture = layers[0].colour.copy(), face.picture
    for layer in layers[1:]:
        canvas[layer.box] += layer.alpha[..., None] * (layer.colour - canvas[layer.box])
    place = np.linspace(-1, 1, len(canvas), dtype=np.float32)
    light = picture["gain"] * (1 + picture["light_x"] * place[None, :] + picture["light_y"] * place[:, None])
    tint, contrast, lift = _COHORTS[str(face.labels["cohort"])]
    canvas *= light[..., None] * np.array(tint, np.float32) * 255 * contrast
    grain = np.random.default_rng(int(picture["noise"])).standard_normal(light.shape, np.float32)
    canvas += (2.5 * grain + (127.5 * (1 - contrast) + 255 * lift + 0.5))[..., None]
    return np.clip(canvas, 0, 255).astype(np.uint8)


def masks_of(layers: Sequence[Layer]) -> dict[str, np.ndarray]:
    """Return the pixels on which each region shows at all, bool (S, S) by name; what is seen through glass shows."""
    hidden = np.zeros(layers[0].alpha.shape, bool)
    masks: dict[str, np.ndarray] = {}
    for layer in reversed(layers):
        mask = masks.setdefault(layer.region, np.zeros_like(hidden))
        mask[layer.box] |= (layer.alpha > 0) & ~hidden[layer.box]
        hidden[layer.box] |= layer.alpha >= 1
    return {name: masks[name] for name in REGIONS if name in masks and masks[name].any()}


def _blob(u: np.ndarray, v: np.ndarray, x: float, y: float, width: float, height: float) -> np.ndarray:
    """Return a soft spot of height 1 at (x, y)."""
    return np.exp(-(((u - x) / width) ** 2) - ((v - y) / height) ** 2)


def _step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


_GRID = 256


@lru_cache(maxsize=1)
def _soft_paint() -> dict[str, np.ndarray]:
    """Return what is painted without an outline, float32 (256, 256) over the template's square: form, shadows, growth."""
    v, u = np.mgrid[0:_GRID, 0:_GRID].astype(np.float32) / _GRID
    x = np.abs(u - 0.5)
    form = 1.05 - 0.17 * ((x / 0.21) ** 2 + ((v - 0.49) / 0.31) ** 2) + 0.06 * _blob(u, v, 0.5, 0.31, 0.1, 0.06)
    form -= 0.11 * _blob(x, v, 0.078, 0.412, 0.05, 0.022) + 0.1 * _blob(x, v, 0.048, 0.468, 0.014, 0.04)
    form += 0.05 * _blob(x, v, 0.115, 0.505, 0.045, 0.03)
    form -= 0.1 * _blob(u, v, 0.5, 0.603, 0.035, 0.014) + 0.1 * _blob(u, v, 0.5, 0.7, 0.045, 0.012)
    nose = -0.2 * _step(v, 0.5, 0.575) * _step(x, 0.022, 0.06) - 0.07 * _step(x, 0.008, 0.04)
    nose += 0.12 * _blob(u, v, 0.497, 0.54, 0.014, 0.02) + 0.06 * _blob(u, v, 0.497, 0.48, 0.009, 0.06)
    nose -= 0.16 * _step(v, 0.557, 0.58) + 0.5 * _blob(x, v, 0.027, 0.569, 0.013, 0.0075)
    turn = np.arctan2(x + 0.02, np.abs(v - 0.1) + 0.12) + 0.6 * v
    strands = 0.09 * np.sin(60 * turn) + 0.055 * np.sin(131 * turn + 5 * v) - 0.16 * _step(v, 0.3, 0.6)
    strands += 0.35 * _blob(np.hypot((u - 0.5) * 1.1, v - 0.36), v, 0.25, 0.1, 0.03, 0.16)
    lines = [curve([(0.41, y + 0.006), (0.5, y), (0.59, y + 0.006)]) for y in (0.277, 0.302, 0.328)]
    half = [curve([(0.442, 0.572), (0.41, 0.605), (0.396, 0.645)])]
    half += [curve([(0.345, 0.432 + d), (0.325, 0.427 + 2.4 * d)]) for d in (-0.006, 0.003, 0.012)]
    ink = np.zeros((_GRID, _GRID), np.uint8)
    paths = [np.round(line * _GRID * 16).astype(np.int32) for line in (*lines, *half, *map(mirror, half))]
    cv2.polylines(ink, paths, False, 255, 2, cv2.LINE_AA, 4)
    brim = 0.22 * np.exp(-(((v - 0.195 + 0.6 * x**2) / 0.012) ** 2))
    paint = {
        "form": form, "nose": 1 + nose, "strands": 1 + strands,
        "wrinkles": cv2.GaussianBlur(ink, (0, 0), 0.8).astype(np.float32) / 255,
        "cheeks": _blob(x, v, 0.125, 0.545, 0.055, 0.045), "bags": _blob(x, v, 0.1, 0.468, 0.036, 0.012),
        "mustache": _step(-((x / 0.09) ** 2) - ((v - 0.608 - 0.25 * x) / 0.026) ** 2, -1.2, -0.5),
        "goatee": _step(-((x / 0.075) ** 4) - ((v - 0.75) / 0.062) ** 4, -1.3, -0.4),
        "jaw": _step((x / 0.2) ** 2 + ((v - 0.5) / 0.28) ** 2, 0.55, 0.85) * _step(v, 0.52, 0.6),
        "ears": 0.92 - 0.26 * _blob(x, v, 0.235, 0.505, 0.017, 0.045),
        "neck": 0.68 + 0.27 * _step(v - 0.79 + 0.9 * x**2, -0.01, 0.085) - 2.2 * x**2,
        "cloth": 0.98 - 1.1 * x**2 + 0.06 * np.sin(26 * u + 9 * x * v) * _step(v, 0.88, 1),
        "hat": 1.06 - 2.2 * x**2 + 0.05 * np.sin(110 * (u - 0.5) / (1 + 0.5 * np.abs(v - 0.3))) - brim,
        "metal": 0.88 + 0.3 * np.sin(150 * u + 90 * v), "brows": 1 + 0.14 * np.sin(420 * u + 260 * v),
    }  # fmt: skip
    return {name: field.astype(np.float32) for name, field in paint.items()}


def _formed(name: str, points: np.ndarray, s: dict[str, float]) -> np.ndarray:
    """Return an outline of the template in somebody's geometry."""
    centre = points.mean(0)
    side = np.sign(np.round(centre[0] - 0.5, 3))
    x, y = points[:, 0] - centre[0], points[:, 1] - centre[1]
    if name.endswith("eye"):
        y = y * s["eye_size"] * s["eye_open"] - side * s["eye_tilt"] * x + s["eye_height"]
        x = x * s["eye_size"] + side * s["eye_gap"]
    elif name.endswith("brow"):
        across = x / 0.066
        y = y * s["brow_thick"] + 0.012 * (s["brow_arch"] * (across**2 - 0.4) - side * s["brow_tilt"] * across)
        x, y = x + side * s["eye_gap"], y + s["brow_height"] + s["eye_height"]
    elif name.endswith("ear"):
        x, y = x * s["ear_size"], y * s["ear_size"]
    elif name == "ear_r":
        x, y = x * s["earring_size"], (y + 0.02) * s["earring_size"] - 0.024
    elif name == "nose":
        x, y = x * s["nose_width"], (points[:, 1] - 0.412) * s["nose_length"] + 0.412 - centre[1]
    elif name == "eye_g":
        y = y * s["lens_height"] + s["eye_height"]
    elif name == "cloth":
        y = np.where(points[:, 1] > 0.99, 0.3, y)
    elif name in ("u_lip", "l_lip", "mouth"):
        middle = np.clip(1 - (x / 0.083) ** 2, 0, 1)
        y = (points[:, 1] - 0.636) * (1 if name == "mouth" else s["lip_full"])
        lower = {"l_lip": 1, "u_lip": 0, "mouth": y > 0.003}[name]
        y += middle * lower * (s["opening"] - 0.011) - s["smile"] * (0.55 - middle) * 0.024
        x, y = x * s["mouth_width"] * (1 + 0.09 * s["smile"]), y + 0.636 + s["mouth_height"] - centre[1]
    x, y = x + centre[0] - 0.5, y + centre[1]
    if name not in ("cloth", "neck", "neck_l"):
        x = x * s["face_width"]
    if name == "hat":
        x = x * (1 + s["hair_volume"])
    if name == "skin":
        low = _step(y, 0.5, 0.72)
        x, y = x * (1 + s["jaw"] * low), y + s["chin"] * low
    return np.column_stack([x + 0.5, y])


def _hair_outline(s: dict[str, float], end: float | None) -> np.ndarray:
    """Return the hair around the face; it falls to the height `end`, or is short where that is None."""
    w = s["hair_volume"]
    left = [(-0.1, 0.062 - w), (-0.19, 0.102 - 0.8 * w), (-0.264 - 0.7 * w, 0.205)]
    if end is None:
        left += [(-0.282 - 0.7 * w, 0.32), (-0.27 - 0.4 * w, 0.4), (-0.237, 0.446), (-0.214, 0.484), (-0.2, 0.48)]
        left += [(-0.192, 0.43), (-0.182, 0.37)]
    else:
        left += [(-0.297 - w, 0.34), (-0.305 - w, 0.46), (-0.312 - w, (0.46 + end) / 2), (-0.305 - w, end - 0.075)]
        left += [(-0.28, end - 0.015), (-0.236, end), (-0.197, end - 0.02), (-0.182, end - 0.08)]
        left += [(-0.192, (end + 0.5) / 2), (-0.199, 0.53), (-0.196, 0.44), (-0.182, 0.37)]
    right = [(-x, y) for x, y in reversed(left)]
    points = outline(left, *_HAIRLINES[HAIRLINES[int(s["hairline"])]], [*right[1:], (0, 0.052 - 1.1 * w)])
    away = points - (0, 0.42)
    wave = s["curl"] * np.sin(np.arange(len(points)) * 1.7)
    points = points + wave[:, None] * away / np.hypot(*away.T)[:, None]
    return points * (s["parting"] * s["face_width"], 1) + (0.5, 0)


def draw(face: Face, size: int) -> tuple[Layer, ...]:
    """Return the layers of a face, lowest first; the first one, the background, fills the picture of size × size pixels."""
    labels, shape, sheet = face.labels, face.shape, _Sheet(face, size)
    ears = [sheet.plain(f"{side}_ear", "skin", "ears") for side in "rl"]
    layers = [sheet.background(), sheet.cloth(), *sheet.back_hair(), sheet.plain("neck", "skin", "neck")]
    layers += [sheet.plain("neck_l", "necklace", "metal")] * bool(labels["necklace"])
    layers += [*ears, *sheet.skin_and_nose()]
    layers += [layer for side in "rl" for layer in (sheet.plain(f"{side}_brow", "brow", "brows"), sheet.eye(side))]
    layers += [*sheet.mouth(), sheet.hair(), *(ears if shape["ears_free"] > 0.5 else [])]
    layers += [sheet.plain("ear_r", "earring", "metal")] * bool(labels["earrings"])
    layers += [sheet.plain("hat", "hat", "hat")] * bool(labels["hat"])
    return tuple(layers + ([sheet.glasses()] if labels["glasses"] else []))


def soft_areas(face: Face, size: int) -> dict[str, np.ndarray]:
    """Return where the skin's soft features lie, float (S, S) in 0–1: cheeks, bags, mustache, goatee, jaw."""
    sheet = _Sheet(face, size)
    areas = {name: sheet.soft(name, sheet.all) for name in ("cheeks", "bags", "mustache", "goatee", "jaw")}
    right = sheet.u < 0.5
    return {**areas, "right_cheek": areas["cheeks"] * right, "left_cheek": areas["cheeks"] * ~right}


Box = tuple[slice, slice]


class _Sheet:
    """The pixels that a face is drawn on: `u`, `v` float32 (S, S) are each pixel's place on the template."""

    def __init__(self, face: Face, size: int) -> None:
        self.face, self.shape, self.colours, self.size = face, face.shape, face.colours, size
        picture = face.picture
        turn = np.deg2rad(picture["turn"])
        self.pose = picture["scale"] * np.array([[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]])
        self.centre = np.array([0.5 + picture["shift_x"], 0.5 + picture["shift_y"]])
        self.all = (slice(0, size), slice(0, size))
        place = (np.arange(size) + 0.5) / size - self.centre[:, None]
        back = np.linalg.inv(self.pose)
        x, y = place[0][None, :], place[1][:, None]
        u, v = (np.float32(back[i, 0] * x + back[i, 1] * y + 0.5) for i in (0, 1))
        self.u, self.v = u - self._yaw(u, v), v
        self.outlines = {name: [_formed(name, p, face.shape) for p in ps] for name, ps in POLYGONS.items()}
        length = face.shape["hair_length"]
        self.hair_end = 0.54 + 0.46 * length if length > 0.3 else None

    def _yaw(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return how far a turn of the head moves a place sideways: most at the nose, nothing at the outline."""
        return self.face.picture["yaw"] * _blob(u, v, 0.5, 0.5, 0.16, 0.22)

    def cover(self, polygons: Sequence[np.ndarray], line: float = 0.0, box: Box | None = None) -> tuple[Box, np.ndarray]:
        """Return the pixels' box and the share of each pixel, float32, that polygons (or lines of a width) cover."""
        points = np.concatenate(polygons)
        points = points - 0.5 + np.column_stack([self._yaw(*points.T), np.zeros(len(points))])
        pixels = (points @ self.pose.T + self.centre) * self.size
        if box is None:
            edge = line * self.size + 1
            (left, top), (right, bottom) = pixels.min(0) - edge, pixels.max(0) + edge
            x, y = min(max(int(left), 0), self.size - 1), min(max(int(top), 0), self.size - 1)
            box = (slice(y, max(min(int(bottom) + 1, self.size), y + 1)), slice(x, max(min(int(right) + 1, self.size), x + 1)))
        rows, columns = box
        height, width = rows.stop - rows.start, columns.stop - columns.start
        ink = np.zeros((height * _FINE, width * _FINE), np.uint8)
        fine = np.round(((pixels - (columns.start, rows.start)) * _FINE - 0.5) * 16).astype(np.int32)
        paths = np.split(fine, np.cumsum([len(p) for p in polygons])[:-1])
        if line:
            cv2.polylines(ink, paths, False, 255, max(1, round(line * self.size * _FINE)), cv2.LINE_8, 4)
        else:
            cv2.fillPoly(ink, paths, 255, cv2.LINE_8, 4)
        share = cv2.resize(ink, (width, height), interpolation=cv2.INTER_AREA)
        return box, np.clip((share - np.float32(38)) * np.float32(1 / 179), 0, 1)

    def soft(self, name: str, box: Box, x_scale: float = 1.0, y_scale: float = 1.0, top: float = 0.0) -> np.ndarray:
        """Return soft paint on a box, float32, stretched from the middle line and from the height `top`."""
        x = (self.u[box] - 0.5) * (_GRID / x_scale) + _GRID / 2
        y = (self.v[box] - top) * (_GRID / y_scale) + _GRID * top
        return cv2.remap(_soft_paint()[name], x, y, cv2.INTER_LINEAR, borderMode=cv2.BORDER_REPLICATE)

    def plain(self, region: str, colour: str, paint: str) -> Layer:
        """Return a region in one colour under its soft paint."""
        box, alpha = self.cover(self.outlines[region])
        return Layer(region, box, alpha, _shaded(self.colours[colour], self.soft(paint, box)))

    def background(self) -> Layer:
        place = np.linspace(-1, 1, self.size, dtype=np.float32)
        p = self.face.picture
        glow = 0.62 + 0.5 * _blob(place[None, :], place[:, None], p["glow_x"], p["glow_y"], 1.1, 1.1)
        return Layer("background", self.all, np.ones_like(glow), _shaded(self.colours["background"], glow))

    def cloth(self) -> Layer:
        layer = self.plain("cloth", "cloth", "cloth")
        if self.shape["collar"]:
            neck = (self.outlines["neck"][0] - (0.5, 0.8)) * (1.12, 1.13) + (0.5, 0.8)
            _blend(layer.colour, self.cover([neck], box=layer.box)[1], self.colours["cloth"] * 0.6)
        return layer

    def skin_and_nose(self) -> list[Layer]:
        labels, shape, colours = self.face.labels, self.shape, self.colours
        box, alpha = self.cover(self.outlines["skin"])
        colour = _shaded(colours["skin"], self.soft("form", box))
        _blend(colour, (0.62 if labels["rosy_cheeks"] else 0.14) * self.soft("cheeks", box), colours["blush"])
        if labels["eye_bags"]:
            _blend(colour, 0.3 * self.soft("bags", box), colours["skin"] * (0.42, 0.3, 0.34))
        if shape["wrinkles"]:
            _blend(colour, shape["wrinkles"] * self.soft("wrinkles", box), colours["skin"] * 0.45)
        for area in BEARDS[str(labels["beard"])]:
            _blend(colour, shape["beard_density"] * self.soft(area, box), colours["beard"])
        lids = [self.outlines[f"{side}_eye"][0] for side in "rl"]
        lids = [(lid - lid.mean(0)) * 1.06 + lid.mean(0) - (0, 0.012) for lid in lids]
        creases = [lid[:21] if n == 0 else lid[-21:] for n, lid in enumerate(lids)]
        nose_box, nose = self.cover(self.outlines["nose"])
        inside = tuple(slice(n.start - b.start, n.stop - b.start) for n, b in zip(nose_box, box, strict=True))
        shade = self.soft("nose", nose_box, shape["nose_width"] * shape["face_width"], shape["nose_length"], 0.412)
        nose_colour = colour[inside] * shade[..., None]
        _blend(colour, 0.4 * self.cover(creases, line=0.006, box=box)[1], colours["skin"] * 0.45)
        return [Layer("skin", box, alpha, colour), Layer("nose", nose_box, nose, nose_colour)]

    def eye(self, side: str) -> Layer:
        polygon = self.outlines[f"{side}_eye"][0]
        box, alpha = self.cover([polygon])
        u, v = self.u[box], self.v[box]
        top = polygon[:, 1].min()
        colour = _shaded(np.array((0.95, 0.94, 0.92)), 0.8 + 0.2 * _step(v, top, top + 0.016))
        x, y = polygon.mean(0) + (self.face.picture["gaze"], -0.002)
        radius, iris = 0.0165 * self.shape["eye_size"], self.colours["iris"]
        for share, paint, d in ((1, iris * 0.55, 0), (0.84, iris, 0), (0.45, iris * 0.1, 0), (0.26, np.ones(3), 0.006)):
            disc = (radius * share - np.hypot(u - x - d, v - y + d)) * self.size + 0.5
            _blend(colour, np.clip(disc, 0, 1), paint)
        lash = (1 - self.cover([polygon + (0, 0.0065)], box=box)[1]) * (v < polygon[:, 1].mean() + 0.004)
        _blend(colour, 0.85 * lash, np.array((0.12, 0.08, 0.07)))
        return Layer(f"{side}_eye", box, alpha, colour)

    def mouth(self) -> list[Layer]:
        layers = []
        for name in ("l_lip", "mouth", "u_lip") if self.face.labels["mouth_open"] else ("l_lip", "u_lip"):
            polygon = self.outlines[name][0]
            box, alpha = self.cover([polygon])
            u, v = self.u[box], self.v[box]
            top, bottom = polygon[:, 1].min(), polygon[:, 1].max()
            if name == "mouth":
                colour = _shaded(np.array((0.28, 0.07, 0.07)), np.ones_like(v))
                teeth = _step(top + 0.62 * (bottom - top) + 0.004 - v, 0, 0.006) * _step(0.075 - np.abs(u - 0.5), 0, 0.025)
                _blend(colour, teeth, np.array((0.93, 0.91, 0.87)))
            elif name == "l_lip":
                colour = _shaded(self.colours["lips"], 0.75 + 0.29 * _step(v, top - 0.002, top + 0.014))
                colour += self.shape["gloss"] * _blob(u, v, 0.49, top + 0.55 * (bottom - top), 0.03, 0.008)[..., None]
            else:
                colour = _shaded(self.colours["lips"], 0.86 - 0.26 * _step(v, bottom - 0.012, bottom))
            layers.append(Layer(name, box, alpha, colour))
        return layers

    def hair(self, shade: float = 1.0) -> Layer:
        box, alpha = self.cover([_hair_outline(self.shape, self.hair_end)])
        return Layer("hair", box, alpha, _shaded(self.colours["hair"], self.soft("strands", box)))

    def back_hair(self) -> list[Layer]:
        if self.hair_end is None:
            return []
        end = self.hair_end
        half = curve([(0.5, 0.3), (0.27, 0.35), (0.262, 0.6), (0.268, end - 0.03), (0.34, end - 0.012), (0.5, end - 0.02)])
        box, alpha = self.cover([np.concatenate([half, mirror(half)])])
        return [Layer("hair", box, alpha, _shaded(self.colours["hair"] * 0.62, self.soft("strands", box)))]

    def glasses(self) -> Layer:
        rim = self.outlines["eye_g"][0]
        reach, rim = np.abs(rim[:, 0] - 0.5).max(), np.concatenate([rim, rim[:1]])
        ear = 0.206 * self.shape["face_width"]
        arms = [np.array([(0.5 + side * reach, 0.425), (0.5 + side * ear, 0.428)]) for side in (-1, 1)]
        box, frame = self.cover([rim, *arms], line=self.shape["frame"])
        glare = 0.1 + 0.16 * _step(np.sin(14 * (self.u[box] + self.v[box])), 0.75, 1)
        alpha = np.maximum(frame, self.cover([rim], box=box)[1] * glare)
        colour = _shaded(self.colours["frame"], np.ones_like(alpha))
        _blend(colour, 1 - frame / np.maximum(alpha, 1e-6), np.array((0.86, 0.93, 1.0)))
        return Layer("eye_g", box, alpha, colour)


_FINE = 4


def _shaded(colour: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Return a colour (3,) under a shade (h, w): float32 (h, w, 3)."""
    return shade[..., None] * np.asarray(colour, np.float32)


def _blend(colour: np.ndarray, share: np.ndarray, paint: np.ndarray) -> None:
    """Mix `share` (h, w) of a paint (3,) into colours (h, w, 3) in place."""
    colour += share[..., None] * (np.asarray(paint, np.float32) - colour)
