"""Region masks from files: an index PNG an image, or a PNG a region; drawn by hand, or written by a parser."""

from __future__ import annotations

import io
import os
import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Protocol

import numpy as np
from PIL import Image

from facexkit.errors import FacexkitError, check_known, listed, told
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.faceset import ImageSource, MaskSource
from facexkit.faces.images import TURNS, ImageFolder, decoded, opened, regular
from facexkit.faces.mask_view import IndexMask
from facexkit.faces.regions import REGIONS, UNIONS

LOSSY = ("JPEG", "MPO", "WEBP")
SMALL = 2048
"""A mask file of one value takes fewer bytes, unless it has millions of pixels."""

REGION_FILE = re.compile(rf"(.*)_({'|'.join(REGIONS)})")
PARSE_BATCH = 16


class Parser(Protocol):
    """Anything that finds the regions in faces."""

    name: str
    classes: tuple[str, ...]

    def parse(self, images: list[Image.Image]) -> list[np.ndarray | None]:
        """Return uint8 (h, w) positions in `classes` for each image; None where it finds no face."""

    def fingerprint(self) -> str:
        """Return digits that change when the masks would."""


class MaskFiles:
    """Masks in PNG files under `folder`: for each image one index PNG, or a PNG for each region that it has.

    Parameters
    ----------
    files : by the image's path: the name of its index PNG, or {region: name}.
    notes : sentences on what lies in the folder and is left out.

    Attributes
    ----------
    images : the image files, where there are any: a mask of another shape than its image is refused, and one that was
        drawn on the pixels before EXIF turned them is turned with them.
    """

    images: ImageFolder | None = None
    any_shape = False
    notes: Sequence[str] = ()

    def __init__(self, folder: Path, files: dict[str, str | dict[str, str]], notes: Sequence[str] = ()) -> None:
        self.folder, self.files, self.notes = folder, files, notes
        named = {region for value in files.values() for region in (REGIONS if isinstance(value, str) else value)}
        self.names = tuple(region for region in REGIONS if region in named or region == "background")

    def read(self, path: str) -> Mapping[str, np.ndarray]:
        """Return the image's masks, bool (H, W) by region; none where it has no file, or one of background alone."""
        files = self.files.get(path, {})
        if isinstance(files, str):
            masks = index_masks(self.pixels(path, files), self.folder / files)
        else:
            masks = self._read_regions(path, files)
        return {} if masks.keys() <= {"background"} else masks

    def _read_regions(self, path: str, files: dict[str, str]) -> dict[str, np.ndarray]:
        masks = {region: self.pixels(path, name, "L") > 0 for region, name in files.items()}
        if len(sizes := {region: mask.shape for region, mask in masks.items()}) and len(set(sizes.values())) > 1:
            listed = ", ".join(f"{files[region]} {w}×{h}" for region, (h, w) in sizes.items())
            raise FacexkitError(f"{self.folder}: the masks of one image differ in size: {listed}; save them alike")
        if masks:
            masks.setdefault("background", ~np.any(list(masks.values()), axis=0))
        return {region: mask for region, mask in masks.items() if mask.any()}

    def pixels(self, path: str, name: str, mode: str | None = None) -> np.ndarray:
        """Return the pixels of one of an image's mask files as the upright image lies, in a Pillow mode if asked."""
        pixels = read_pixels(self.folder / name, mode)
        if self.images is None:
            return pixels
        try:
            width, height, orientation = self.images.stored(path)
        except OSError:
            return pixels  # there is no picture to lie over; the pass lists it among the skipped
        stored, shape = (height, width), pixels.shape[:2]
        upright = stored[::-1] if orientation in TURNS else stored
        if shape == upright or (shape != stored and _alike(shape, upright)):
            return pixels
        if orientation in TURNS and _alike(shape, stored):
            return TURNS[orientation](pixels)
        if self.any_shape:
            return pixels
        raise FacexkitError(
            f"mask {self.folder / name} has {shape[1]}×{shape[0]} pixels, its image {path} {upright[1]}×{upright[0]}: "
            "these are of different shapes, so the mask belongs to another picture or cut; save it in the shape of its image"
        )

    def digest(self, path: str) -> bytes:
        """Return the bytes of the image's mask files."""
        with told(f"a mask of {path} cannot be read", "put the file back", OSError):
            return b"".join(regular(self.folder / name).read_bytes() for name in self._names(path))

    def _names(self, path: str) -> list[str]:
        files = self.files.get(path, {})
        return [files] if isinstance(files, str) else sorted(files.values())

    def take_out_empty(self, paths: Iterable[str]) -> list[str]:
        """Take out the masks that are background alone, and return their images; small files are opened, no others."""
        own = [path for path in paths if path in self.files]
        with told(f"a mask in {self.folder} cannot be read", "put the file back", OSError):
            sizes = {path: sum(os.path.getsize(self.folder / name) for name in self._names(path)) for path in own}
        small = max(SMALL, np.median([*sizes.values()]) / 3) if sizes else SMALL
        with ThreadPoolExecutor() as pool:
            looked_at = [path for path, size in sizes.items() if size <= small]
            empty = [path for path, masks in zip(looked_at, pool.map(self.read, looked_at), strict=True) if not masks]
        self.files = {path: files for path, files in self.files.items() if path not in {*empty}}
        return empty

    def missing(self, paths: Iterable[str]) -> list[str]:
        """Return the images that have no mask file."""
        return [path for path in paths if path not in self.files]


