"""The formats of face sets that people have on their disks, each a small function over a few that read tables and names."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from facexkit.errors import FacexkitError
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.images import ImageFolder, regular
from facexkit.faces.label_files import attribute_table, distinct, label_table, read_text
from facexkit.faces.listing import images_in
from facexkit.faces.masks import mask_folder
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
    """Any folder of images with a table of labels; masks in `ROOT-mask-anno` if that folder is there."""
    table = attribute_table(annotations) if annotations.suffix == ".txt" else label_table(annotations, image_column, sep)
    beside = root.resolve().parent / f"{root.resolve().name}-mask-anno"
    return _with_masks(Reading(table, ImageFolder(root), file=annotations), beside)


@register_format("photos")
def read_photos(root: Path, annotations: Path | None = None) -> Reading:
    """All images below a folder; without a table of labels they have none."""
    if annotations:
        return read_csv(root, annotations)
    notes: list[str] = []
    return Reading(pd.DataFrame({"path": images_in(root, notes=notes)}), ImageFolder(root), notes=notes)


@register_format("celebamask_hq")
def read_celebamask_hq(root: Path, annotations: Path | None = None) -> Reading:
    """CelebAMask-HQ as published, or `images/` and `masks/` with a CSV of labels beside them."""
    if (root / "CelebA-HQ-img").is_dir():
        file = annotations or _find(root, "CelebAMask-HQ-attribute-anno.txt")
        reading = Reading(attribute_table(file, "CelebA-HQ-img/"), ImageFolder(root), file=file)
        return _with_masks(reading, root / "CelebAMask-HQ-mask-anno", lambda path: PurePosixPath(path).stem.zfill(5))
    if not (root / "images").is_dir():
        raise FacexkitError(f"{root} has neither CelebA-HQ-img/ nor images/; give the folder above them as root")
    files, notes = [annotations] if annotations else sorted(root.glob("*.csv")), []
    if len(files) > 1:
        raise FacexkitError(f"{root} has {len(files)} CSV files; choose one: annotations={files[0].name!r}")
    if files:
        table = label_table(files[0])
        table["path"] = "images/" + table.path
    else:
        table = pd.DataFrame({"path": images_in(root, "images", notes)})
        notes.insert(0, f"no CSV of labels in {root}: the faces have none")
    reading = Reading(table, ImageFolder(root), file=files[0] if files else None, notes=notes)
    return _with_masks(reading, root / "masks")


@register_format("celeba")
def read_celeba(root: Path, annotations: Path | None = None) -> Reading:
    """CelebA as published, its folders `Anno`, `Eval` and `Img` kept or not, or Kaggle's; attributes become 0 and 1."""
    folder = _find(root, "img_align_celeba")
    folder = folder / folder.name if (folder / folder.name).is_dir() else folder  # unpacked into itself
    images = folder.relative_to(root).as_posix()
    file = annotations or _find(root, "list_attr_celeba.txt", "list_attr_celeba.csv")
    reading = Reading(attribute_table(file, f"{images}/"), ImageFolder(root), file=file)
    try:
        partition = _find(root, "list_eval_partition.txt", "list_eval_partition.csv")
    except FacexkitError:
        reading.notes = ["no list_eval_partition.txt: the faces have no split"]
        return reading
    reading.table["split"] = reading.table.path.str.removeprefix(f"{images}/").map(_celeba_splits(partition))
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
    notes: list[str] = []
    paths = pd.Series(images_in(root, notes=notes), dtype=str)
    parts = paths.str.split("/").str[0].str.lower().isin(SPLITS)
    split = f"(?P<split>(?i:{'|'.join(SPLITS)}))/" if parts.any() else ""
    table = _named(paths, f"^{split}(?P<label>[^/]+)/", notes, "images do not lie in SPLIT/CLASS/ or CLASS/")
    if not len(table):
        raise FacexkitError(f"{root} has no image in SPLIT/CLASS/ or CLASS/; for a plain folder take format 'csv'")
    if split:
        table["split"] = table.split.str.lower().map(SPLITS)
    return Reading(table, ImageFolder(root), target="label", notes=notes)


