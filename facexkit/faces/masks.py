"""Region masks from files: an index PNG an image, or a PNG a region; drawn by hand, or written by a parser."""

from __future__ import annotations

import posixpath
import re
from collections.abc import Callable, Iterable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import numpy as np
from PIL import Image

from facexkit.errors import FacexkitError, check_known, listed, told
from facexkit.faces.address import Place, files_below, is_folder, sizes_of
from facexkit.faces.faceset import FaceSet, MaskSource
from facexkit.faces.images import TURNS, ImageFolder, opened, regular
from facexkit.faces.mask_view import IndexMask
from facexkit.faces.regions import REGIONS, UNIONS, VOCABULARY

LOSSY = ("JPEG", "MPO", "WEBP")
SMALL = 2048
"""A mask file of one value takes fewer bytes, unless it has millions of pixels."""

REGION_FILE = re.compile(rf"(.*)_({'|'.join(REGIONS)})")

ORDERS = {"celebamask": REGIONS, "face_parsing": tuple(VOCABULARY["face_parsing"].split())}
"""Orders of the values in index PNGs by name: the kit's, which is CelebAMask-HQ's; and face-parsing.PyTorch's."""

ABOVE = (("hair", "mouth"), ("l_brow", "nose"), ("r_brow", "nose"), ("l_eye", "u_lip"), ("r_eye", "u_lip"), ("nose", "l_lip"),
         ("u_lip", "neck"), ("skin", "cloth"), ("hair", "neck"))  # fmt: skip
"""Regions whose middles lie one above the other in a face that is upright."""
LOOKED_AT = 24
SCATTERED = 0.25
"""Where eyes and lips lie further from their middle place (`scatter`), faces are not aligned."""


def untold(masks: MaskSource) -> list[str]:
    """Return the regions that a source of masks cannot tell: they count as its background.

    A source that knows hair and skin knows all; what else it has no mask of, a hat say, nobody may have worn.
    """
    known = {*masks.names}
    return [] if {"hair", "skin"} <= known else [region for region in REGIONS[1:] if region not in known]


@dataclass(eq=False)
class MaskFiles:
    """Masks in PNG files under `folder`: for each image one index PNG, or a PNG for each region that it has.

    Parameters
    ----------
    files : by the image's path: {region: name}, where "" stands for all regions in one index PNG.
    notes : sentences on what lies in the folder and is left out.
    images : the image files, where there are any: a mask of another shape than its image is refused unless `any_shape`,
        and one that was drawn on the pixels before EXIF turned them is turned with them.
    order : the region of each value in an index PNG.
    """

    folder: Place
    files: Mapping[str, Mapping[str, str]]
    notes: Sequence[str] = ()
    images: ImageFolder | None = None
    order: Sequence[str] = REGIONS
    any_shape: bool = False

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The regions that a file may show."""
        named = {region for files in self.files.values() for region in files}
        named |= {REGIONS[0], *(self.order if "" in named else ())}
        return tuple(region for region in REGIONS if region in named)

    def read(self, path: str) -> Mapping[str, np.ndarray]:
        """Return the image's masks, bool (H, W) by region; none where it has no file, or one of background alone."""
        files = self.files.get(path, {})
        if "" in files:
            masks = index_masks(self.pixels(path, files[""]), self.folder / files[""], self.order)
        else:
            masks = {region: self.pixels(path, name, inside) for region, name in files.items()}
            if len({mask.shape for mask in masks.values()}) > 1:
                sizes = ", ".join(f"{files[region]} {mask.shape[1]}×{mask.shape[0]}" for region, mask in masks.items())
                raise FacexkitError(f"{self.folder}: the masks of one image differ in size: {sizes}; save them alike")
            if masks:
                masks.setdefault("background", ~np.any([*masks.values()], axis=0))
            masks = {region: mask for region, mask in masks.items() if mask.any()}
        return {} if masks.keys() <= {"background"} else masks

    def pixels(self, path: str, name: str, take: Callable[[Image.Image], np.ndarray] = np.asarray) -> np.ndarray:
        """Return what `take` makes of one of an image's mask files, as the upright image lies."""
        file = self.folder / name
        with told(f"mask {file} cannot be read", "save it as PNG from the original", OSError), opened(file) as mask:
            if mask.format in LOSSY or "jpeg" in str(mask.info.get("compression")):
                raise OSError(f"it is a {mask.format} by its content, whose compression changes the values")
            return take(self._upright(mask, path, file))

    def _upright(self, mask: Image.Image, path: str, file: Place) -> Image.Image:
        try:
            stored, orientation = self.images.stored(path) if self.images else (mask.size, 1)
        except OSError:
            return mask  # there is no picture to lie over; the pass lists it among the skipped
        upright = stored[::-1] if orientation in TURNS else stored
        if mask.size == upright or (mask.size != stored and _alike(mask.size, upright)):
            return mask
        if orientation in TURNS and _alike(mask.size, stored):
            return mask.transpose(TURNS[orientation])
        if self.any_shape:
            return mask
        sizes = [f"{width}×{height}" for width, height in (mask.size, upright)]
        raise FacexkitError(f"mask {file} has {sizes[0]} pixels, its image {path} {sizes[1]}: these are of different shapes, "
                            "so the mask belongs to another picture or cut; save it in the shape of its image")  # fmt: skip

    def digest(self, path: str) -> bytes:
        """Return the bytes of the image's mask files, and what they show."""
        files = dict(sorted(self.files.get(path, {}).items()))
        with told(f"a mask of {path} cannot be read", "put the file back", OSError):
            content = [regular(self.folder / name).read_bytes() for name in files.values()]
        return b"".join([repr((*files, *self.order)).encode(), *content])

    def take_out_empty(self, paths: Iterable[str]) -> list[str]:
        """Take out the masks that are background alone, and return their images; small files are opened, no others."""
        names = {path: self.files[path].values() for path in paths if path in self.files}
        with told(f"a mask in {self.folder} cannot be read", "put the file back", OSError):
            bytes_of = sizes_of(self.folder, {name for own in names.values() for name in own})
        sizes = {path: sum(bytes_of[name] for name in own) for path, own in names.items()}
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


