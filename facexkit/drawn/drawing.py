"""Draws a face as layers, one or more for each region: the picture and its exact masks come from the same layers."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache

import cv2
import numpy as np

from facexkit.drawn.figure import back_hair, hair, outlines, smooth_step
from facexkit.drawn.people import Face
from facexkit.faces.regions import REGIONS
from facexkit.faces.template import curve, mirror

Box = tuple[slice, slice]

_FINE = 4
_GRID = 256
_COHORTS = {  # tint, contrast, lift
    "daylight": ((1.0, 1.0, 1.0), 1.0, 0.0),
    "sunset": ((1.07, 0.98, 0.84), 1.04, 0.0),
    "overcast": ((0.9, 0.96, 1.03), 0.95, -0.03),
    "faded": ((1.0, 0.99, 0.95), 0.72, 0.06),
}
_BEARDS = {"none": (), "stubble": ("mustache", "jaw"), "goatee": ("mustache", "goatee"),
           "full": ("mustache", "goatee", "jaw")}  # fmt: skip


@dataclass(frozen=True)
class Layer:
    """One region's paint: its share `alpha` (h, w) of the pixels in `box` and its colours (h, w, 3), in 0–1."""

    region: str
    box: Box
    alpha: np.ndarray
    colour: np.ndarray


def picture_of(layers: Sequence[Layer], face: Face) -> np.ndarray:
    """Return the layers painted over each other, with light, the cohort's look and grain: uint8 (S, S, 3)."""
    canvas = layers[0].colour.copy()
    for layer in layers[1:]:
        canvas[layer.box] += layer.alpha[..., None] * (layer.colour - canvas[layer.box])
    gain, more = light_of(face, len(canvas))
    return np.clip(canvas * gain + more, 0, 255).astype(np.uint8)


def light_of(face: Face, size: int) -> tuple[np.ndarray, np.ndarray]:
    """Return by what light and the cohort's look multiply the colours, float32 (S, S, 3), and what, with grain, they add."""
    picture = face.picture
    place = np.linspace(-1, 1, size, dtype=np.float32)
    light = picture["gain"] * (1 + picture["light_x"] * place[None, :] + picture["light_y"] * place[:, None])
    tint, contrast, lift = _COHORTS[face.labels["cohort"]]
    grain = np.random.default_rng(picture["noise"]).standard_normal(light.shape, np.float32)
    more = 2.5 * grain + (127.5 * (1 - contrast) + 255 * lift + 0.5)
    return light[..., None] * np.array(tint, np.float32) * 255 * contrast, more[..., None]


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


