"""The template's outlines in somebody's own geometry: features moved and stretched, hair cut to a length."""

from __future__ import annotations

import numpy as np

from facexkit.faces.template import POLYGONS, curve, mirror, outline

_HAIRLINES = (
    ([(-0.138, 0.33), (-0.07, 0.285), (0, 0.245), (0.06, 0.217)], [(0.1, 0.265), (0.145, 0.315), (0.18, 0.37)]),
    ([(-0.145, 0.3), (-0.07, 0.245), (0, 0.217)], [(0.07, 0.245), (0.145, 0.3), (0.18, 0.37)]),
    ([(-0.16, 0.345), (-0.08, 0.337), (0, 0.325), (0.08, 0.337), (0.16, 0.345), (0.18, 0.37)],),
    ([(-0.163, 0.29), (-0.1, 0.236), (0, 0.225), (0.1, 0.236), (0.163, 0.29), (0.18, 0.37)],),
    ([(-0.16, 0.28), (-0.11, 0.232), (0, 0.226), (0.11, 0.232), (0.16, 0.28), (0.18, 0.37)],),
)
HAIRLINES = len(_HAIRLINES)
"""How many ways the hair meets the forehead: parted at the side, in the middle, a fringe, combed up, receding."""


def smooth_step(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """Return a smooth step from 0 at `low` to 1 at `high`."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def outlines(region: str, shape: dict[str, float]) -> list[np.ndarray]:
    """Return a region's outlines in the geometry `shape` (see `Face`), in the template's coordinates."""
    return [_formed(region, polygon, shape) for polygon in POLYGONS[region]]


def _formed(name: str, points: np.ndarray, s: dict[str, float]) -> np.ndarray:
    centre = points.mean(0)
    side = -1 if name.startswith("r") else 1
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
        x = x * s["face_width"] * (1 + s["hair_volume"] if name == "hat" else 1)
    if name == "cloth":
        x = x * s["shoulders"]
    if name == "neck":
        x = x * (1 + (s["neck_width"] - 1) * smooth_step(-y, -0.87, -0.8))
    if name == "skin":
        low = smooth_step(y, 0.5, 0.72)
        x, y = x * (1 + s["jaw"] * low), y + s["chin"] * low
    return np.stack([x + 0.5, y], 1)


def hair(s: dict[str, float]) -> list[np.ndarray]:
    """Return the outline of the hair around the face."""
    w, end = s["hair_volume"], s["hair_end"]
    left = [(-0.1, 0.062 - w), (-0.19, 0.102 - 0.8 * w), (-0.264 - 0.7 * w, 0.205)]
    if end == 0:
        left += [(-0.282 - 0.7 * w, 0.32), (-0.27 - 0.4 * w, 0.4), (-0.237, 0.446), (-0.214, 0.484), (-0.2, 0.48)]
        left += [(-0.192, 0.43), (-0.182, 0.37)]
    else:
        left += [(-0.297 - w, 0.34), (-0.305 - w, 0.46), (-0.312 - w, (0.46 + end) / 2), (-0.305 - w, end - 0.075)]
        left += [(-0.28, end - 0.015), (-0.236, end), (-0.197, end - 0.02), (-0.182, end - 0.08)]
        left += [(-0.192, (end + 0.5) / 2), (-0.199, 0.53), (-0.196, 0.44), (-0.182, 0.37)]
    right = [(-x, y) for x, y in reversed(left)]
    points = outline(left, *_HAIRLINES[int(s["hairline"])], [*right[1:], (0, 0.052 - 1.1 * w)])
    away = points - (0, 0.42)
    wave = s["curl"] * np.sin(np.arange(len(points)) * 1.7)
    points = points + wave[:, None] * away / np.hypot(*away.T)[:, None]
    return [points * (s["parting"] * s["face_width"], 1) + (0.5, 0)]


def back_hair(end: float) -> list[np.ndarray]:
    """Return the outline of the hair behind head and neck, down to the height `end`; short hair where that is 0."""
    half = [(0.5, 0.1), (0.37, 0.14), (0.3, 0.25)]
    half += [(0.27, 0.4), (0.262, 0.6), (0.268, end - 0.03), (0.34, end - 0.012)] if end else [(0.3, 0.36)]
    half = curve([*half, (0.5, end - 0.02 if end else 0.38)])
    return [np.concatenate([half, mirror(half)])]
