"""The formats of face sets that people have on their disks, each a small function over a few that read tables and names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from facexkit.errors import FacexkitError, told
from facexkit.faces.address import Place
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.images import ImageFolder, regular
from facexkit.faces.label_files import attribute_table, distinct, label_table, read_text, two_valued
from facexkit.faces.listing import images_in
from facexkit.faces.masks import MaskFiles, mask_folder
from facexkit.faces.notes import left_out

SPLITS = {"train": "train", "training": "train", "val": "val", "valid": "val", "validation": "val", "test": "test",
          "testing": "test"}  # fmt: skip
"""What a folder of a part is called → the part."""
CELEBA_SPLITS = {"0": "train", "1": "val", "2": "test"}
UTKFACE_NAME = r"(?i)^(?:.*/)?(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_\d+[ .]*[a-z]*(?:\.chip)?\.[a-z]+\Z"
"""Some of UTKFace's own names end in `…657 .jpg.chip.jpg`, `…357jpg.chip.jpg` or `…272.pg.chip.jpg`."""
UTKFACE_VALUES = {"gender": ("male", "female"), "race": ("White", "Black", "Asian", "Indian", "Others")}
FAIRFACE_FILES = ("fairface_label_train.csv", "fairface_label_val.csv")
READ_MAT = """
import json, sys
from scipy.io import loadmat
names = ("name", "label", "AttrName")
content = loadmat(sys.argv[1], simplify_cells=True, variable_names=names)
print(json.dumps({name: content[name].tolist() for name in names}))
"""


@register_format("csv")
def read_csv(root: Path, annotations: Path, *, image_column: str | None = None, sep: str | None = None) -> Reading:
    """Any folder of images with a table of labels."""
    table = attribute_table(annotations) if annotations.suffix == ".txt" else label_table(annotations, image_column, sep)
    return Reading(table, ImageFolder(root), file=annotations)


@register_format("photos")
def read_photos(root: Path, annotations: Path | None = None) -> Reading:
    """All images below a folder; without a table of labels they have none."""
    if annotations:
        return read_csv(root, annotations)
    paths, notes = images_in(root)
    return Reading(pd.DataFrame({"path": paths}), ImageFolder(root), notes=notes)


@register_format("celebamask_hq")
def read_celebamask_hq(root: Path, annotations: Path | None = None) -> Reading:
    """CelebAMask-HQ as published, or `images/` and `masks/` with a CSV of labels beside them."""
    if (root / "CelebA-HQ-img").is_dir():
        file = annotations or root / _find(root, "CelebAMask-HQ-attribute-anno.txt")
        masks = _masks_in(root / "CelebAMask-HQ-mask-anno", lambda path: PurePosixPath(path).stem.zfill(5))
        return Reading(attribute_table(file, "CelebA-HQ-img/"), ImageFolder(root), masks, file=file)
    if not (root / "images").is_dir():
        raise FacexkitError(f"{root} has neither CelebA-HQ-img/ nor images/; give the folder above them as root")
    files, notes = [annotations] if annotations else sorted(root.glob("*.csv")), []
    if len(files) > 1:
        raise FacexkitError(f"{root} has {len(files)} CSV files; choose one: annotations={files[0].name!r}")
    if files:
        table = label_table(files[0])
        table["path"] = "images/" + table.path
    else:
        paths, others = images_in(root, "images")
        table, notes = pd.DataFrame({"path": paths}), [f"no CSV of labels in {root}: the faces have none", *others]
    return Reading(table, ImageFolder(root), _masks_in(root / "masks"), file=next(iter(files), None), notes=notes)


@register_format("celeba")
def read_celeba(root: Path, annotations: Path | None = None) -> Reading:
    """CelebA as published, its folders `Anno`, `Eval` and `Img` kept or not, or Kaggle's; attributes become 0 and 1."""
    images = _find(root, "img_align_celeba")
    images += "/img_align_celeba" if (root / images / "img_align_celeba").is_dir() else ""  # unpacked into itself
    file = annotations or root / _find(root, "list_attr_celeba.txt", "list_attr_celeba.csv")
    reading = Reading(attribute_table(file, f"{images}/"), ImageFolder(root), file=file)
    if partition := _found(root, "list_eval_partition.txt", "list_eval_partition.csv"):
        reading.table["split"] = reading.table.path.str.removeprefix(f"{images}/").map(_celeba_splits(root / partition))
    else:
        reading.notes = ["no list_eval_partition.txt: the faces have no split"]
    return reading