@lru_cache(maxsize=1)
def _soft_paint() -> dict[str, np.ndarray]:
    """Return what is painted without an outline, float32 over the template's square: form, shadows, growth."""
    v, u = np.mgrid[0:_GRID, 0:_GRID].astype(np.float32) / _GRID
    x = np.abs(u - 0.5)
    form = 1.05 - 0.17 * ((x / 0.21) ** 2 + ((v - 0.49) / 0.31) ** 2) + 0.06 * _blob(u, v, 0.5, 0.31, 0.1, 0.06)
    form -= 0.11 * _blob(x, v, 0.078, 0.412, 0.05, 0.022) + 0.1 * _blob(x, v, 0.048, 0.468, 0.014, 0.04)
    form += 0.05 * _blob(x, v, 0.115, 0.505, 0.045, 0.03)
    form -= 0.1 * _blob(u, v, 0.5, 0.603, 0.035, 0.014) + 0.1 * _blob(u, v, 0.5, 0.7, 0.045, 0.012)
    nose = -0.2 * smooth_step(v, 0.5, 0.575) * smooth_step(x, 0.022, 0.06) - 0.07 * smooth_step(x, 0.008, 0.04)
    nose += 0.12 * _blob(u, v, 0.497, 0.54, 0.014, 0.02) + 0.06 * _blob(u, v, 0.497, 0.48, 0.009, 0.06)
    nose -= 0.16 * smooth_step(v, 0.557, 0.58) + 0.5 * _blob(x, v, 0.027, 0.569, 0.013, 0.0075)
    turn = np.arctan2(x + 0.02, np.abs(v - 0.1) + 0.12) + 0.6 * v
    strands = 0.09 * np.sin(60 * turn) + 0.055 * np.sin(131 * turn + 5 * v) - 0.16 * smooth_step(v, 0.3, 0.6)
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
        "cheeks": _blob(x, v, 0.125, 0.545, 0.055, 0.045) * smooth_step(x, 0.06, 0.1),
        "bags": _blob(x, v, 0.1, 0.468, 0.036, 0.012),
        "mustache": smooth_step(-((x / 0.09) ** 2) - ((v - 0.608 - 0.25 * x) / 0.026) ** 2, -1.2, -0.5),
        "goatee": smooth_step(-((x / 0.068) ** 2) - ((v - 0.752) / 0.06) ** 2, -1.2, -0.5),
        "jaw": smooth_step((x / 0.2) ** 2 + ((v - 0.5) / 0.28) ** 2, 0.55, 0.85) * smooth_step(v, 0.52, 0.6),
        "ears": 0.92 - 0.26 * _blob(x, v, 0.235, 0.505, 0.017, 0.045),
        "neck": 0.68 + 0.27 * smooth_step(v - 0.79 + 0.9 * x**2, -0.01, 0.085) - 2.2 * x**2,
        "cloth": 0.98 - 1.1 * x**2 + 0.06 * np.sin(26 * u + 9 * x * v) * smooth_step(v, 0.88, 1),
        "hat": 1.06 - 2.2 * x**2 + 0.05 * np.sin(110 * (u - 0.5) / (1 + 0.5 * np.abs(v - 0.3))) - brim,
        "metal": 0.88 + 0.3 * np.sin(150 * u + 90 * v), "brows": 1 + 0.14 * np.sin(420 * u + 260 * v),
    }  # fmt: skip
    return {name: field.astype(np.float32) for name, field in paint.items()}


def draw(face: Face, size: int) -> tuple[Layer, ...]:
    """Return the layers of a face, lowest first; the first one, the background, fills all size × size pixels."""
    labels, shape, sheet = face.labels, face.shape, _Sheet(face, size)
    ears = [sheet.plain(f"{side}_ear", "skin", "ears") for side in "rl"]
    behind = sheet.plain("hair", "hair", "strands", back_hair(shape["hair_end"]), shade=0.62)
    layers = [sheet.background(), sheet.cloth(), behind, sheet.plain("neck", "skin", "neck")]
    if labels["necklace"]:
        layers.append(sheet.plain("neck_l", "necklace", "metal"))
    layers += [*ears, *sheet.skin_and_nose()]
    layers += [layer for side in "rl" for layer in (sheet.plain(f"{side}_brow", "brow", "brows"), sheet.eye(side))]
    layers += [*sheet.mouth(), sheet.plain("hair", "hair", "strands", hair(shape))]
    if shape["ears_free"]:
        layers += ears
    if labels["earrings"]:
        layers.append(sheet.plain("ear_r", "earring", "metal"))
    if labels["hat"]:
        layers.append(sheet.plain("hat", "hat", "hat"))
    if labels["glasses"]:
        layers.append(sheet.glasses())
    return tuple(layers)