def index_masks(index: np.ndarray, file: Path, order: Sequence[str] = REGIONS) -> IndexMask:
    """Take the pixels of a palette or grey PNG as positions in `order`."""
    if index.ndim != 2 or index.dtype.kind in "fb":
        kind = "it has one bit a pixel" if index.dtype.kind == "b" else "that is palette or grey, with the region 0–18 as pixel value"
        raise FacexkitError(f"{file}: no index PNG; {kind}; save a region alone as STEM_REGION.png")
    if index.min() < 0 or index.max() >= len(order):
        y, x = np.argwhere((index < 0) | (index >= len(order)))[0]
        raise FacexkitError(
            f"{file}: the pixel at column {x}, row {y} has the value {index[y, x]}, which is no region (0–{len(order) - 1}); "
            "save the mask as an index PNG, or one PNG a region named STEM_REGION.png"
        )
    return IndexMask(index if order is REGIONS else class_regions(order)[index], REGIONS)


def inside(image: Image.Image) -> np.ndarray:
    """Return where a picture of one region has it: where it is opaque, if it is so in parts; else where it is not black."""
    if not image.has_transparency_data:
        return np.asarray(image.convert("L")) > 0
    opaque = np.asarray(image.convert("RGBA").getchannel("A")) > 127
    if not opaque.any():
        raise OSError("it is transparent everywhere, so it shows no region")
    return np.asarray(image.convert("RGB").convert("L")) > 0 if opaque.all() else opaque


def order_of(classes: Sequence[str] | None) -> tuple[str, ...] | None:
    """Return the region of each value in index PNGs, of an order by name or as it is listed; None for the format's own."""
    if classes is None:
        return None
    names = tuple(name.strip() for text in classes for name in text.split(","))
    if len(names) == 1:
        check_known("order of mask classes", names, ORDERS)
        return ORDERS[names[0]]
    check_known("face region", names, REGIONS, "mask_classes names the region of each value, in order.")
    return names


