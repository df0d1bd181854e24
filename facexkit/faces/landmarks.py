"""Approximate masks without a face parser: the kit's face template, warped onto five points that a detector found."""

from __future__ import annotations

import hashlib
from collections.abc import Iterable, Mapping

import cv2
import numpy as np

from facexkit.faces.mask_view import IndexMask
from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM
from facexkit.faces.template import POINTS, POLYGONS

GUESSED = ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip", "neck")
"""The regions whose place follows from the five points; hair, hat, glasses, jewellery and clothes do not."""

TEMPLATE = hashlib.sha256(POINTS.tobytes() + b"".join(p.tobytes() for name in GUESSED for p in POLYGONS[name])).hexdigest()

LARGEST = 512
"""Pixels of a drawing at its longer side; a larger picture's is resized like any mask."""


class LandmarkMasks:
    """Masks by landmarks. Each face gets the same drawing in another place: an approximation, blind to looks.

    Parameters
    ----------
    faces : by the image's path: its width and height, and a face's five points (5, 2) in pixels.
    """

    names = tuple(region for region in REGIONS if region in ("background", *GUESSED))

    def __init__(self, faces: Mapping[str, tuple[tuple[int, int], np.ndarray]]) -> None:
        self.faces = dict(faces)

    def read(self, path: str) -> Mapping[str, np.ndarray]:
        """Return the masks of the image's face, bool (H, W) by region; none where no face was found."""
        if path not in self.faces:
            return {}
        size, points = self.faces[path]
        scale = min(1.0, LARGEST / max(size))
        return IndexMask(draw_face(points * scale, tuple(max(1, round(side * scale)) for side in size)), REGIONS)

    def digest(self, path: str) -> bytes:
        """Return bytes that change with the face's place or the template."""
        return f"{TEMPLATE} {self.faces.get(path)}".encode()

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the images in which no face was found."""
        return [path for path in paths if path not in self.faces]


def fit_template(points: np.ndarray) -> np.ndarray:
    """Return the affine map (2, 3) that brings the template's five points nearest to `points` (least squares)."""
    source = np.column_stack([POINTS, np.ones(len(POINTS))])
    return np.linalg.lstsq(source, points, rcond=None)[0].T


def draw_face(points: np.ndarray, size: tuple[int, int]) -> np.ndarray:
    """Draw the template's guessed regions over five points.

    Parameters
    ----------
    points : float (5, 2), (x, y) in pixels.
    size : width and height of the image.

    Returns
    -------
    uint8 (H, W), positions in `REGIONS`.
    """
    warp = fit_template(points)
    index = np.zeros((size[1], size[0]), np.uint8)
    for name in reversed(TOP_TO_BOTTOM):
        if name in GUESSED:
            for polygon in POLYGONS[name]:
                corners = polygon @ warp[:, :2].T + warp[:, 2]
                cv2.fillPoly(index, [np.round(corners * 16).astype(np.int32)], REGIONS.index(name), shift=4)
    return index