@register_format("fairface")
def read_fairface(root: Path, annotations: Path | None = None) -> Reading:
    """FairFace: `fairface_label_train.csv` and `fairface_label_val.csv` beside `train/` and `val/`."""
    files = [annotations] if annotations else [root / name for name in FAIRFACE_FILES if (root / name).is_file()]
    if not files:
        raise FacexkitError(f"{root} has neither {' nor '.join(FAIRFACE_FILES)}; give the folder that has them as root")
    tables = []
    for file in files:
        table = label_table(file, "file")
        for column in ("age", "gender", "race"):
            if column not in table:
                raise FacexkitError(f"{file} has no column {column!r}; FairFace has file, age, gender, race")
        tables.append(table.assign(split=table.path.str.split("/").str[0]))
    notes = [] if annotations or len(files) == 2 else [f"only {files[0].name} is in {root}"]
    return Reading(pd.concat(tables, ignore_index=True), ImageFolder(root), file=files[0], target="gender", notes=notes)


@register_format("utkface")
def read_utkface(root: Path) -> Reading:
    """UTKFace: `AGE_GENDER_RACE_DATETIME.jpg` or `….jpg.chip.jpg`, in the root or folders below it."""
    notes: list[str] = []
    paths = pd.Series(images_in(root, notes=notes), dtype=str)
    table = _named(paths, UTKFACE_NAME, notes, "images lack a field in their name").astype({"age": int})
    if not len(table):
        raise FacexkitError(f"{root} has no image named AGE_GENDER_RACE_DATETIME.jpg; is it UTKFace's folder?")
    for column, values in UTKFACE_VALUES.items():
        table[column] = [values[int(value)] for value in table[column]]
    return Reading(table, ImageFolder(root), target="gender", notes=notes)


@register_format("lfwa")
def read_lfwa(root: Path, annotations: Path | None = None) -> Reading:
    """LFWA: `NAME/NAME_0001.jpg`, in the root or in `lfw/`, with the attributes of `lfw_att_40.mat` as 0 and 1."""
    file = annotations or _find(root, "lfw_att_40.mat")
    try:
        content = _read_mat(regular(file))
        names = [str(name).strip() for name in content["AttrName"]]
        paths = [str(name).strip().replace("\\", "/") for name in content["name"]]
        labels = pd.DataFrame(content["label"], columns=names, index=paths)
        signs = labels.isin([-1, 1]).to_numpy().all()  # as CelebA has them
        wrong = ~labels.isin([-1, 1] if signs else [0, 1]).to_numpy(bool)
    except (subprocess.SubprocessError, OSError, TypeError, ValueError) as error:
        why = (getattr(error, "stderr", b"") or str(error).encode()).decode("utf-8", "replace").strip().split("\n")[-1]
        raise FacexkitError(
            f"{file} is not LFWA's lfw_att_40.mat, which holds name, label and AttrName of matching sizes: {why}"
        ) from error
    if wrong.any():
        row, column = next(zip(*wrong.nonzero(), strict=True))
        where = f"{file}, row {row + 1} ({paths[row]}), column {names[column]!r}"
        raise FacexkitError(f"{where}: {labels.iat[row, column]} is neither 1 nor 0; give the file of labels")
    distinct(["path", *names], file)
    folders = ("lfw", "lfw-deepfunneled", "lfw_funneled")
    below = next((f"{folder}/" for folder in folders if (root / folder).is_dir()), "")
    table = (labels > 0).astype(int).rename_axis("path").reset_index()
    return Reading(table.assign(path=below + table.path), ImageFolder(root), file=file)


def _read_mat(file: Path) -> dict[str, list]:
    """Read LFWA's three arrays in a process of its own, as a damaged file can end the one that scipy reads it in."""
    command = [sys.executable, "-c", READ_MAT, os.path.abspath(file)]
    return json.loads(subprocess.run(command, cwd="/", capture_output=True, timeout=300, check=True).stdout)


def _named(paths: pd.Series, pattern: str, notes: list[str], why: str) -> pd.DataFrame:
    """Return the paths that a pattern fits and what its groups have there; the first of the notes tells of others."""
    table = paths.str.extract(pattern)
    fits = table.notna().all(axis=1)
    if not fits.all():
        notes.insert(0, left_out(paths[~fits], why))
    table.insert(0, "path", paths)
    return table[fits]


def _with_masks(reading: Reading, folder: Path, key: Callable[[str], str] | None = None) -> Reading:
    if folder.is_dir():
        reading.masks = partial(mask_folder, folder, key=key)
    return reading


def _find(root: Path, *names: str) -> Path:
    for folder in ("", "Anno", "Eval", "Img"):
        for name in names:
            if (root / folder / name).exists():
                return root / folder / name
    raise FacexkitError(f"no {names[0]} in {root}; give the folder that has it as root, or the file as annotations=")