def compared(masks: MaskFiles, faces: FaceSet, asked: object) -> list[str]:
    """Compare the mask files of a set with its images; return notes on images without one, and on an unlikely order.

    Raises
    ------
    FacexkitError where the images themselves would be read as masks.
    """
    paths, notes = faces.table.path.tolist(), [*masks.notes]
    for path in [path for path in paths if path in masks.files][:LOOKED_AT] if masks.images is not None else ():
        if (masks.images.root / path).resolve() in [(masks.folder / name).resolve() for name in masks.files[path].values()]:
            raise FacexkitError(f"{masks.folder} holds the images themselves, {path} say, and no masks; name another folder")
    if not notes and (lacking := masks.missing(paths)):
        notes.append(f"{len(lacking)} of {len(paths)} images have no mask in {masks.folder}: {listed(lacking)}")
    if empty := masks.take_out_empty(paths):
        notes.append(f"{len(empty)} of {len(paths)} images have a mask of background alone, taken for none: {listed(empty)}")
    index = [path for path in paths if "" in masks.files.get(path, {})]
    sample = index[:: -(-len(index) // LOOKED_AT) or 1] if asked is None and type(masks) is MaskFiles else []
    odd = {path: wrong for path in sample if (wrong := _upside_down(masks.read(path)))}
    if len(odd) > len(sample) / 2:
        path, (upper, lower) = next(iter(odd.items()))
        notes.append(f"in {len(odd)} of {len(sample)} masks that were looked at regions lie where they cannot, in {path} "
                     f"{upper} under {lower}; are the values in another order? Name it by mask_classes: {', '.join(ORDERS)}, "
                     "or a list")  # fmt: skip
    return notes


def scatter(faces: FaceSet) -> float:
    """Return how far eyes and lips lie from their middle place over some faces, as a share of the way between them.

    The largest standard deviation along x or y; about 0.1 in aligned faces. NaN where fewer than four faces show both.
    """
    places = []
    for path in faces.table.path[:: -(-len(faces) // LOOKED_AT) or 1]:
        masks = faces.masks.read(path)
        parts = [[masks[name] for name in names if name in masks] for names in (UNIONS["eyes"], UNIONS["lips"])]
        if all(parts):
            places.append([np.mean([np.argwhere(m).mean(0) / m.shape for m in own], axis=0) for own in parts])
    eyes, lips = np.array(places).reshape(-1, 2, 2).swapaxes(0, 1)
    return float(np.std([eyes, lips], axis=1).max() / np.abs(lips - eyes)[:, 0].mean()) if len(eyes) >= 4 else np.nan


def _upside_down(masks: Mapping[str, np.ndarray]) -> tuple[str, str] | None:
    """Return a region that should lie above another one and does not; None where there is none."""
    middle = lambda name: np.flatnonzero(masks[name].any(1)).mean()  # noqa: E731
    return next((pair for pair in ABOVE if masks.keys() >= {*pair} and middle(pair[0]) > middle(pair[1])), None)


def mask_folder(folder: Path, paths: Sequence[str], key: Callable[[str], str] | None = None) -> MaskFiles:
    """Find the mask files of the images: `KEY.png`, or `KEY_REGION.png`, in the folder or any folder below.

    Parameters
    ----------
    paths : the images.
    key : an image's path → how its masks are named; without it the path or the name, without the suffix.
    """
    if not is_folder(folder):
        raise FacexkitError(f"no mask folder {folder}; give masks= an existing folder, 'landmarks' or a face parser")
    pngs = [file for file in files_below(folder) if file.lower().endswith(".png")]
    for named in [key] if key else [_without_suffix, _stem]:
        images = {named(path): path for path in paths}
        found, others = _of_images(_stem if key else named, images, pngs)
        if found and len(images) == len({*paths}):
            whole = {image for image, files in found.items() if "" in files}
            parts = {image for image, files in found.items() if {*files} != {""}}
            one = len(whole) >= len(parts)
            for image in whole & parts:
                found[image] = {region: file for region, file in found[image].items() if (region == "") == one}
            notes = _no_regions(others) if parts and others else []
            if both := sorted(whole & parts):
                notes.append(f"{len(both)} images have an index mask and masks by region; the {'former' if one else 'latter'} "
                             f"count: {listed(both)}")  # fmt: skip
            return MaskFiles(folder, found, notes)
    stem = _stem(paths[0])
    raise FacexkitError(
        f"{folder} has no mask for any of the {len(paths)} images; looked for names like {stem}.png and {stem}_skin.png"
    )


def _of_images(
    named: Callable[[str], str], images: Mapping[str, str], pngs: Sequence[str]
) -> tuple[dict[str, dict[str, str]], list[str]]:
    """Return each image's PNG by region, "" for an index PNG; and the PNGs that are named after an image and no region.

    By name, an image has only those that one file alone is called.
    """
    found, others, twice = {}, [], set()
    for file in pngs:
        name = named(file)
        part = REGION_FILE.fullmatch(name)
        of, region = part.groups() if part and name not in images else (name, "")
        if of in images:
            if found.setdefault(images[of], {}).setdefault(region, file) != file:
                twice.add(images[of])
        elif any(name[: at.start()] in images for at in re.finditer("_", name)):
            others.append(file)
    return {image: files for image, files in found.items() if image not in twice or named is _without_suffix}, others


def _no_regions(files: list[str]) -> list[str]:
    united = [name for name in UNIONS if any(_stem(file).endswith(f"_{name}") for file in files)]
    unions = "".join(f"; {name} is {' and '.join(UNIONS[name])} together: save these" for name in united)
    return [f"{len(files)} mask files name no region and are left out: {listed(sorted(files))}{unions}"]


def _without_suffix(path: str) -> str:
    return posixpath.splitext(path)[0]


def _stem(path: str) -> str:
    return _without_suffix(posixpath.basename(path))


def class_regions(classes: Sequence[str]) -> np.ndarray:
    """Return the position in `REGIONS` of each of a parser's classes, uint8; an unknown class is an error."""
    check_known("face region", classes, REGIONS, "Name the parser's classes as the kit's regions, in its order.")
    return np.array([REGIONS.index(name) for name in classes], np.uint8)
