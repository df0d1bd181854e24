"""Face Dissect's Face Dictionary: faces with a binary mask for each local concept, and faces by global group."""

from __future__ import annotations

import re
from functools import cached_property
from pathlib import Path, PurePosixPath

import numpy as np
import pandas as pd

from facexkit.errors import FacexkitError
from facexkit.faces.address import is_file, leaves
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.images import ImageFolder
from facexkit.faces.label_files import distinct, label_table
from facexkit.faces.listing import images_in
from facexkit.faces.masks import MaskFiles, inside
from facexkit.faces.notes import left_out, refuse
from facexkit.faces.regions import FACE_DICTIONARY

LABEL_FILES = ("Attributes.csv", "Action_Units.csv", "Parts.csv")
GLOBAL_FOLDER = "non_localizable"
CONCEPTS = tuple(concept for area in FACE_DICTIONARY.values() for concept in area)


class ConceptMasks(MaskFiles):
    """Masks in PNG files, one a concept; a pixel that is not black belongs to the concept."""

    @cached_property
    def names(self) -> tuple[str, ...]:
        """The concepts, by area, then what is new."""
        found = {concept for concepts in self.files.values() for concept in concepts}
        return (*(c for c in CONCEPTS if c in found), *sorted(found.difference(CONCEPTS)))

    def read(self, path: str) -> dict[str, np.ndarray]:
        """Return the masks of the concepts that the image is labelled with, bool (H, W); an empty one too."""
        return {concept: self.pixels(path, name, inside) for concept, name in self.files.get(path, {}).items()}


@register_format("face_dictionary")
def read_face_dictionary(root: Path) -> Reading:
    """The Face Dictionary of Face Dissect: local concepts by label file, global groups by folder.

    `Attributes.csv`, `Action_Units.csv`, `Parts.csv`: an image and its masks, `AU/NAME/AU_26.png;AU/NAME/AU_1.png`, a
    row; a concept becomes a column of 0 and 1. `non_localizable/Age/GROUP/*` and the like: the column `age`; faces
    that are in no such folder have no value there. Names are relative to the root.
    """
    files: dict[str, dict[str, str]] = {}
    lacking = [name for name in (*LABEL_FILES, GLOBAL_FOLDER) if not (root / name).exists()]
    for name in [name for name in LABEL_FILES if name not in lacking]:
        _read_labels(root, root / name, files)
    masks = ConceptMasks(root, files, any_shape=True)
    found, others = images_in(root, GLOBAL_FOLDER)
    paths = [path for path in found if path.count("/") >= 3]
    if not files and not paths:
        raise FacexkitError(f"{root} has none of {', '.join(LABEL_FILES)} and no {GLOBAL_FOLDER}/ATTRIBUTE/GROUP/")
    rows = {path: {"path": path} | {c: int(c in files.get(path, ())) for c in masks.names} for path in [*files, *paths]}
    for path in paths:
        _, attribute, group, *_ = path.split("/")
        rows[path][_plain(attribute)] = _plain(group)
    distinct(["path", *masks.names, *{_plain(path.split("/")[1]) for path in paths}], root)
    notes = [f"{root} has no {', '.join(lacking)}"] if lacking else []
    if loose := [path for path in found if path.count("/") < 3]:
        notes.append(left_out(loose, f"images do not lie in {GLOBAL_FOLDER}/ATTRIBUTE/GROUP/"))
    return Reading(pd.DataFrame(rows.values()), ImageFolder(root), masks if files else None, notes=[*notes, *others])


def _read_labels(root: Path, file: Path, files: dict[str, dict[str, str]]) -> None:
    """Add a label file's masks to `files`, by image and concept."""
    table = label_table(file, "image", ",", needs=("labels",))
    refuse(table.path[table.path.isna()], f"{file}: rows without an image", "name one or take the row out")
    for row, (image, labels) in enumerate(zip(table.path, table.labels.map(str, "ignore").fillna(""), strict=True), 1):
        concepts = files.setdefault(PurePosixPath(_slashed(image)).as_posix(), {})
        here = f"{file}, row {row} ({image})"
        for label in filter(None, map(_slashed, labels.split(";"))):
            concept = PurePosixPath(label).stem
            if leaves(root, label):
                raise FacexkitError(f"{here}: mask {label} leaves {root}; paths are relative to it")
            if not is_file(root / label):
                raise FacexkitError(f"{here}: there is no mask {root / label}; put it there, or take it out")
            if concepts.setdefault(concept, label) != label:
                raise FacexkitError(f"{here}: {concept} has two masks, {concepts[concept]} and {label}; keep one")


def _slashed(name: object) -> str:
    return str(name).strip().replace("\\", "/")


def _plain(folder: str) -> str:
    return re.sub(r"[\s-]+", "_", folder.strip().lower())
