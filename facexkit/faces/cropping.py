"""Faces cut out of their images, pixels and masks alike."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet, ImageSource, MaskSource
from facexkit.faces.images import decoded
from facexkit.faces.landmarks import LandmarkParser

AT_ONCE = 32


@dataclass
class _Cropped:
    """A source of images or masks of which only each image's box is left, as shares of its width and height."""

    source: ImageSource | MaskSource
    boxes: dict[str, tuple[float, float, float, float]]

    @property
    def names(self) -> tuple[str, ...]:
        return self.source.names

    def read(self, path: str) -> Image.Image | dict[str, np.ndarray]:
        whole, box = self.source.read(path), self.boxes.get(path)
        if box is None:
            return whole
        if isinstance(whole, Image.Image):
            return whole.crop(_pixels(box, *whole.size))
        cut = {name: _pixels(box, *mask.shape[::-1]) for name, mask in whole.items()}
        return {name: mask[cut[name][1] : cut[name][3], cut[name][0] : cut[name][2]] for name, mask in whole.items()}

    def digest(self, path: str) -> bytes:
        return self.source.digest(path) + repr(self.boxes.get(path)).encode()


def _pixels(box: tuple[float, float, float, float], width: int, height: int) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(at * side) for at, side in zip(box, (width, height) * 2, strict=True))
    return left, top, max(right, left + 1), max(bottom, top + 1)


def crop_faces(faces: FaceSet, margin: float = 0.2) -> FaceSet:
    """Return the faces cut to the square around the largest face that MTCNN finds, their masks cut alike.

    Parameters
    ----------
    margin : added on each side, as a share of the box's longer side. The square is moved, and at last made smaller, to
        stay inside the image.

    Returns
    -------
    the face set; its last note counts the images without a face, which are used whole, and source["uncropped"] too.
    """
    if margin < 0:
        raise FacexkitError(f"margin {margin} of the crop must be 0 or more")
    detector, boxes, paths = LandmarkParser(), {}, faces.table.path.tolist()
    for images, _ in decoded(faces.images, paths, AT_ONCE, "finding faces"):  # the pass lists the broken as skipped
        found = zip(images.items(), detector.every_face([*images.values()]), strict=True)
        boxes |= {path: _square(of[0, :2], margin, np.array(image.size)) for (path, image), of in found if len(of)}
    cropped = faces[:]
    cropped.images = _Cropped(faces.images, boxes)
    cropped.masks = None if faces.masks is None else _Cropped(faces.masks, boxes)
    uncropped = len(paths) - len(boxes)
    note = f"cropped to the face that MTCNN found, margin {margin:g}; {uncropped} without one are used whole"
    cropped.notes.append(note)
    cropped.source = {**faces.source, "crop": "mtcnn", "margin": margin, "uncropped": uncropped}
    return cropped


def _square(corners: np.ndarray, margin: float, size: np.ndarray) -> tuple[float, float, float, float]:
    side = min((1 + 2 * margin) * np.ptp(corners, axis=0).max(), *size)
    start = np.clip(corners.mean(0) - side / 2, 0, size - side)
    return tuple(np.concatenate([start, start + side]) / np.tile(size, 2))
