"""The formats of face sets that people have on their disks, each a small function."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from facexkit.errors import FacexkitError, listed
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.images import IMAGE_SUFFIXES, ImageFolder, regular
from facexkit.faces.label_files import attribute_table, distinct, label_table, read_text
from facexkit.faces.masks import mask_folder

SPLITS = ("train", "val", "valid", "validation", "test")
CELEBA_SPLITS = {"0": "train", "1": "val", "2": "test"}
UTKFACE_NAME = r"(?i)^(?:.*/)?(?P<age>\d{1,3})_(?P<gender>[01])_(?P<race>[0-4])_\d+\.jpe?g(?:\.chip\.jpe?g)?\Z"
READ_MAT = """
import json, sys
from scipy.io import loadmat
names = ("name", "label", "AttrName")
content = loadmat(sys.argv[1], simplify_cells=True, variable_names=names)
print(json.dumps({name: content[name].tolist() for name in names}))
"""
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")


@register_format("csv")
def read_csv(root: Path, annotations: Path, *, image_column: str | None = None, sep: str | None = None) -> Reading:
    """Any folder of images with a table of labels; masks in `ROOT-mask-anno` if that folder is there."""
    listed = annotations.suffix == ".txt"
    table = attribute_table(annotations) if listed else label_table(annotations, image_column, sep)
    beside = root.resolve().parent / f"{root.resolve().name}-mask-anno"
    return _with_masks(Reading(table, ImageFolder(root), file=annotations), beside)


@register_format("celebamask_hq")
def read_celebamask_hq(root: Path, annotations: Path | None = None) -> Reading:
    """CelebAMask-HQ as published, or `images/` and `masks/` with a CSV of labels beside them."""
    if (root / "CelebA-HQ-img").is_dir():
        file = annotations or _find(root, "CelebAMask-HQ-attribute-anno.txt")
        table = attribute_table(file, "CelebA-HQ-img/")
        reading = Reading(table, ImageFolder(root), file=file)
        return _with_masks(reading, root / "CelebAMask-HQ-mask-anno", lambda path: PurePosixPath(path).stem.zfill(5))
    if not (root / "images").is_dir():
        raise FacexkitError(f"{root} has neither CelebA-HQ-img/ nor images/; give the folder above them as root")
    files = [annotations] if annotations else sorted(root.glob("*.csv"))
    if len(files) > 1:
        raise FacexkitError(f"{root} has {len(files)} CSV files; choose one: annotations={files[0].name!r}")
    notes: list[str] = []
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
    """CelebA as published, its folders `Anno`, `Eval` and `Img` kept or not; attributes become 0 and 1."""
    images = _find(root, "img_align_celeba").relative_to(root).as_posix()
    file = annotations or _find(root, "list_attr_celeba.txt")
    reading = Reading(attribute_table(file, f"{images}/"), ImageFolder(root), file=file)
    try:
        partition = _find(root, "list_eval_partition.txt")
    except FacexkitError:
        reading.notes = ["no list_eval_partition.txt: the faces have no split"]
        return reading
    splits = _celeba_splits(partition)
    reading.table["split"] = reading.table.path.str.removeprefix(f"{images}/").map(splits)
    return reading


def _celeba_splits(file: Path) -> dict[str, str]:
    splits: dict[str, str] = {}
    for line, cells in enumerate(map(str.split, read_text(file).split("\n")), 1):
        if cells and (len(cells) != 2 or cells[1] not in CELEBA_SPLITS or cells[0] in splits):
            raise FacexkitError(f"{file}, line {line}: {' '.join(cells)!r} is no new image and 0, 1 or 2; mend it")
        splits |= {cells[0]: CELEBA_SPLITS[cells[1]]} if cells else {}
    return splits


@register_format("image_folder")
def read_image_folder(root: Path) -> Reading:
    """`SPLIT/CLASS/*.jpg` with splits named train, val or test; or `CLASS/*.jpg`. The class is the column `label`."""
    notes: list[str] = []
    paths = pd.Series(images_in(root, notes=notes), dtype=str)
    splits = f"(?P<split>{'|'.join(SPLITS)})/" if paths.str.split("/").str[0].isin(SPLITS).any() else ""
    table = _named(paths, f"^{splits}(?P<label>[^/]+)/", notes, "images do not lie in SPLIT/CLASS/ or CLASS/")
    if not len(table):
        raise FacexkitError(f"{root} has no image in SPLIT/CLASS/ or CLASS/; for a plain folder take format 'csv'")
    return Reading(table, ImageFolder(root), target="label", notes=notes)


@register_format("fairface")
def read_fairface(root: Path, annotations: Path | None = None) -> Reading:
    """FairFace: `fairface_label_train.csv` and `fairface_label_val.csv` beside `train/` and `val/`."""
    names = ("fairface_label_train.csv", "fairface_label_val.csv")
    files = [annotations] if annotations else [root / name for name in names if (root / name).is_file()]
    if not files:
        raise FacexkitError(f"{root} has neither {names[0]} nor {names[1]}; give the folder that has them as root")
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
    said = {"gender": ("male", "female"), "race": UTKFACE_RACES}
    table = table.assign(**{column: [names[int(value)] for value in table[column]] for column, names in said.items()})
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
        wrong = ~labels.isin([0, 1]).to_numpy(bool)
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
    table = labels.astype(int).rename_axis("path").reset_index()
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


def _find(root: Path, name: str) -> Path:
    for folder in ("", "Anno", "Eval", "Img"):
        if (root / folder / name).exists():
            return root / folder / name
    raise FacexkitError(f"no {name} in {root}; give the folder that has it as root, or the file as annotations=")


def images_in(root: Path, folder: str = "", notes: list[str] | None = None) -> list[str]:
    """Return the image files below a folder, sorted, hidden ones left out; `notes` gets a sentence on all else."""
    found, other, links, odd = [], [], [], []
    for place, folders, names in os.walk(root / folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(root).as_posix() + "/"
        below = "" if below == "./" else below
        links += [_in_words(below + name) for name in folders if os.path.islink(os.path.join(place, name))]
        for name in names:
            if not name.startswith("."):
                path, image = _in_words(below + name), name.lower().endswith(IMAGE_SUFFIXES)
                (other if not image else found if path == below + name else odd).append(path)
    if notes is not None:
        whys = {f"files are no images ({' '.join(IMAGE_SUFFIXES)})": other, "folders are links": links}
        whys["images have a name that is no text in UTF-8"] = odd
        notes += [left_out(sorted(paths), why) for why, paths in whys.items() if paths]
    return sorted(found)


def _in_words(path: str) -> str:
    """Return a path with the bytes that are no text in UTF-8 written out."""
    return path.encode("utf-8", "backslashreplace").decode()


def left_out(paths: Sequence[str], why: str) -> str:
    """Return the sentence on what is left out: how many, why, and the first of them."""
    return f"{len(paths)} {why} and are left out: {listed([*paths], 10)}"
