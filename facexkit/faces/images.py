"""Image files as RGB pixels, whatever mode they were saved in."""

from __future__ import annotations

import hashlib
import io
import posixpath
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

import numpy as np
from PIL import ExifTags, Image, ImageOps
from PIL.Image import Transpose

from facexkit.errors import FacexkitError
from facexkit.faces.address import Address, Place

if TYPE_CHECKING:
    from facexkit.faces.faceset import ImageSource

FORMATS = ("JPEG", "PNG", "BMP", "DIB", "WEBP", "TIFF", "GIF", "PPM", "AVIF", "HEIF")
"""What is decoded, by a file's content, where Pillow can (HEIF with its plug-in); others, EPS above all, are handed to
programs, or are seldom tested."""

TURNS = {5: Transpose.TRANSPOSE, 6: Transpose.ROTATE_270, 7: Transpose.TRANSVERSE, 8: Transpose.ROTATE_90}
"""How the EXIF orientations that exchange width and height turn the stored pixels upright."""


class ImageFolder:
    """Image files under `root`, by their path relative to it."""

    def __init__(self, root: Place) -> None:
        self.root = root
        self._last: tuple[str, tuple[tuple[int, int], int]] = "", ((0, 0), 1)

    def read(self, path: str) -> Image.Image:
        """Return the upright RGB image; OSError with the reason where the file holds none."""
        with opened(self.root / path) as image:
            self._last = path, _stored(image)  # its mask comes next and asks for it
            return as_rgb(image)

    def stored(self, path: str) -> tuple[tuple[int, int], int]:
        """Return the width and height of the pixels in the file, and the EXIF orientation that turns them upright."""
        known, found = self._last
        if known == path:
            return found
        with opened(self.root / path) as image:
            return _stored(image)

    def digest(self, path: str) -> bytes:
        """Return a hash of the file's bytes."""
        try:
            return hashlib.blake2b(regular(self.root / path).read_bytes(), digest_size=16).digest()
        except OSError as error:
            return type(error).__name__.encode()


def is_image(name: str) -> bool:
    """Return whether a file's name has the suffix of an image that can be decoded: .jpg, .jfif, .png, .pgm, …"""
    suffix = posixpath.splitext(name.strip())[1].lower()
    return Image.registered_extensions().get(suffix) in FORMATS


def _stored(image: Image.Image) -> tuple[tuple[int, int], int]:
    late = image.format == "PNG" and not {"exif", "Raw profile type exif", "xmp"} & image.info.keys()
    return image.size, 1 if late else image.getexif().get(ExifTags.Base.Orientation, 1)


def regular(file: Place) -> Place:
    """Return a file's path; OSError where it is a pipe or a device, which could be read for ever."""
    if not isinstance(file, Address) and file.exists() and not file.is_file():
        raise OSError(f"{file.name} is no file but a folder, pipe or device")
    return file


@contextmanager
def opened(file: Place | bytes) -> Iterator[Image.Image]:
    """Open an image file, or its bytes; OSError with the reason for whatever is met in it."""
    try:
        Image.init()
        content = file.read_bytes() if isinstance(file, Address) else file
        source = io.BytesIO(content) if isinstance(content, bytes) else regular(content)
        with Image.open(source, formats=[kind for kind in FORMATS if kind in Image.OPEN]) as image:
            yield image
    except (OSError, FacexkitError):
        raise
    except Exception as error:  # Pillow's readers end in whatever a damaged file leads them to
        raise OSError(str(error) or type(error).__name__) from error


def encoded(image: Image.Image, kind: str, **how: object) -> bytes:
    """Return the bytes of an image file."""
    image.save(buffer := io.BytesIO(), kind, **how)
    return buffer.getvalue()


class Letterboxed:
    """Images brought to `side` pixels at their longer side, in the upper left of a square whose rest is black."""

    def __init__(self, source: ImageSource, side: int) -> None:
        self.source, self.side = source, side

    def read(self, path: str) -> Image.Image:
        """Return the square."""
        image = self.source.read(path)
        scale, square = self.side / max(image.size), Image.new("RGB", (self.side, self.side))
        size = [max(1, round(length * scale)) for length in image.size]
        square.paste(image.resize(size, Image.Resampling.BILINEAR))
        return square

    def digest(self, path: str) -> bytes:
        """Return that of the image."""
        return self.source.digest(path)


def upright_size(images: ImageSource, path: str) -> tuple[int, int]:
    """Return the width and height of an image as it is shown; of a file from its head alone."""
    if not isinstance(images, ImageFolder):
        return images.read(path).size
    size, orientation = images.stored(path)
    return size[::-1] if orientation in TURNS else size


def as_rgb(image: Image.Image) -> Image.Image:
    """Turn an image upright as its EXIF tag says and into RGB: transparency over white, deep grey into 8 bits."""
    ImageOps.exif_transpose(image, in_place=True)
    if image.mode == "F" or image.mode.startswith("I"):
        return Image.fromarray(_eight_bits(np.asarray(image))).convert("RGB")
    if image.has_transparency_data:
        image = image.convert("RGBA")
        return Image.alpha_composite(Image.new("RGBA", image.size, "white"), image).convert("RGB")
    return image if image.mode == "RGB" else image.convert("RGB")


DEPTHS = (255, 1023, 4095, 65535)
"""The largest value of 8, 10, 12 and 16 bits."""


def _eight_bits(pixels: np.ndarray) -> np.ndarray:
    """Return grey of 8, 10, 12 or 16 bits, kept in 16 or 32 or in floating point, as uint8; its largest value tells."""
    least, most = pixels.min(), pixels.max()
    if not (0 <= least and most <= DEPTHS[-1]) or (pixels.dtype.kind == "f" and most <= 1):
        kind = "floating-point numbers" if pixels.dtype.kind == "f" else "numbers"
        raise OSError(f"its pixels are {kind} from {least:g} to {most:g}, no agreed range; save it with 8 or 16 bits")
    depth = next(depth for depth in DEPTHS if most <= depth)
    return np.rint(pixels * (255 / depth)).astype(np.uint8)