def _celeba_splits(file: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for line, text in enumerate(read_text(file).split("\n"), 1):
        cells = text.replace(",", " ").split()
        if not cells or (line == 1 and cells == ["image_id", "partition"]):
            continue
        if len(cells) != 2 or cells[1] not in CELEBA_SPLITS or cells[0] in splits:
            raise FacexkitError(f"{file}, line {line}: {' '.join(cells)!r} is no new image and 0, 1 or 2; mend it")
        splits[cells[0]] = CELEBA_SPLITS[cells[1]]
    return splits


@register_format("image_folder")
def read_image_folder(root: Path) -> Reading:
    """`SPLIT/CLASS/*.jpg` with splits as of `SPLITS`, in any case; or `CLASS/*.jpg`. The class is the column `label`."""
    part = f"(?i:{'|'.join(SPLITS)})/"
    patterns = (f"^(?P<split>{part})(?P<label>[^/]+)/", f"^(?!{part})(?P<label>[^/]+)/")
    none = "no image in SPLIT/CLASS/ or CLASS/; for a plain folder take format 'csv'"
    table, notes = _named(root, patterns, "images do not lie in SPLIT/CLASS/ or CLASS/", none)
    if "split" in table:
        table["split"] = table.split.str.lower().str.rstrip("/").map(SPLITS)
    return Reading(table, ImageFolder(root), target="label", notes=notes)


@register_format("fairface")
def read_fairface(root: Path, annotations: Path | None = None) -> Reading:
    """FairFace: `fairface_label_train.csv` and `fairface_label_val.csv` beside `train/` and `val/`."""
    files = [annotations] if annotations else [root / name for name in FAIRFACE_FILES if (root / name).is_file()]
    if not files:
        raise FacexkitError(f"{root} has neither {' nor '.join(FAIRFACE_FILES)}; give the folder that has them as root")
    tables = [label_table(file, "file", needs=("age", "gender", "race")) for file in files]
    notes = [] if annotations or len(files) == 2 else [f"only {files[0].name} is in {root}"]
    table = pd.concat(tables, ignore_index=True)
    table["split"] = table.path.str.split("/").str[0]
    return Reading(table, ImageFolder(root), file=files[0], target="gender", notes=notes)


@register_format("utkface")
def read_utkface(root: Path) -> Reading:
    """UTKFace: `AGE_GENDER_RACE_DATETIME.jpg` or `….jpg.chip.jpg`, in the root or folders below it."""
    none = "no image named AGE_GENDER_RACE_DATETIME.jpg; is it UTKFace's folder?"
    table, notes = _named(root, (UTKFACE_NAME,), "images lack a field in their name", none)
    table["age"] = table.age.astype(int)
    for column, values in UTKFACE_VALUES.items():
        table[column] = table[column].astype(int).map(dict(enumerate(values)))
    return Reading(table, ImageFolder(root), target="gender", notes=notes)


@register_format("lfwa")
def read_lfwa(root: Path, annotations: Path | None = None) -> Reading:
    """LFWA: `NAME/NAME_0001.jpg`, in the root or in `lfw/`, with the attributes of `lfw_att_40.mat` as 0 and 1."""
    file = annotations or root / _find(root, "lfw_att_40.mat")
    damaged = f"{file} is not LFWA's lfw_att_40.mat, which holds name, label and AttrName of matching sizes"
    with told(damaged, kinds=(subprocess.SubprocessError, OSError, TypeError, ValueError)):
        content = _read_mat(regular(file))
        names = [str(name).strip() for name in content["AttrName"]]
        labels = pd.DataFrame(content["label"], columns=names)
        paths = pd.Series([str(name).strip().replace("\\", "/") for name in content["name"]], labels.index)
        values = (-1 if (labels == -1).any(axis=None) else 0, 1)  # as CelebA has them, or LFWA itself
        distinct(["path", *names], file)
        labels = two_valued(labels, values, lambda row: f"{file}, row {row + 1} ({paths[row]})")
    folders = ("lfw", "lfw-deepfunneled", "lfw_funneled")
    below = next((f"{folder}/" for folder in folders if (root / folder).is_dir()), "")
    labels.insert(0, "path", below + paths)
    return Reading(labels, ImageFolder(root), file=file)


def _read_mat(file: Path) -> dict[str, list]:
    """Read LFWA's three arrays in a process of its own, as a damaged file can end the one that scipy reads it in."""
    command = [sys.executable, "-c", READ_MAT, os.path.abspath(file)]
    done = subprocess.run(command, cwd="/", capture_output=True, timeout=300)
    if done.returncode:
        raise OSError(done.stderr.decode("utf-8", "replace").strip().split("\n")[-1] or "it cannot be read at all")
    return json.loads(done.stdout)


def _named(root: Place, patterns: Sequence[str], why: str, none: str) -> tuple[pd.DataFrame, list[str]]:
    """Return the images that the first of the patterns to fit any fits, with what its groups have there, and notes on others."""
    paths, notes = images_in(root)
    tables = (pd.Series(paths, dtype=str).str.extract(pattern) for pattern in patterns)
    table = next((table.dropna() for table in tables if table.notna().all(axis=1).any()), None)
    if table is None:
        raise FacexkitError(f"{root} has {none}")
    table.insert(0, "path", [paths[row] for row in table.index])
    if others := sorted({*paths}.difference(table.path)):
        notes.insert(0, left_out(others, why))
    return table, notes


def _masks_in(folder: Place, key: Callable[[str], str] | None = None) -> Callable[[Sequence[str]], MaskFiles] | None:
    return partial(mask_folder, folder, key=key) if folder.is_dir() else None


def _find(root: Place, *names: str) -> str:
    if found := _found(root, *names):
        return found
    raise FacexkitError(f"no {names[0]} in {root}; give the folder that has it as root, or the file as annotations=")


def _found(root: Place, *names: str) -> str | None:
    places = (folder + name for folder in ("", "Anno/", "Eval/", "Img/") for name in names)
    return next((place for place in places if (root / place).exists()), None)
