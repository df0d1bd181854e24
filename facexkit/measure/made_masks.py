"""Masks that are made: drawn over the five points of a found face, or by a face parser in the one pass."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import numpy as np
from PIL import Image

from facexkit.errors import FacexkitError, listed
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.cores import cores
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import MASKS
from facexkit.faces.images import encoded
from facexkit.faces.landmarks import LandmarkMasks
from facexkit.faces.masks import MaskFiles, class_regions
from facexkit.faces.regions import REGIONS
from facexkit.measure.found_faces import find_faces, points_of
from facexkit.measure.per_image import PerImage
from facexkit.models.parser import FaceParser
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Arrays

PART = 64
"""Pictures whose masks are written at a time."""


@MASKS.register("landmarks")
def landmark_masks(_: object, faces: FaceSet, **how: object) -> tuple[LandmarkMasks, list[str]]:
    """Draw the template over each picture's largest face; options as of `PassOptions`."""
    found = find_faces(faces, **{**how, "max_skipped": 1.0})
    found = found[found.face == 0]
    sizes = found[["width", "height"]].to_numpy(int).tolist()
    placed = zip(found.path, map(tuple, sizes), points_of(found), strict=True)
    masks = LandmarkMasks({path: (size, points) for path, size, points in placed})
    return masks, _note("landmarks", faces, masks.missing(faces.table.path), found.attrs["skipped"])


@MASKS.register("parser")
def parsed_masks(parser: FaceParser, faces: FaceSet, **how: object) -> tuple[MaskFiles, list[str]]:
    """Let a parser make the masks of the pictures, once: they are kept in the cache, by the picture's content.

    A run that is killed goes on after the last 64. Options as of `PassOptions`.

    Returns
    -------
    the masks, and a note of the faces that could not be parsed.
    """
    if not hasattr(parser, "pixels"):
        raise FacexkitError(f"masks is a {type(parser).__name__}; give a folder, 'landmarks', or an fx.FaceParser(…)")
    folder, lookup = cache_folder() / "masks" / parser.fingerprint(), class_regions(parser.classes)
    paths = faces.table.path.tolist()
    names = {path: faces.images.digest(path).hex() for path in paths}
    known = {file.stem for file in folder.glob("*")} if folder.is_dir() else set()
    first = {names[path]: row for row, path in reversed([*enumerate(paths)])}
    todo = sorted(row for name, row in first.items() if name not in known)

    def write(row: int, classes: np.ndarray) -> None:
        index, file = lookup[classes], folder / names[paths[row]]
        if index.any():
            write_whole(file.with_suffix(".png"), encoded(Image.fromarray(index), "PNG", compress_level=1))
        else:
            write_whole(file.with_suffix(".none"), b"")

    def keep(part: Arrays) -> None:
        with ThreadPoolExecutor(cores()) as pool:
            [*pool.map(write, part["rows"], part["classes"])]

    options = PassOptions(**{"batch_size": 16, **how, "max_skipped": 1.0})
    skipped = run(parser.pixels, faces, [MasksParsed(keep)], options, rows=np.array(todo), shard=PART) if todo else []
    files = {path: {"": f"{name}.png"} for path, name in names.items() if (folder / f"{name}.png").is_file()}
    masks = MaskFiles(folder, files, any_shape=True)  # the parser saw each picture in a square
    masks.names = tuple(name for name in REGIONS if name in parser.classes or name == REGIONS[0])
    return masks, [*getattr(parser, "notes", ()), *_note(parser.name, faces, masks.missing(paths), skipped)]


@MASKS.register("hf")
def hub_masks(name: str, faces: FaceSet, **how: object) -> tuple[MaskFiles, list[str]]:
    """Let a semantic segmentation model of the Hugging Face hub, or of a folder, make the masks; see `FaceParser.hf`."""
    return parsed_masks(FaceParser.hf(name), faces, **how)


class MasksParsed(PerImage):
    """A parser's `classes` of every pixel, uint8 (S, S) a picture."""

    outputs, without_images = True, True

    def update(self, batch: ProbedBatch) -> None:
        classes = batch.outputs.to("cpu").byte().numpy()
        side = round(classes.shape[1] ** 0.5)
        self.kept.take(batch.rows, classes=classes.reshape(-1, side, side))


def _note(name: str, faces: FaceSet, failed: list[str], skipped: list[str]) -> list[str]:
    if not failed:
        return []
    reason = f" ({len(skipped)} of them are no readable image)" if skipped else ""
    return [f"{name} could not parse {len(failed)} of {len(faces)} faces{reason}: {listed(failed)}"]
