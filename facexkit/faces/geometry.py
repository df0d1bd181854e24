"""How a photograph becomes the picture that a network sees: stretched to its size, or resized and the centre cut out."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Union

import numpy as np
from PIL import Image

from facexkit.faces.mask_view import IndexMask, sides

Size = Union[int, tuple[int, int]]
"""A side length, or (height, width)."""

FILTERS = {name.lower(): Image.Resampling[name] for name in ("NEAREST", "BOX", "BILINEAR", "BICUBIC", "LANCZOS")}


@dataclass(frozen=True)
class Geometry:
    """The place and the size of what is seen of a photograph.

    Parameters
    ----------
    size : of the picture in pixels.
    resize : None stretches the whole photograph to `size`; a number is what its shorter side is brought to before the
        centre is cut out; (height, width) is what it is stretched to before that.
    interpolation : a name of `FILTERS`, antialiased as Pillow does it.
    """

    size: Size = 224
    resize: Size | None = None
    interpolation: str = "bilinear"

    @classmethod
    def of(cls, seen: Geometry | Size | Mapping[str, object]) -> Geometry:
        """Return the geometry of a size, of a result's attributes, or itself."""
        if isinstance(seen, Mapping):
            size, resize = seen.get("geometry", (seen["image_size"], None))
            return cls(*(tuple(each) if isinstance(each, list) else each for each in (size, resize)))
        return seen if isinstance(seen, Geometry) else cls(seen)

    @property
    def side(self) -> int:
        """The shorter side of the picture."""
        return min(sides(self.size))

    def box(self, width: int, height: int) -> tuple[float, float, float, float]:
        """Return what is seen of a photograph: left, top, right, bottom in its pixels."""
        if self.resize is None:
            return 0, 0, width, height
        shorter, seen = min(width, height), sides(self.size)
        whole = self.resize if isinstance(self.resize, tuple) else [int(self.resize * s / shorter) for s in (height, width)]
        top, left = (round((of - part) / 2) for of, part in zip(whole, seen, strict=True))
        down, across = height / whole[0], width / whole[1]
        return left * across, top * down, (left + seen[1]) * across, (top + seen[0]) * down

    def picture(self, image: Image.Image, size: Size | None = None) -> Image.Image:
        """Return what is seen of an image, in the network's size or another."""
        height, width = sides(size or self.size)
        return image.resize((width, height), FILTERS[self.interpolation], self.box(*image.size))

    def masks(self, masks: Mapping[str, np.ndarray]) -> Mapping[str, np.ndarray]:
        """Return what is seen of an image's masks; those of which nothing is are left out."""
        if self.resize is None or not masks:
            return masks
        if isinstance(masks, IndexMask):
            return IndexMask(np.ascontiguousarray(self._seen(masks.index)), masks.names)
        return {name: part for name, mask in masks.items() if (part := self._seen(np.asarray(mask))).any()}

    def _seen(self, mask: np.ndarray) -> np.ndarray:
        left, top, right, bottom = (round(edge) for edge in self.box(*mask.shape[::-1]))
        return mask[top : max(bottom, top + 1), left : max(right, left + 1)]
