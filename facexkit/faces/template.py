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


_HEAD = [(0.5, 0.205), (0.42, 0.213), (0.352, 0.262), (0.314, 0.35), (0.297, 0.45), (0.3, 0.55), (0.32, 0.64),
         (0.362, 0.716), (0.425, 0.768), (0.5, 0.787)]  # fmt: skip
_EYE = outline(
    [(0.37, 0.424), (0.385, 0.416), (0.403, 0.414), (0.422, 0.422), (0.438, 0.437)],
    [(0.424, 0.445), (0.405, 0.448), (0.383, 0.446), (0.362, 0.436)],
)
_BROW = outline(
    [(0.348, 0.374), (0.38, 0.361), (0.42, 0.363), (0.455, 0.372)],
    [(0.459, 0.381), (0.454, 0.39)],
    [(0.42, 0.384), (0.38, 0.381), (0.35, 0.387), (0.325, 0.398)],
)
_EAR = outline(
    [(0.299, 0.53), (0.309, 0.585)],
    [(0.291, 0.592), (0.272, 0.572), (0.256, 0.535), (0.238, 0.495), (0.236, 0.457), (0.25, 0.436), (0.277, 0.44),
     (0.298, 0.462)],
)  # fmt: skip
_DROP = outline([(0.287, 0.596), (0.298, 0.616), (0.298, 0.634), (0.287, 0.642), (0.276, 0.634), (0.276, 0.616)],
                [(0.287, 0.596)])
_NOSE = symmetric(
    [(0.5, 0.412), (0.482, 0.418), (0.473, 0.445), (0.465, 0.485), (0.453, 0.52), (0.441, 0.544), (0.441, 0.562),
     (0.455, 0.572), (0.472, 0.57), (0.485, 0.576), (0.5, 0.58)],
)  # fmt: skip
_UPPER_LIP = symmetric(
    [(0.5, 0.618), (0.489, 0.611), (0.476, 0.61), (0.447, 0.621), (0.417, 0.635)],
    [(0.417, 0.635), (0.45, 0.634), (0.479, 0.633), (0.5, 0.636)],
)
_MOUTH = symmetric(
    [(0.5, 0.636), (0.479, 0.633), (0.45, 0.634), (0.424, 0.636)],
    [(0.424, 0.636), (0.45, 0.642), (0.478, 0.647), (0.5, 0.648)],
)
_LOWER_LIP = symmetric(
    [(0.5, 0.648), (0.478, 0.647), (0.45, 0.642), (0.417, 0.635)],
    [(0.417, 0.635), (0.434, 0.656), (0.457, 0.673), (0.481, 0.681), (0.5, 0.683)],
)
_GLASSES = symmetric(
    [(0.5, 0.424), (0.488, 0.423), (0.478, 0.427)],
    [(0.478, 0.427), (0.47, 0.402), (0.44, 0.391), (0.39, 0.388), (0.34, 0.391), (0.308, 0.401), (0.3, 0.425)],
    [(0.3, 0.425), (0.305, 0.465), (0.325, 0.495), (0.37, 0.508), (0.42, 0.504), (0.455, 0.483), (0.472, 0.447)],
    [(0.472, 0.447), (0.48, 0.439), (0.49, 0.435), (0.5, 0.435)],
)
_HAIR = outline(
    [(0.31, 0.1), (0.232, 0.205), (0.2, 0.34), (0.192, 0.47), (0.186, 0.58), (0.192, 0.68),
     (0.22, 0.742), (0.268, 0.757), (0.308, 0.73), (0.32, 0.685), (0.308, 0.62), (0.301, 0.53), (0.303, 0.44),
     (0.32, 0.37)],
    [(0.362, 0.33), (0.43, 0.285), (0.5, 0.24), (0.56, 0.205)],
    [(0.6, 0.262), (0.645, 0.315), (0.68, 0.37)],
    [(0.697, 0.44), (0.699, 0.53), (0.693, 0.62), (0.68, 0.685), (0.692, 0.73), (0.732, 0.757), (0.78, 0.742),
     (0.808, 0.68), (0.814, 0.58), (0.808, 0.47), (0.8, 0.34), (0.768, 0.205), (0.69, 0.1), (0.58, 0.058),
     (0.5, 0.05), (0.42, 0.058)],
)  # fmt: skip
_HAT = symmetric(
    [(0.5, 0.004), (0.41, 0.014), (0.318, 0.055), (0.25, 0.125), (0.216, 0.208)],
    [(0.216, 0.208), (0.197, 0.223), (0.193, 0.27), (0.205, 0.303), (0.223, 0.31)],
    [(0.223, 0.31), (0.3, 0.285), (0.4, 0.268), (0.5, 0.262)],
)
_NECK = symmetric(
    [(0.5, 0.66), (0.36, 0.66)],
    [(0.36, 0.66), (0.366, 0.74), (0.364, 0.805), (0.34, 0.845), (0.295, 0.87)],
    [(0.295, 0.87), (0.345, 0.92), (0.42, 0.962), (0.5, 0.975)],
)
_NECKLACE = symmetric(
    [(0.5, 0.916), (0.45, 0.908), (0.398, 0.882), (0.353, 0.837)],
    [(0.353, 0.837), (0.342, 0.847)],
    [(0.342, 0.847), (0.388, 0.894), (0.44, 0.922), (0.482, 0.93)],
    [(0.482, 0.93), (0.477, 0.947), (0.486, 0.963), (0.5, 0.968)],
)
_CLOTH = symmetric(
    [(0.5, 0.84), (0.37, 0.84)],
    [(0.37, 0.84), (0.295, 0.866), (0.2, 0.892), (0.11, 0.92), (0.055, 0.96), (0.035, 1.0)],
    [(0.035, 1.0), (0.5, 1.0)],
)

POLYGONS: dict[str, tuple[np.ndarray, ...]] = {
    "cloth": (_CLOTH,),
    "neck": (_NECK,),
    "skin": (symmetric(_HEAD),),
    "hair": (_HAIR,),
    "r_ear": (_EAR,),
    "l_ear": (mirror(_EAR),),
    "nose": (_NOSE,),
    "r_brow": (_BROW,),
    "l_brow": (mirror(_BROW),),
    "r_eye": (_EYE,),
    "l_eye": (mirror(_EYE),),
    "l_lip": (_LOWER_LIP,),
    "u_lip": (_UPPER_LIP,),
    "mouth": (_MOUTH,),
    "neck_l": (_NECKLACE,),
    "ear_r": (_DROP, mirror(_DROP)),
    "hat": (_HAT,),
    "eye_g": (_GLASSES,),
}
"""Outlines of every region but the background, float (k, 2) each: (x, y) in 0–1 with y downwards, lowest layer first.

As in CelebAMask-HQ `l_` is the person's left, on the image's right. Hat and glasses are in their place on the face.
"""


def svg_path(polygon: np.ndarray, scale: float = 1.0, digits: int = 4) -> str:
    """Return a polygon (k, 2) as the `d` of a closed SVG path, its coordinates times `scale`."""
    points = (f"{x:.{digits}f},{y:.{digits}f}" for x, y in np.asarray(polygon, float) * scale)
    return "M" + "L".join(points) + "Z"
