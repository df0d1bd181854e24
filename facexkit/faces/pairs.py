"""Pairs of faces, a reference and a probe each, that show the same person or two."""

from __future__ import annotations

import posixpath
from functools import partial
from pathlib import Path

import pandas as pd

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import FORMATS, Reading, register_format
from facexkit.faces.images import ImageFolder
from facexkit.faces.label_files import read_table
from facexkit.faces.masks import mask_folder


@register_format("pairs")
def read_pairs(
    root: Path | None = None,
    annotations: Path | None = None,
    *,
    identities: int = 80,
    pictures_per_identity: int = 8,
    cue: str = "brows",
    split: str = "test",
    seed: int = 0,
) -> Reading:
    """Pairs of images: a CSV of reference, probe, 1 for the same person or 0, and groups; without a root, drawn ones.

    A row a pair: `path`, the probe; `reference`; `same`, 0 or 1; groups. An image may be in several rows. The probes'
    masks lie in `ROOT-mask-anno` if that folder is there. The options are those of the drawn pairs, see `synthetic_faces`.
    """
    if (root is None) != (annotations is None):
        raise FacexkitError("format 'pairs' needs root=… and annotations=…; without both it draws its own pairs")
    if root and annotations:
        reading = Reading(_pair_table(annotations), ImageFolder(root), file=annotations)
        beside = root.resolve().parent / f"{root.resolve().name}-mask-anno"
        reading.masks = partial(mask_folder, beside) if beside.is_dir() else None
    else:
        how = {"pictures_per_identity": pictures_per_identity, "cue": cue, "split": split, "seed": seed}
        reading = FORMATS["synthetic"](identities=identities, **how)
        reading.table, reading.target = _drawn_pairs(reading.table), None
    reading.image_columns = ("path", "reference")
    return reading


def references(pairs: FaceSet) -> FaceSet:
    """Return the distinct references of pairs as a face set, in the order in which they first come."""
    if "reference" not in pairs.table:
        raise FacexkitError(f"the face set {pairs.name!r} has no pairs; load them with fx.load_faces('pairs', …)")
    names = pd.DataFrame({"path": pairs.table.reference.unique()})
    return FaceSet(names, pairs.images, name=f"references of {pairs.name}")


def _pair_table(file: Path) -> pd.DataFrame:
    table = read_table(file)
    names = [*table.columns]
    if len(names) < 3 or names[2] in ("0", "1"):
        raise FacexkitError(
            f"{file}: line 1 is {', '.join(names)}; it names the columns: reference image, probe image, 1 (one person) "
            "or 0, then groups if you have them"
        )
    own = ["reference", "path", "same"]
    table.columns = [*own, *(f"{name} (label)" if name in own else name for name in names[3:])]
    values = pd.to_numeric(table.same, errors="coerce")
    if (wrong := ~values.isin([0, 1])).any():
        row = wrong.idxmax()
        where = f"{file}, row {row + 1} ({table.path[row]}), column {names[2]!r}"
        raise FacexkitError(f"{where}: {table.same[row]} is neither 1 (the same person) nor 0; mend it")
    table = table.assign(same=values.astype(int))[["path", "reference", "same", *table.columns[3:]]]
    _check_pairs(table, file)
    return table


def _check_pairs(table: pd.DataFrame, file: Path) -> None:
    """Refuse a picture beside itself, and two pictures, in either order, that are said to be one person and two."""
    said: dict[frozenset[str], tuple[int, int]] = {}
    for row, (probe, reference, same) in enumerate(zip(table.path, table.reference, table.same, strict=True), 1):
        pair = frozenset(posixpath.normpath(str(image).strip()) for image in (probe, reference))
        if len(pair) == 1 and not pd.isna(probe):
            raise FacexkitError(f"{file}, row {row}: {probe} is a pair with itself, which proves nothing; take it out")
        earlier, before = said.setdefault(pair, (row, same))
        if before != same:
            raise FacexkitError(f"{file}, rows {earlier} and {row}: {reference} and {probe} are one person (1) in one "
                                "and two (0) in the other; keep the right one")  # fmt: skip


def _drawn_pairs(pictures: pd.DataFrame) -> pd.DataFrame:
    """Pair every second picture with the one of its person before it, and with one of the next person."""
    people = [group.path.tolist() for _, group in pictures.groupby("identity")]
    if len(people) < 2 or min(map(len, people)) < 2:
        raise FacexkitError("drawn pairs need two persons with two pictures each; ask for more identities or pictures")
    rows = [
        (own[k], reference, same)
        for place, own in enumerate(people)
        for k in range(1, len(own), 2)
        for reference, same in ((own[k - 1], 1), (people[(place + 1) % len(people)][k - 1], 0))
    ]
    return pd.DataFrame(rows, columns=["path", "reference", "same"]).merge(pictures, on="path")
