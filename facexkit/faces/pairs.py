"""Pairs of faces, a reference and a probe each, that show the same person or two."""

from __future__ import annotations

import posixpath
import re
from pathlib import Path

import pandas as pd

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.address import is_file
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import Reading, load_faces, register_format
from facexkit.faces.images import ImageFolder
from facexkit.faces.label_files import read_table, read_text, two_valued

IMAGES = ("path", "reference")
DRAWN = {"identities": 80, "pictures_per_identity": 8, "cue": "brows", "split": "test", "seed": 0}
"""Of the drawn pairs, where nothing else is asked."""
COUNTS = re.compile(r"\d+(\s+\d+)?")
PAIR = re.compile(r"(.+?)\s+(\d+)\s+(?:(.+?)\s+)?(\d+)")
"""The first line of LFW's `pairs.txt`, and its others: NAME i j, or NAME i OTHER j."""


@register_format("pairs")
def read_pairs(root: Path | None = None, annotations: Path | None = None, **drawn: object) -> Reading:
    """Pairs of images: a CSV of reference, probe, 1 for the same person or 0, and groups; without a root, drawn ones.

    A row a pair: `path`, the probe; `reference`; `same`, 0 or 1; groups. An image may be in several rows. LFW's own
    `pairs.txt` is read as it is published. The options are those of the drawn pairs, see
    `synthetic_faces`; `DRAWN` by default.
    """
    if (root is None) != (annotations is None) or (root and drawn):
        raise FacexkitError("format 'pairs' needs root=… and annotations=…, no more; without both it draws its own pairs")
    if root is None:
        pictures = load_faces("synthetic", **DRAWN | drawn)
        return Reading(_drawn_pairs(pictures.table), pictures.images, pictures.masks, image_columns=IMAGES)
    first = read_text(annotations).partition("\n")[0].strip()
    published = COUNTS.fullmatch(first) or PAIR.fullmatch(first)
    below = "lfw/" if (root / "lfw").is_dir() else ""
    table = _published_pairs(annotations, below) if published else _pair_table(annotations)
    return Reading(table, ImageFolder(root), file=annotations, image_columns=IMAGES)


@register_format("rfw")
def read_rfw(root: Path) -> Reading:
    """RFW as published: `txts/RACE/RACE_pairs.txt` and `data/RACE/NAME/NAME_0001.jpg`, below `test/` or the root; `race`."""
    below = "test/" if (root / "test").is_dir() else ""
    files = sorted(root.glob(f"{below}txts/*/*_pairs.txt"))
    if not files:
        raise FacexkitError(f"{root} has no txts/RACE/RACE_pairs.txt; give the folder that has txts/ and data/ as root")
    races = [file.parent.name for file in files]
    tables = [_published_pairs(file, f"{below}data/{race}/").assign(race=race) for file, race in zip(files, races, strict=True)]
    table = pd.concat(tables, ignore_index=True)
    return Reading(table, ImageFolder(root), file=files[0], image_columns=IMAGES)


@register_format("bfw")
def read_bfw(root: Path, annotations: Path | None = None) -> Reading:
    """BFW as published: its data table (`bfw*.csv`: p1, p2, label, fold, att, g, e) beside its folders of faces."""
    file = annotations or next(iter(sorted(root.glob("bfw*.csv"))), None)
    if file is None:
        raise FacexkitError(f"{root} has no bfw*.csv; give BFW's data table as annotations=")
    table = read_table(file)
    check_known("column of BFW's data table", ["p1", "p2", "label"], table.columns, f"(columns of {file})")
    first = str(table.p1.iloc[0]) if len(table) else ""
    places = ("", *(f"{folder.name}/" for folder in sorted(root.glob("*"))))
    below = next((place for place in places if is_file(root / f"{place}{first}")), "")
    names = {"att2": "group", "g2": "gender", "e2": "ethnicity", "fold": "fold"}
    own = pd.DataFrame({"reference": below + table.p1.astype(str), "path": below + table.p2.astype(str), "same": table.label})
    groups = table[[name for name in names if name in table]].rename(columns=names)
    return Reading(_checked(own.join(groups), file, "label"), ImageFolder(root), file=file, image_columns=IMAGES)


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
    return _checked(table, file, names[2])


def _published_pairs(file: Path, below: str) -> pd.DataFrame:
    """Read LFW's and RFW's lists: NAME i j, one person, or NAME i OTHER j, two; images are NAME/NAME_000i.jpg below a folder."""
    rows = []
    for number, line in enumerate(read_text(file).splitlines(), 1):
        if line.strip() and not (number == 1 and COUNTS.fullmatch(line.strip())):
            if not (pair := PAIR.fullmatch(line.strip())):
                raise FacexkitError(f"{file}, line {number}: {line!r} is neither NAME i j nor NAME i OTHER j; mend it")
            name, first, other, second = pair.groups()
            reference, probe = (f"{below}{who}/{who}_{int(k):04d}.jpg" for who, k in ((name, first), (other or name, second)))
            rows.append((probe, reference, int(other is None)))
    return _checked(pd.DataFrame(rows, columns=["path", "reference", "same"]), file)


def _checked(table: pd.DataFrame, file: Path, column: str = "same") -> pd.DataFrame:
    """Return the table of pairs with `same` as 0 or 1; an error where it is neither, or where pairs contradict.

    No picture is beside itself, and no two pictures, in either order, are said to be one person and two.
    """
    named = table[["same"]].set_axis([column], axis=1)
    table["same"] = two_valued(named, (0, 1), lambda row: f"{file}, row {row + 1} ({table.path[row]})")
    said: dict[frozenset[str], tuple[int, int]] = {}
    for row, (probe, reference, same) in enumerate(zip(table.path, table.reference, table.same, strict=True), 1):
        pair = frozenset(posixpath.normpath(str(image).strip()) for image in (probe, reference))
        if len(pair) == 1 and not pd.isna(probe):
            raise FacexkitError(f"{file}, row {row}: {probe} is a pair with itself, which proves nothing; take it out")
        earlier, before = said.setdefault(pair, (row, same))
        if before != same:
            raise FacexkitError(f"{file}, rows {earlier} and {row}: {reference} and {probe} are one person (1) in one "
                                "and two (0) in the other; keep the right one")  # fmt: skip
    return table[["path", "reference", "same", *table.columns.drop(["path", "reference", "same"])]]


def _drawn_pairs(pictures: pd.DataFrame) -> pd.DataFrame:
    """Pair every second picture with the one of its person before it, and with one of the next person."""
    people = [group.path.tolist() for _, group in pictures.groupby("identity")]
    if len(people) < 2 or min(map(len, people)) < 2:
        raise FacexkitError("drawn pairs need two persons with two pictures each; ask for more identities or pictures")
    rows = []
    for own, others in zip(people, [*people[1:], people[0]], strict=True):
        for reference, probe, stranger in zip(own[::2], own[1::2], others[::2], strict=False):
            rows += [(probe, reference, 1), (probe, stranger, 0)]
    return pd.DataFrame(rows, columns=["path", "reference", "same"]).merge(pictures, on="path")
