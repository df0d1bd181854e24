"""Small pictures of faces: thumbnails, patches, attribution as a veil, and the active area of a unit lit."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import cv2
import numpy as np
import xarray as xr
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.geometry import Geometry, Size
from facexkit.faces.images import encoded
from facexkit.faces.mask_view import sides
from facexkit.faces.regions import UNIONS
from facexkit.measure.photographs import crop_faces
from facexkit.show.pages import data_uri

FACE_SIDE, PATCH_SIDE, VEIL_SIDE, UNIT_SIDE = 160, 56, 80, 104
VEIL, DIMMED = (14, 20, 40), 0.4


def face_as_seen(
    faces: FaceSet, path: str, side: int = FACE_SIDE, seen: Geometry = Geometry()
) -> Image.Image:
    """Return what a model sees of a face, squeezed to a square: RGB side×side."""
    if path not in faces.table.path.values:
        raise FacexkitError(f"image {path!r} is not in the face set {faces.name!r}; pass the face set that was scored")
    return seen.picture(faces.images.read(path).convert("RGB"), side)


def patch(face: Image.Image, y: float, x: float, tile: float, image_size: Size, side: int = PATCH_SIDE) -> Image.Image:
    """Cut the tile with top-left (x, y) in the input out of a face of any size: RGB side×side."""
    height, width = sides(image_size)
    across, down = face.width / width, face.height / height
    right, bottom = min(x + tile, width), min(y + tile, height)
    box = (x * across, y * down, right * across, bottom * down)
    return face.convert("RGB").resize((side, side), Image.Resampling.BICUBIC, box=box)


def veil(attribution: np.ndarray, side: int = VEIL_SIDE) -> Image.Image:
    """Return a veil over a face, clear where the attribution is high.

    Parameters
    ----------
    attribution : (h, w) in 0–1; upsampled bilinearly with half-pixel centres.

    Returns
    -------
    RGBA side×side, alpha = 1 − attribution.
    """
    grown = cv2.resize(np.nan_to_num(attribution).astype(np.float32), (side, side), interpolation=cv2.INTER_LINEAR)
    out = np.empty((side, side, 4), np.uint8)
    out[..., :3] = VEIL
    out[..., 3] = np.round(255 * (1 - grown.clip(0, 1)))
    return Image.fromarray(out, "RGBA")


def picture_uri(image: Image.Image, quality: int = 82) -> str:
    """Return a picture as a data URI: JPEG, or PNG where it has transparency."""
    kind = "png" if image.mode == "RGBA" else "jpeg"
    return data_uri(encoded(image, kind, quality=quality), f"image/{kind}")


def of_best(found: xr.Dataset, name: str) -> np.ndarray:
    """Return what a dissection says of each unit with its best concept."""
    best = found.get_index("concept").get_indexer(found.best_concept.to_numpy())
    return found[name].to_numpy()[np.arange(len(best)), best]


def seen_faces(found: xr.Dataset, faces: FaceSet, units: np.ndarray) -> Callable[[str], Image.Image]:
    """Return what gives the units' small pictures by path, cropped as they were when they were dissected."""
    if "crop" in found.attrs:
        needed = set(of_best(found.isel(unit=units), "top_image").ravel())
        faces = crop_faces(faces[faces.table.path.isin(needed)], found.attrs["margin"])
    return lru_cache(1000)(lambda path: face_as_seen(faces, path, UNIT_SIDE, Geometry.of(found.attrs)))


def lit_face(face: Image.Image, activation: np.ndarray, threshold: float) -> Image.Image:
    """Return a face whose active area, where the upsampled map exceeds the threshold, is lit and the rest dimmed."""
    pixels, active = np.asarray(face, np.float32), _active(activation, threshold, face.size)
    shown = np.where(active[..., None], pixels, pixels * DIMMED).astype(np.uint8)
    return Image.fromarray(shown).quantize(method=Image.Quantize.FASTOCTREE).convert("RGB")  # which a PDF keeps small


def shade(activation: np.ndarray, threshold: float, side: int = UNIT_SIDE) -> str:
    """Return what dims a face but for the active area, see `lit_face`, as the data URI of a picture of few bytes."""
    cover = Image.fromarray(_active(activation, threshold, (side, side)).astype(np.uint8), "P")
    cover.putpalette([*VEIL, 0, 0, 0])
    return data_uri(encoded(cover, "png", bits=1, transparency=1), "image/png")


def _active(activation: np.ndarray, threshold: float, size: tuple[int, int]) -> np.ndarray:
    return cv2.resize(activation.astype(np.float32), size, interpolation=cv2.INTER_LINEAR) > threshold


class Album:
    """Each picture once, as data URIs that pages refer to by number.

    Parameters
    ----------
    faces : where the pixels of the results' images come from.
    """

    def __init__(self, faces: FaceSet) -> None:
        self.clear()
        self._face = lru_cache(256)(lambda path, seen: face_as_seen(faces, path, 512, seen))

    def clear(self) -> None:
        """Forget the pictures, but not the faces that were read."""
        self.uris: list[str] = []
        self._numbers: dict[str, int] = {}

    def _number(self, image: Image.Image) -> int:
        uri = picture_uri(image)
        if uri not in self._numbers:
            self._numbers[uri] = len(self.uris)
            self.uris.append(uri)
        return self._numbers[uri]

    def patches(self, scores: xr.Dataset, region: str, most: int = 20) -> list[dict]:
        """Return the region's high-impact patches, best first: picture number, value, image name."""
        found, told, seen = [], scores.attrs, Geometry.of(scores.attrs)
        for path, value, y, x in _best(scores, region, "patch", ("value", "y", "x"), most):
            cut = patch(self._face(path, seen), float(y), float(x), told["tile"], sides(seen.size))
            found.append({"picture": self._number(cut), "value": f"{value:.2g}" if value >= 0.001 else "< 0.001", "name": path})
        return found

    def examples(self, scores: xr.Dataset, region: str, most: int = 4) -> list[dict]:
        """Return the faces with the highest score in the region: numbers of face and veil, score, image name."""
        found = []
        for path, score, attribution in _best(scores, region, "example", ("score", "map"), most):
            face = self._face(path, Geometry.of(scores.attrs)).resize((FACE_SIDE, FACE_SIDE), Image.Resampling.BILINEAR)
            shown = {"picture": self._number(face), "veil": self._number(veil(attribution)), "name": path}
            found.append({**shown, "value": f"{score:.2f}"})
        return found


def _best(scores: xr.Dataset, region: str, kind: str, fields: tuple[str, ...], most: int) -> list[tuple]:
    """Return image name and fields of the patches or examples of a region or union, the best first; none where it has none."""
    dimension, of = ("union", f"union_{kind}") if region in UNIONS else ("region", kind)
    if f"{of}_image" not in scores:
        return []
    columns = (scores[f"{of}_{field}"].sel({dimension: region}).values for field in ("image", *fields))
    return [(str(path), *rest) for path, *rest in zip(*columns, strict=True) if path][:most]
