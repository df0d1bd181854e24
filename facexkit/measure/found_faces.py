"""Where the faces of pictures are: found once by a detector in the one pass, and kept in the cache by each picture's content."""

from __future__ import annotations

import hashlib
import io
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from facexkit.errors import told
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.images import Letterboxed, upright_size
from facexkit.measure.per_image import PerImage
from facexkit.models.detector import VALUES, detector
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Arrays
from facexkit.probe.work import check_skipped

BOX = ["left", "top", "right", "bottom"]
POINTS = [f"{axis}{point}" for point in range(1, 6) for axis in "xy"]
FOUND = ["confidence", *BOX, *POINTS]
PART = 128
"""Pictures whose faces are written down at a time."""


def find_faces(faces: FaceSet, smallest: float | None = None, detector_name: str = "mtcnn", **how: object) -> pd.DataFrame:
    """Find the faces in the pictures of a set.

    What was found in a picture is kept in the cache, by detector and content, so that nobody finds it again: cropping,
    alignment, masks by landmarks and the face picker all ask here. A run that is killed goes on after the last 128.

    Parameters
    ----------
    smallest : all faces from this share of a picture's longer side on; None for those from a sixth on, and smaller
        ones only in pictures without.
    detector_name : "mtcnn", or "dlib", see `align_faces`.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    table with a row a face, largest first: `row` and `path` of its picture; `face`, its number there, from 0; the box
    `left, top, right, bottom` and the points `x1, y1, …, x5, y5` (the eyes, the tip of the nose, the corners of the
    mouth, the image's left first) in pixels of the upright picture, whose `width` and `height` follow; `confidence`.
    attrs["skipped"] lists the pictures that cannot be decoded.
    """
    model = detector(detector_name, smallest)
    folder = cache_folder() / "faces" / model.fingerprint()
    digests = pd.Series([faces.images.digest(path).hex() for path in faces.table.path], dtype=object)
    known = _known(folder)
    todo = digests.index[~digests.isin(known.digest) & ~digests.duplicated()].to_numpy()
    skipped = _find(model, faces, todo, digests, folder, PassOptions(**how)) if len(todo) else []
    known = _known(folder).drop_duplicates(["digest", "face"]) if len(todo) else known
    rows = pd.DataFrame({"row": faces.table.index, "path": faces.table.path, "digest": digests})
    found = rows.merge(known[known.face >= 0], on="digest").drop(columns="digest")
    found = found.sort_values(["row", "face"], ignore_index=True).astype({"face": int})
    found.attrs["skipped"] = skipped
    return found


class FacesFound(PerImage):
    """What a detector finds, `values` (15,) a face; and one row, `face` −1, for each picture without."""

    outputs, without_images = True, True

    def update(self, batch: ProbedBatch) -> None:
        found = batch.outputs.double().cpu().numpy().reshape(len(batch.rows), -1, VALUES)
        found = np.pad(found, ((0, 0), (0, 1), (0, 0)))  # a place for "none" behind the last
        there = found[..., 0] > 0
        there[~there.any(1), 0] = True
        picture, face = np.nonzero(there)
        values = found[picture, face]
        self.kept.take(batch.rows[picture], face=np.where(values[:, 0] > 0, face, -1), values=values)


def _find(
    model: FaceModel, faces: FaceSet, todo: np.ndarray, digests: pd.Series, folder: Path, how: PassOptions
) -> list[str]:
    """Let the pass find the faces of some rows, and write them down part by part; return what was skipped."""

    def keep(part: Arrays) -> None:
        sizes = np.array([upright_size(faces.images, faces.table.path[row]) for row in part["rows"]])
        values = part["values"] * np.where(np.arange(VALUES), sizes.max(1)[:, None] / model.image_size, 1)
        table = pd.DataFrame(values, columns=FOUND).assign(face=part["face"])
        table = table.assign(width=sizes[:, 0], height=sizes[:, 1], digest=digests[part["rows"]].to_numpy())
        table.to_parquet(content := io.BytesIO(), index=False)
        name = hashlib.sha256("".join(table.digest).encode()).hexdigest()[:16]
        write_whole(folder / f"{name}.parquet", content.getvalue())

    pictures = FaceSet(faces.table[["path"]], Letterboxed(faces.images, model.image_size), name=faces.name)
    skipped = run(model, pictures, [FacesFound(keep)], replace(how, max_skipped=1.0, autocast=None), rows=todo, shard=PART)
    check_skipped(skipped, len(faces), how.max_skipped)
    return skipped


def _known(folder: Path) -> pd.DataFrame:
    """Return what was found before by this detector."""
    parts = []
    for file in sorted(folder.glob("*.parquet")):
        with told(f"{file} cannot be read", "remove it and run again"):
            parts.append(pd.read_parquet(file))
    columns = [*FOUND, "face", "width", "height", "digest"]
    return pd.concat(parts, ignore_index=True) if parts else pd.DataFrame(columns=columns)


def points_of(found: pd.DataFrame) -> np.ndarray:
    """Return the five points of each face: float (F, 5, 2), in pixels."""
    return found[POINTS].to_numpy(float).reshape(-1, 5, 2)