def soft_areas(face: Face, size: int) -> dict[str, np.ndarray]:
    """Return where the skin's soft features lie, float (S, S) in 0–1: cheeks, bags, mustache, goatee, jaw."""
    sheet = _Sheet(face, size)
    areas = {name: sheet.soft(name, sheet.all) for name in ("cheeks", "bags", "mustache", "goatee", "jaw")}
    right = sheet.u < 0.5
    return {**areas, "right_cheek": areas["cheeks"] * right, "left_cheek": areas["cheeks"] * ~right}


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

    def _yaw(self, u: np.ndarray, v: np.ndarray) -> np.ndarray:
        """Return how far a turn of the head moves a place sideways: most at the nose, nothing at the outline."""
        return self.face.picture["yaw"] * _blob(u, v, 0.5, 0.5, 0.16, 0.22)

    def cover(
        self, polygons: Sequence[np.ndarray], line: float = 0.0, box: Box | None = None
    ) -> tuple[Box, np.ndarray]:
        """Return the pixels' box and the share of each pixel, float32, that polygons (or lines of a width) cover."""
        points = np.concatenate(polygons) - 0.5
        points[:, 0] += self._yaw(points[:, 0] + 0.5, points[:, 1] + 0.5)
        pixels = (points @ self.pose.T + self.centre) * self.size
        if box is None:
            edge = line * self.size + 1
            (left, top), (right, bottom) = pixels.min(0) - edge, pixels.max(0) + edge
            x, y = min(max(int(left), 0), self.size - 1), min(max(int(top), 0), self.size - 1)
            rows = slice(y, max(min(int(bottom) + 1, self.size), y + 1))
            box = (rows, slice(x, max(min(int(right) + 1, self.size), x + 1)))
        rows, columns = box
        height, width = rows.stop - rows.start, columns.stop - columns.start
        ink = np.zeros((height * _FINE, width * _FINE), np.uint8)
        fine = np.rint((pixels - (columns.start, rows.start)) * (_FINE * 16) - 8).astype(np.int32)
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

    def plain(
        self, region: str, colour: str, paint: str, polygons: Sequence[np.ndarray] = (), shade: float = 1.0
    ) -> Layer:
        """Return a region in one colour under its soft paint; its polygons are the template's where none are given."""
        box, alpha = self.cover(polygons or outlines(region, self.shape))
        return Layer(region, box, alpha, _shaded(self.colours[colour] * shade, self.soft(paint, box)))

    def background(self) -> Layer:
        place = np.linspace(-1, 1, self.size, dtype=np.float32)
        p = self.face.picture
        glow = 0.62 + 0.5 * _blob(place[None, :], place[:, None], p["glow_x"], p["glow_y"], 1.1, 1.1)
        return Layer("background", self.all, np.ones_like(glow), _shaded(self.colours["background"], glow))

    def cloth(self) -> Layer:
        layer = self.plain("cloth", "cloth", "cloth")
        if self.shape["collar"]:
            neck = (outlines("neck", self.shape)[0] - (0.5, 0.8)) * (1.12, 1.13) + (0.5, 0.8)
            _blend(layer.colour, self.cover([neck], box=layer.box)[1], self.colours["cloth"] * 0.6)
        return layer

    def skin_and_nose(self) -> list[Layer]:
        labels, shape, skin = self.face.labels, self.shape, self.colours["skin"]
        box, alpha = self.cover(outlines("skin", shape))
        colour = _shaded(skin, self.soft("form", box))
        nose_box, nose = self.cover(outlines("nose", shape))
        inside = tuple(slice(n.start - b.start, n.stop - b.start) for n, b in zip(nose_box, box, strict=True))
        shade = self.soft("nose", nose_box, shape["nose_width"] * shape["face_width"], shape["nose_length"], 0.412)
        nose_colour = colour[inside] * shade[..., None]
        _blend(colour, (0.62 if labels["rosy_cheeks"] else 0.14) * self.soft("cheeks", box), self.colours["blush"])
        if labels["eye_bags"]:
            _blend(colour, 0.3 * self.soft("bags", box), skin * (0.42, 0.3, 0.34))
        if shape["wrinkles"]:
            _blend(colour, shape["wrinkles"] * self.soft("wrinkles", box), skin * 0.45)
        for area in _BEARDS[labels["beard"]]:
            _blend(colour, shape["beard_density"] * self.soft(area, box), self.colours["beard"])
        lids = [outlines(f"{side}_eye", shape)[0] for side in "rl"]
        upper = [lid[:21] if lid[0, 0] < 0.5 else lid[-21:] for lid in lids]
        creases = [(arc - lid.mean(0)) * 1.06 + lid.mean(0) - (0, 0.012) for arc, lid in zip(upper, lids, strict=True)]
        _blend(colour, 0.4 * self.cover(creases, line=0.006, box=box)[1], skin * 0.45)
        return [Layer("skin", box, alpha, colour), Layer("nose", nose_box, nose, nose_colour)]

    def eye(self, side: str) -> Layer:
        polygon = outlines(f"{side}_eye", self.shape)[0]
        box, alpha = self.cover([polygon])
        u, v = self.u[box], self.v[box]
        top = polygon[:, 1].min()
        colour = _shaded(np.array((0.95, 0.94, 0.92)), 0.8 + 0.2 * smooth_step(v, top, top + 0.016))
        x, y = polygon.mean(0) + (self.face.picture["gaze"], -0.002)
        radius, iris = 0.0165 * self.shape["eye_size"], self.colours["iris"]
        for share, paint, d in ((1, iris * 0.55, 0), (0.84, iris, 0), (0.45, iris * 0.1, 0), (0.26, np.ones(3), 0.006)):
            disc = (radius * share - np.hypot(u - x - d, v - y + d)) * self.size + 0.5
            _blend(colour, np.clip(disc, 0, 1), paint)
        down = max(1, round(0.0065 * self.size))
        lash = (1 - np.pad(alpha, ((down, 0), (0, 0)))[:-down]) * (v < polygon[:, 1].mean() + 0.004)
        _blend(colour, 0.85 * lash, np.array((0.12, 0.08, 0.07)))
        return Layer(f"{side}_eye", box, alpha, colour)

    def mouth(self) -> list[Layer]:
        layers = []
        for name in ("l_lip", "mouth", "u_lip") if self.face.labels["mouth_open"] else ("l_lip", "u_lip"):
            polygon = outlines(name, self.shape)[0]
            box, alpha = self.cover([polygon])
            u, v = self.u[box], self.v[box]
            top, bottom = polygon[:, 1].min(), polygon[:, 1].max()
            if name == "mouth":
                colour = _shaded(np.array((0.28, 0.07, 0.07)), np.ones_like(v))
                teeth = smooth_step(top + 0.62 * (bottom - top) + 0.004 - v, 0, 0.006)
                teeth *= smooth_step(0.075 - np.abs(u - 0.5), 0, 0.025)
                _blend(colour, teeth, np.array((0.93, 0.91, 0.87)))
            elif name == "l_lip":
                colour = _shaded(self.colours["lips"], 0.75 + 0.29 * smooth_step(v, top - 0.002, top + 0.014))
                colour += self.shape["gloss"] * _blob(u, v, 0.49, top + 0.55 * (bottom - top), 0.03, 0.008)[..., None]
            else:
                colour = _shaded(self.colours["lips"], 0.86 - 0.26 * smooth_step(v, bottom - 0.012, bottom))
            layers.append(Layer(name, box, alpha, colour))
        return layers

    def glasses(self) -> Layer:
        rim = outlines("eye_g", self.shape)[0]
        reach, rim = np.abs(rim[:, 0] - 0.5).max(), np.concatenate([rim, rim[:1]])
        ear = 0.206 * self.shape["face_width"]
        arms = [np.array([(0.5 + side * reach, 0.425), (0.5 + side * ear, 0.428)]) for side in (-1, 1)]
        box, frame = self.cover([rim, *arms], line=self.shape["frame"])
        glare = 0.1 + 0.16 * smooth_step(np.sin(14 * (self.u[box] + self.v[box])), 0.75, 1)
        alpha = np.maximum(frame, self.cover([rim], box=box)[1] * glare)
        colour = _shaded(self.colours["frame"], np.ones_like(alpha))
        _blend(colour, 1 - frame / np.maximum(alpha, 1e-6), np.array((0.86, 0.93, 1.0)))
        return Layer("eye_g", box, alpha, colour)


def _shaded(colour: np.ndarray, shade: np.ndarray) -> np.ndarray:
    """Return a colour (3,) under a shade (h, w): float32 (h, w, 3)."""
    return shade[..., None] * np.asarray(colour, np.float32)


def _blend(colour: np.ndarray, share: np.ndarray, paint: np.ndarray) -> None:
    """Mix `share` (h, w) of a paint (3,) into colours (h, w, 3) in place."""
    colour += share[..., None] * (np.asarray(paint, np.float32) - colour)
