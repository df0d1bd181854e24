"""Image files as RGB pixels, whatever mode they were saved in."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps
from tqdm.auto import tqdm

from facexkit.faces.cores import cores

if TYPE_CHECKING:
    from facexkit.faces.faceset import ImageSource

IMAGE_SUFFIXES = (".jpg", ".jpeg", ".png", ".bmp", ".webp", ".tif", ".tiff")
FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM")
"""What is decoded, by a file's content; others, EPS above all, are handed to programs, or are seldom tested."""

TURNS: dict[int, Callable[[np.ndarray], np.ndarray]] = {
    5: lambda pixels: pixels.swapaxes(0, 1),
    6: lambda pixels: np.rot90(pixels, -1),
    7: lambda pixels: np.rot90(pixels, 2).swapaxes(0, 1),
    8: np.rot90,
}
"""How the EXIF orientations that exchange width and height turn the stored pixels upright."""


class ImageFolder:
    """Image files under `root`, by their path relative to it."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def read(self, path: str) -> Image.Image:
        """Return the upright RGB image; OSError with the reason where the file holds none."""
        with opened(self.root / path) as image:
            return as_rgb(image)

    def stored(self, path: str) -> tuple[int, int, int]:
        """Return the width and height of the pixels in the file, and the EXIF orientation that turns them upright."""
        with opened(self.root / path) as image:
            late = image.format == "PNG" and not {"exif", "Raw profile type exif", "xmp"} & image.info.keys()
            return *image.size, 1 if late else image.getexif().get(ExifTags.Base.Orientation, 1)

    def digest(self, path: str) -> bytes:
        """Return a hash of the file's bytes."""
        try:
            return hashlib.blake2b(regular(self.root / path).read_bytes(), digest_size=16).digest()
        except OSError as error:
            return type(error).__name__.encode()


def regular(file: Path) -> Path:
    """Return a file's path; OSError where it is a pipe or a device, which could be read for ever."""
    if file.exists() and not file.is_file():
        raise OSError(f"{file.name} is no file but a folder, pipe or device")
    return file


@contextmanager
def opened(file: Path, formats: tuple[str, ...] = FORMATS) -> Iterator[Image.Image]:
    """Open an image file; OSError with the reason for whatever is met in it."""
    try:
        with Image.open(regular(file), formats=formats) as image:
            yield image
    except OSError:
        raise
    except Exception as error:  # Pillow's readers end in whatever a damaged file leads them to
        raise OSError(str(error) or type(error).__name__) from error


def decoded(
    images: ImageSource, paths: Sequence[str], at_once: int, doing: str, most_side: int | None = None
) -> Iterator[tuple[dict[str, Image.Image], dict[str, str]]]:
    """Yield the images of `at_once` paths at a time, by path, and why others cannot be decoded; with a progress bar.

    The next ones are decoded in threads meanwhile; `most_side` shrinks what has a longer side, and `image.info["size"]`
    keeps the size from before.
    """

    def read(path: str) -> tuple[Image.Image | None, str]:
        try:
            image = images.read(path)
        except OSError as error:
            return None, str(error) or type(error).__name__
        image.info["size"] = image.size
        if most_side:
            image.thumbnail((most_side, most_side))
        return image, ""

    with ThreadPoolExecutor(min(cores(), at_once)) as pool:
        coming = pool.map(read, paths[:at_once])
        for start in tqdm(range(0, len(paths), at_once), desc=doing, unit="batch", disable=not paths):
            now = dict(zip(paths[start : start + at_once], coming, strict=True))
            coming = pool.map(read, paths[start + at_once : start + 2 * at_once])
            broken = {path: why for path, (image, why) in now.items() if image is None}
            yield {path: image for path, (image, _) in now.items() if path not in broken}, broken


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn an image upright as its EXIF tag says and into RGB: transparency over white, deep grey into 8 bits."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Return grey of 16 or 32 bits or in floating point as uint8: up to 255 as it is, up to 65,535 as 16 bits."""
    least, most = pixels.min(), pixels.max()
    if not (0 <= least and most <= 65535) or (pixels.dtype.kind == "f" and most <= 1):
        kind = "floating-point numbers" if pixels.dtype.kind == "f" else "numbers"
        raise OSError(f"its pixels are {kind} from {least:g} to {most:g}, no agreed range; save it with 8 or 16 bits")
    return np.rint(pixels if most <= 255 else pixels / 257).astype(np.uint8)
