"""Faces cut out of photographs, pixels and masks alike: a square around the face, or the face brought to one frame."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

import cv2
import numpy as np
from PIL import Image

from facexkit.faces.faceset import ImageSource, MaskSource

TARGETS = {
    "mtcnn": ((0.2255, 0.2160), (0.7547, 0.2160), (0.4901, 0.5156), (0.2541, 0.7802), (0.7261, 0.7802)),
    "dlib": ((0.8596, 0.2135), (0.6461, 0.2290), (0.1206, 0.2137), (0.3341, 0.2291), (0.4901, 0.6278)),
}
"""Where a detector's five points lie on the mean face of dlib's `get_face_chip_details`, as shares of the frame.

dlib's own are corners of the eyes and the base of the nose. MTCNN finds other points, which are read off the 68 that
the same function holds: the middle of an eye's six, the tip of the nose (30) and the corners of the mouth (48 and 54).
"""


@dataclass(frozen=True)
class Square:
    """A square of a picture of any size: left, top, right and bottom as shares of its width and height."""

    box: tuple[float, ...]

    @classmethod
    def around(cls, corners: np.ndarray, margin: float, size: np.ndarray) -> Square:
        """Return the square around a box (2, 2) in a picture of `size`, moved and at last made smaller to lie inside."""
        side = min((1 + 2 * margin) * np.ptp(corners, axis=0).max(), *size)
        start = np.clip(corners.mean(0) - side / 2, 0, size - side)
        return cls(tuple((np.concatenate([start, start + side]) / np.tile(size, 2)).tolist()))

    def cut(self, image: Image.Image) -> Image.Image:
        """Return what it shows of a picture, at least one pixel."""
        left, top, right, bottom = (round(at * side) for at, side in zip(self.box, image.size * 2, strict=True))
        return image.crop((left, top, max(right, left + 1), max(bottom, top + 1)))


WHOLE = Square((0, 0, 1, 1))


@dataclass(frozen=True)
class Frame:
    """A square of `size` pixels in which a face's five points lie at `target`, about.

    Attributes
    ----------
    points : five (x, y) in a picture of any size, as shares of its width and height.
    target : five (x, y) in pixels.
    """

    points: tuple[tuple[float, float], ...]
    target: tuple[tuple[float, float], ...]
    size: int

    def cut(self, image: Image.Image) -> Image.Image:
        """Return what it shows of a picture."""
        return cut_out(image, np.array(self.points) * image.size, np.array(self.target), self.size)


def frame_of(detector: str, size: int, padding: float) -> np.ndarray:
    """Return where a detector's five points belong in a frame of `size` pixels with room around the face: (5, 2)."""
    return (np.array(TARGETS[detector]) + padding) / (1 + 2 * padding) * size


def cut_out(image: Image.Image, points: np.ndarray, target: np.ndarray, size: int) -> Image.Image:
    """Return the square of `size` pixels in which the image's `points` (5, 2) lie at `target` (5, 2), about.

    As in dlib, z ↦ a·z + b (complex: turn, scale, move) takes `target` nearest to `points`; around the image is black.
    """
    goal, place = (each @ (1, 1j) for each in (target, points))
    spread = goal - goal.mean()
    a = np.vdot(spread, place - place.mean()) / np.vdot(spread, spread)
    b = place.mean() - a * goal.mean()
    shrink = max(1, int(abs(a)))  # a pixel of the square covers so many of the image: average them first
    a, b = a / shrink, (b + 0.5 + 0.5j) / shrink - 0.5 - 0.5j
    back = np.array([[a.real, -a.imag, b.real], [a.imag, a.real, b.imag]])
    pixels = np.asarray(image.reduce(shrink))
    return Image.fromarray(cv2.warpAffine(pixels, back, (size, size), flags=cv2.INTER_LINEAR | cv2.WARP_INVERSE_MAP))


class CutFaces:
    """A source of images or masks of which each shows one face of a photograph.

    Parameters
    ----------
    source : the photographs, or their masks.
    cuts : by path: the photograph's path, and what is cut out of it; what is not in it is used whole.
    """

    def __init__(self, source: ImageSource | MaskSource, cuts: Mapping[str, tuple[str, Square | Frame]]) -> None:
        self.source, self.cuts, self.names = source, cuts, getattr(source, "names", ())
        self._last: tuple[str, object] = ("", None)

    def read(self, path: str) -> Image.Image | dict[str, np.ndarray]:
        """Return the RGB image of a face, or its masks, bool (H, W) by name."""
        photograph, cut = self.cuts.get(path, (path, WHOLE))
        if self._last[0] != photograph:  # the faces of one photograph follow each other
            self._last = photograph, self.source.read(photograph)
        whole = self._last[1]
        if isinstance(whole, Image.Image):
            return cut.cut(whole)
        pictures = {name: Image.fromarray(mask.astype(np.uint8) * 255) for name, mask in whole.items()}
        return {name: np.asarray(cut.cut(picture)) > 127 for name, picture in pictures.items()}

    def digest(self, path: str) -> bytes:
        """Return bytes that change with the photograph, its masks or the cut."""
        photograph, cut = self.cuts.get(path, (path, WHOLE))
        return self.source.digest(photograph) + repr(cut).encode()
