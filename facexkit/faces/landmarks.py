"""Approximate masks without a face parser: the kit's face template, warped onto five points that MTCNN finds."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Sequence

import cv2
import numpy as np
import torch
from PIL import Image

from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM
from facexkit.faces.template import POINTS, POLYGONS

GUESSED = ("skin", "nose", "l_eye", "r_eye", "l_brow", "r_brow", "l_ear", "r_ear", "mouth", "u_lip", "l_lip", "neck")
"""The regions whose place follows from the five points; hair, hat, glasses, jewellery and clothes do not."""

DETECTION_SIDE = 256
"""Faces are looked for in an image whose longer side has been brought to so many pixels."""

FACE_SIDES = (40, 20)
"""The smallest face looked for in it, in pixels; the second only where the first finds none, as it takes longer."""


class LandmarkParser:
    """Masks by landmarks. Each face gets the same drawing in another place: an approximation, blind to looks."""

    name = "landmarks"
    classes = REGIONS

    def __init__(self) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            from facenet_pytorch import MTCNN

            self.detector = MTCNN(select_largest=True, device="cpu").to(memory_format=torch.channels_last)

    def parse(self, images: list[Image.Image]) -> list[np.ndarray | None]:
        """Return the warped template of each image's largest face, uint8 (H, W); None where there is no face."""
        found = zip(self.every_face(images), images, strict=True)
        return [draw_face(faces[0, 2:], image.size) if len(faces) else None for faces, image in found]

    def every_face(
        self, images: list[Image.Image], side: int = DETECTION_SIDE, face_sides: Sequence[int] = FACE_SIDES
    ) -> list[np.ndarray]:
        """Return the faces of each image, largest first: the box's two corners and the five points, float (F, 7, 2).

        The points are the eyes, the tip of the nose and the corners of the mouth in pixels, the image's left first.

        Parameters
        ----------
        side, face_sides : as `DETECTION_SIDE` and `FACE_SIDES`.
        """
        scales = [side / max(image.size) for image in images]
        squares = [Image.new("RGB", (side, side)) for _ in images]
        for image, scale, square in zip(images, scales, squares, strict=True):
            size = [max(1, round(length * scale)) for length in image.size]
            square.paste(image.resize(size, Image.Resampling.BILINEAR))
        found = [np.empty((0, 7, 2)) for _ in images]
        threads = torch.get_num_threads()
        torch.set_num_threads(1)  # the detector's many small layers wait for threads longer than they take
        try:
            for self.detector.min_face_size in face_sides:
                left = [k for k, faces in enumerate(found) if not len(faces)]
                if not left:
                    break
                boxes, _, points = self.detector.detect([squares[k] for k in left], landmarks=True)
                for k, box, five in zip(left, boxes, points, strict=True):
                    if five is not None:
                        corners = np.reshape(box.astype(float), (-1, 2, 2))
                        found[k] = np.concatenate([corners, five.astype(float)], axis=1) / scales[k]
        finally:
            torch.set_num_threads(threads)
        return found

    def fingerprint(self) -> str:
        """Return 16 hexadecimal digits that change with the template."""
        digest = hashlib.sha256(f"landmarks {DETECTION_SIDE} {GUESSED}".encode() + POINTS.tobytes())
        for name in GUESSED:
            for polygon in POLYGONS[name]:
                digest.update(polygon.tobytes())
        return digest.hexdigest()[:16]


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
