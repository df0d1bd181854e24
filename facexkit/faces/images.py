"""Image files as RGB pixels, whatever mode they were saved in."""

from __future__ import annotations

import hashlib
from pathlib import Path

import numpy as np
from PIL import Image, ImageOps

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")


class ImageFolder:
    """Image files under `root`, by their path relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> Image.Image:
        """Return the upright RGB image; OSError with the reason where the file holds none."""
        try:
            with Image.open(self.root / path) as image:
                return as_rgb(image)
        except (SyntaxError, ValueError, EOFError, Image.DecompressionBombError) as error:
            raise OSError(str(error) or type(error).__name__) from error

    def digest(self, path: str) -> bytes:
        """Return a hash of the file's bytes."""
        try:
            return hashlib.blake2b((self.root / path).read_bytes(), digest_size=16).digest()
        except OSError as error:
            return type(error).__name__.encode()


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn an image upright as its EXIF tag says and into RGB: transparency over white, 16 bits to their upper 8."""
    image = ImageOps.exif_transpose(image)
    if image.mode == "F":
        raise OSError("its pixels are floating-point numbers, which have no agreed range; save it with 8 or 16 bits")
    if image.mode.startswith("I"):
        return Image.fromarray((np.asarray(image) >> 8).clip(0, 255).astype(np.uint8)).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image.convert("RGB")
