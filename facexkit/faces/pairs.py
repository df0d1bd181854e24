"""Pairs of faces, a reference and a probe each, that show the same person or two."""

from __future__ import annotations

from pathlib import Path

import pandas as pd

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.images import ImageFolder
from facexkit.faces.readers import read_table
from facexkit.faces.synthetic import synthetic_faces

COLUMNS = ["reference", "path", "same"]


@register_format("pairs")
def read_pairs(
    root: Path | None = None,
    annotations: Path | None = None,
    *,
    sep: str | None = None,
    identities: int = 150,
    pictures_per_identity: int = 8,
    cue: str = "brows",
    split: str = "test",
    size: int = 128,
    seed: int = 0,
) -> Reading:
    """Pairs of images: a CSV of reference, probe, 1 for the same person or 0, and groups; without a root, drawn ones.

    Parameters
    ----------
    sep : what separates the columns.
    identities, pictures_per_identity, cue, split, size, seed : of the drawn pairs, see `synthetic_faces`.

    Returns
    -------
    a row a pair: `path`, the probe; `reference`; `same`, 0 or 1; groups. An image may be in several rows.
    """
    if root is None and annotations is None:
        drawn = {"identities": identities, "pictures_per_identity": pictures_per_identity, "size": size, "seed": seed}
        table, images, masks = synthetic_faces(cue=cue, split=split, **drawn)
        return Reading(_drawn_pairs(table), images, masks, image_columns=("path", "reference"))
    if root is None or annotations is None:
        raise FacexkitError("format 'pairs' needs root=… and annotations=…; without both it draws its own pairs")
    table = _pair_table(annotations, sep)
    return Reading(table, ImageFolder(root), file=annotations, image_columns=("path", "reference"))


def references(pairs: FaceSet) -> FaceSet:
    """Return the distinct references of pairs as a face set, in the order in which they first come."""
    if "reference" not in pairs.table:
        raise FacexkitError(f"the face set {pairs.name!r} has no pairs; load them with fx.load_faces('pairs', …)")
    names = pd.DataFrame({"path": pairs.table.reference.unique()})
    return FaceSet(names, pairs.images, name=f"references of {pairs.name}")


def _pair_table(file: Path, sep: str | None) -> pd.DataFrame:
    table = read_table(file, sep)
    names = [str(name).strip() for name in table.columns]
    if len(names) < 3 or names[2] in ("0", "1"):
        raise FacexkitError(
            f"{file}: line 1 is {', '.join(names)}; it names the columns: reference image, probe image, 1 or 0 for the "
            "same person or not, then groups if you have them"
        )
    table.columns = [*COLUMNS, *(f"{name} (label)" if name in COLUMNS else name for name in names[3:])]
    values = pd.to_numeric(table.same, errors="coerce")
    if (wrong := ~values.isin([0, 1])).any():
        row = wrong.idxmax()
        raise FacexkitError(
            f"{file}, row {row + 1} ({table.path[row]}), column {names[2]!r}: {table.same[row]} is neither 1 (the same "
            "person) nor 0; mend it"
        )
    table["same"] = values.astype(int)
    return table[["path", "reference", "same", *table.columns[3:]]]


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
