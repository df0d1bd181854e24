"""One drawing of a face, a polygon or two for each region: face maps, built-in faces and landmark masks use it."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

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


def _polygon(points: str) -> np.ndarray:
    arcs = [[tuple(int(n) / 1000 for n in point.split(",")) for point in arc.split()] for arc in points.split("/")]
    return symmetric(*arcs) if arcs[0][0][0] == 0.5 else outline(*arcs)


_OUTLINES = {
    "cloth": "500,840 370,840 / 370,840 295,866 200,892 110,920 55,960 35,1000 / 35,1000 500,1000",
    "neck": "500,660 360,660 / 360,660 366,740 364,805 340,845 295,870 / 295,870 345,920 420,962 500,975",
    "skin": "500,205 420,213 352,262 314,350 297,450 300,550 320,640 362,716 425,768 500,787",
    "hair": "310,100 232,205 200,340 192,470 186,580 192,680 220,742 268,757 308,730 320,685 308,620 301,530 303,440 "
            "320,370 / 362,330 430,285 500,240 560,205 / 600,262 645,315 680,370 / 697,440 699,530 693,620 680,685 "
            "692,730 732,757 780,742 808,680 814,580 808,470 800,340 768,205 690,100 580,58 500,50 420,58",
    "r_ear": "299,530 309,585 / 291,592 272,572 256,535 238,495 236,457 250,436 277,440 298,462",
    "nose": "500,412 482,418 473,445 465,485 453,520 441,544 441,562 455,572 472,570 485,576 500,580",
    "r_brow": "348,374 380,361 420,363 455,372 / 459,381 454,390 / 420,384 380,381 350,387 325,398",
    "r_eye": "370,424 385,416 403,414 422,422 438,437 / 424,445 405,448 383,446 362,436",
    "l_lip": "500,648 478,647 450,642 417,635 / 417,635 434,656 457,673 481,681 500,683",
    "u_lip": "500,618 489,611 476,610 447,621 417,635 / 417,635 450,634 479,633 500,636",
    "mouth": "500,636 479,633 450,634 424,636 / 424,636 450,642 478,647 500,648",
    "neck_l": "500,916 450,908 398,882 353,837 / 353,837 342,847 / 342,847 388,894 440,922 482,930 / 482,930 477,947 "
              "486,963 500,968",
    "ear_r": "287,596 298,616 298,634 287,642 276,634 276,616 / 287,596",
    "hat": "500,4 410,14 318,55 250,125 216,208 / 216,208 197,223 193,270 205,303 223,310 / 223,310 300,285 400,268 "
           "500,262",
    "eye_g": "500,424 488,423 478,427 / 478,427 470,402 440,391 390,388 340,391 308,401 300,425 / 300,425 305,465 "
             "325,495 370,508 420,504 455,483 472,447 / 472,447 480,439 490,435 500,435",
}  # fmt: skip
"""Arcs of points `x,y` in thousandths, for `symmetric` where they begin in the middle, else for `outline`."""

POLYGONS: dict[str, tuple[np.ndarray, ...]] = {}
"""Outlines of every region but the background, float (k, 2) each: (x, y) in 0–1 with y downwards, lowest layer first.

As in CelebAMask-HQ `l_` is the person's left, on the image's right. Hat and glasses are in their place on the face.
"""
for _region, _points in _OUTLINES.items():
    _right = _polygon(_points)
    POLYGONS[_region] = (_right, mirror(_right)) if _region == "ear_r" else (_right,)
    if _region.startswith("r_"):
        POLYGONS["l" + _region[1:]] = (mirror(_right),)


def svg_path(polygon: np.ndarray, scale: float = 1.0, digits: int = 4) -> str:
    """Return a polygon (k, 2) as the `d` of a closed SVG path, its coordinates times `scale`."""
    points = (f"{x:.{digits}f},{y:.{digits}f}" for x, y in np.asarray(polygon, float) * scale)
    return "M" + "L".join(points) + "Z"