class JoinedMasks:
    """Two sources of masks as one: regions and concepts, say.

    Parameters
    ----------
    first, second : sources for the same images.
    rename : the second's names → what they are called here; where both have a name, the two must be told apart.
    """

    def __init__(self, first: MaskSource, second: MaskSource, rename: Mapping[str, str] | None = None) -> None:
        self.first, self.second, self.rename = first, second, dict(rename or {})
        theirs = [self.rename.get(name, name) for name in second.names]
        self.names = (*first.names, *theirs)
        if both := [name for name in theirs if name in first.names]:
            raise FacexkitError(f"both sources have masks called {', '.join(both)}; give rename={{{both[0]!r}: …}}")

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Return the masks that the image has in either, bool (H, W) by name."""
        theirs = self.second.read(path).items()
        return {**self.first.read(path), **{self.rename.get(name, name): mask for name, mask in theirs}}

    def digest(self, path: str) -> bytes:
        """Return bytes that change when the masks of either do."""
        return self.first.digest(path) + self.second.digest(path) + repr(sorted(self.rename.items())).encode()


def _alike(shape: tuple[int, int], other: tuple[int, int]) -> bool:
    """Return whether two shapes are one but for the size, to a pixel of the larger."""
    return abs(shape[0] * other[1] - shape[1] * other[0]) <= max(sum(shape), sum(other))


def index_masks(index: np.ndarray, file: Path) -> IndexMask:
    """Take the pixels of a palette or grey PNG as positions in `REGIONS`."""
    if index.ndim != 2 or index.dtype.kind == "f":
        raise FacexkitError(f"{file}: no index PNG; that is palette or grey, with the region 0–18 as pixel value")
    if index.min() < 0 or index.max() >= len(REGIONS):
        y, x = np.argwhere((index < 0) | (index >= len(REGIONS)))[0]
        raise FacexkitError(
            f"{file}: the pixel at column {x}, row {y} has the value {index[y, x]}, which is no region (0–18); "
            "save the mask as an index PNG, or one PNG a region named STEM_REGION.png"
        )
    return IndexMask(index, REGIONS)


def read_pixels(file: Path, mode: str | None = None) -> np.ndarray:
    """Return the pixels of a mask file, as they are or in a Pillow mode; FacexkitError where it cannot be read."""
    with told(f"mask {file} cannot be read", "save it as PNG from the original", OSError), opened(file) as image:
        if image.format in LOSSY or "jpeg" in str(image.info.get("compression")):
            raise OSError(f"it is a {image.format} by its content, whose compression changes the values")
        return np.asarray(image.convert(mode) if mode else image)


def mask_folder(folder: Path, paths: Sequence[str], key: Callable[[str], str] | None = None) -> MaskFiles:
    """Find the mask files of the images: `KEY.png`, or `KEY_REGION.png`, in the folder or any folder below.

    Parameters
    ----------
    paths : the images.
    key : an image's path → how its masks are named; without it the path or the name, without the suffix.
    """
    if not os.path.isdir(folder):
        raise FacexkitError(f"no mask folder {folder}; give masks= an existing folder, 'landmarks' or a face parser")
    below = ((os.path.relpath(place, folder), names) for place, _, names in os.walk(folder))
    pngs = [posixpath.normpath(f"{place}/{name}".replace(os.sep, "/")) for place, names in below for name in names
            if name.lower().endswith(".png")]  # fmt: skip
    for named in [key] if key else [_without_suffix, _stem]:
        keys = {path: named(path) for path in paths}
        if len({*keys.values()}) < len(keys):
            continue
        found = _by(_stem if key else named, pngs)
        whole = {path: found[k][""] for path, k in keys.items() if "" in found.get(k, {})}
        regions = {path: {name: file for name, file in found.get(k, {}).items() if name} for path, k in keys.items()}
        parts = {path: files for path, files in regions.items() if {*files.values()}.difference(whole.values())}
        if whole or parts:
            files, kept = (parts | whole, "former") if len(whole) >= len(parts) else (whole | parts, "latter")
            notes = _no_regions(found, {*keys.values()}) if parts else []
            if both := sorted(whole.keys() & parts.keys()):
                notes.append(f"{len(both)} images have an index mask and masks by region; the {kept} count: {listed(both)}")
            return MaskFiles(folder, files, notes)
    stem = _stem(paths[0])
    raise FacexkitError(
        f"{folder} has no mask for any of the {len(paths)} images; looked for names like {stem}.png and {stem}_skin.png"
    )


def _no_regions(found: dict[str, dict[str, str]], keys: set[str]) -> list[str]:
    """Return a note on the PNGs that are named after an image of the set and something that is no region."""
    others = sorted(k for k, masks in found.items() if "" in masks and k not in keys and not REGION_FILE.fullmatch(k))
    files = [found[k][""] for k in others if any(k[: at.start()] in keys for at in re.finditer("_", k))]
    if not files:
        return []
    united = [name for name in UNIONS if any(_stem(file).endswith(f"_{name}") for file in files)]
    unions = "".join(f"; {name} is {' and '.join(UNIONS[name])} together: save these" for name in united)
    return [f"{len(files)} mask files name no region and are left out: {listed(files)}{unions}"]


def _by(named: Callable[[str], str], files: Iterable[str]) -> dict[str, dict[str, str]]:
    """Return {image's key: {region, or "" for a whole mask: file}}; by name, only where one file alone has it."""
    found: dict[str, dict[str, str]] = {}
    twice = set()
    for file in files:
        whole, part = named(file), REGION_FILE.fullmatch(named(file))
        for key, region in [(whole, ""), *([part.groups()] if part else [])]:
            if found.setdefault(key, {}).setdefault(region, file) != file:
                twice.add(key)
    return {key: masks for key, masks in found.items() if key not in twice or named is _without_suffix}


def _without_suffix(path: str) -> str:
    return posixpath.splitext(path)[0]


def _stem(path: str) -> str:
    return _without_suffix(posixpath.basename(path))


def class_regions(classes: Sequence[str]) -> np.ndarray:
    """Return the position in `REGIONS` of each of a parser's classes, uint8; an unknown class is an error."""
    check_known("face region", classes, REGIONS, "Name the parser's classes as the kit's regions, in its order.")
    return np.array([REGIONS.index(name) for name in classes], np.uint8)


def parsed_masks(parser: Parser, images: ImageSource, paths: Sequence[str]) -> tuple[MaskFiles, list[str]]:
    """Let a parser make the masks of the images, once: they are kept in the cache, by the image's content.

    Returns
    -------
    the masks, and a note of the faces that could not be parsed.
    """
    folder, lookup = cache_folder() / "masks" / parser.fingerprint(), class_regions(parser.classes)
    names = {path: images.digest(path).hex() for path in paths}
    known = {file.name for file in folder.glob("*")} if folder.is_dir() else set()
    todo = [path for path in paths if not {f"{names[path]}.png", f"{names[path]}.none"} & known]
    undecoded = set()
    for good, broken in decoded(images, todo, PARSE_BATCH, f"masks by {parser.name}"):
        undecoded |= broken.keys()
        for path, found in zip(good, parser.parse([*good.values()]) if good else [], strict=True):
            content = io.BytesIO()
            if found is not None:
                Image.fromarray(lookup[found]).save(content, "PNG", compress_level=1)
            write_whole(folder / f"{names[path]}.{'none' if found is None else 'png'}", content.getvalue())
    files = {path: f"{name}.png" for path, name in names.items() if (folder / f"{name}.png").is_file()}
    notes = []
    if failed := [path for path in paths if path not in files]:
        reason = f" ({len(undecoded)} of them are no readable image)" if undecoded else ""
        notes = [f"{parser.name} could not parse {len(failed)} of {len(paths)} faces{reason}: {listed(failed)}"]
    return MaskFiles(folder, files), notes
