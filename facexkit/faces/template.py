"""One drawing of a face, a polygon or two for each region: face maps, built-in faces and landmark masks use it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from facexkit.faces.regions import TOP_TO_BOTTOM, VOCABULARY

Point = tuple[float, float]

POINTS = np.array([(0.401, 0.431), (0.599, 0.431), (0.5, 0.552), (0.413, 0.638), (0.587, 0.638)])
"""Eyes, nose tip and mouth corners of the drawing in MTCNN's order, the image's left side first: (x, y) in 0–1."""


def curve(points: Sequence[Point], before: Point | None = None, after: Point | None = None) -> np.ndarray:
    """Return a Catmull-Rom spline from the first to the last of `points`: float (k, 2), five places a piece.

    Parameters
    ----------
    before, after : neighbours beyond the ends, which bend the curve towards them; None lets it run out straight.
    """
    p = np.asarray(points, float)
    p = np.array([2 * p[0] - p[1] if before is None else before, *p, 2 * p[-1] - p[-2] if after is None else after])
    t = np.linspace(0, 1, 5, endpoint=False)[:, None]
    p0, p1, p2, p3 = (p[i : len(p) - 3 + i, None] for i in range(4))
    pieces = p1 + 0.5 * t * (p2 - p0 + t * (2 * p0 - 5 * p1 + 4 * p2 - p3 + t * (3 * (p1 - p2) + p3 - p0)))
    return np.concatenate([pieces.reshape(-1, 2), p[-2:-1]])


def outline(*arcs: Sequence[Point]) -> np.ndarray:
    """Return the polygon of smooth arcs, each from the last point of the one before it: corners where they meet."""
    starts = [arcs[-1][-1], *(arc[-1] for arc in arcs[:-1])]
    return np.concatenate([curve([start, *arc])[:-1] for start, arc in zip(starts, arcs, strict=True)])


def mirror(points: np.ndarray | Sequence[Point]) -> np.ndarray:
    """Return the points on the other side of the face, in reverse order."""
    return (np.asarray(points, float) * (-1, 1) + (1, 0))[::-1]


def symmetric(*half: Sequence[Point]) -> np.ndarray:
    """Return the polygon of arcs on the image's left side, from the middle line back to it, and their mirror image."""
    left = []
    for n, arc in enumerate(half):
        before = mirror(arc[1:2])[0] if n == 0 else None
        after = mirror(arc[-2:-1])[0] if n == len(half) - 1 else None
        left.append(curve(arc, before, after)[:-1])
    left = np.concatenate([*left, [half[-1][-1]]])
    return np.concatenate([left, mirror(left)[1:-1]])


def _polygons(region: str) -> tuple[np.ndarray, ...]:
    if not (points := VOCABULARY["regions"][region].get("outline")):
        return (mirror(POLYGONS["r" + region[1:]][0]),)
    arcs = [[tuple(int(n) / 1000 for n in point.split(",")) for point in arc.split()] for arc in points.split("/")]
    polygon = symmetric(*arcs) if arcs[0][0][0] == 0.5 else outline(*arcs)
    return (polygon, mirror(polygon)) if region == "ear_r" else (polygon,)


POLYGONS: dict[str, tuple[np.ndarray, ...]] = {}
"""Outlines of every region but the background, float (k, 2) each: (x, y) in 0–1 with y downwards, lowest layer first.

As in CelebAMask-HQ `l_` is the person's left, on the image's right. Hat and glasses are in their place on the face. The
vocabulary has arcs of points `x,y` in thousandths, for `symmetric` where they begin in the middle, else for `outline`.
"""
for _region in reversed(TOP_TO_BOTTOM[:-1]):
    POLYGONS[_region] = _polygons(_region)


def svg_path(polygon: np.ndarray, scale: float = 1.0, digits: int = 4) -> str:
    """Return a polygon (k, 2) as the `d` of a closed SVG path, its coordinates times `scale`."""
    points = (f"{x:.{digits}f},{y:.{digits}f}" for x, y in np.asarray(polygon, float) * scale)
    return "M" + "L".join(points) + "Z"
