"""The formats of face sets that people have on their disks, each a small function."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path, PurePosixPath

import pandas as pd

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.formats import Reading, register_format
from facexkit.faces.images import IMAGE_SUFFIXES, ImageFolder
from facexkit.faces.masks import mask_folder

IMAGE_COLUMNS = ("img image file path filename file_name filepath image_path img_path image_id").split()
SPLITS = ("train", "val", "valid", "validation", "test")
UTKFACE_NAME = re.compile(r"(\d{1,3})_([01])_([0-4])_(\d+)\.jpe?g(\.chip\.jpe?g)?", re.IGNORECASE)
UTKFACE_RACES = ("White", "Black", "Asian", "Indian", "Others")


@register_format("csv")
def read_csv(root: Path, annotations: Path, *, image_column: str | None = None, sep: str | None = None) -> Reading:
    """Any folder of images with a table of labels; masks in `ROOT-mask-anno` if that folder is there."""
    text = annotations.suffix == ".txt"
    table = attribute_table(annotations) if text else label_table(annotations, image_column, sep)
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
    reading = Reading(pd.DataFrame({"path": images_in(root, "images")}), ImageFolder(root))
    if files:
        reading.table, reading.file = label_table(files[0]), files[0]
        reading.table["path"] = "images/" + reading.table.path
    else:
        reading.notes = [f"no CSV of labels in {root}: the faces have none"]
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
    places = pd.read_csv(partition, sep=r"\s+", header=None, names=["path", "split"], dtype=str)
    splits = places.split.map({"0": "train", "1": "val", "2": "test"})
    reading.table["split"] = reading.table.path.map(dict(zip(f"{images}/" + places.path, splits, strict=True)))
    return reading


@register_format("image_folder")
def read_image_folder(root: Path) -> Reading:
    """`SPLIT/CLASS/*.jpg` with splits named train, val or test; or `CLASS/*.jpg`. The class is the column `label`."""
    paths = pd.Series(images_in(root), dtype=str)
    parts = paths.str.split("/", expand=True).reindex(columns=range(3))
    if split := parts[0].isin(SPLITS).any():
        parts.insert(0, "split", parts.pop(0))
    table = pd.DataFrame({"path": paths, "label": parts.iloc[:, int(split)]})
    fits = parts.iloc[:, int(split) + 1].notna()
    if split:
        table["split"], fits = parts["split"], fits & parts["split"].isin(SPLITS)
    notes = [_left_out(paths[~fits], "do not lie in SPLIT/CLASS/ or CLASS/")] if not fits.all() else []
    if not fits.any():
        raise FacexkitError(f"{root} has no image in SPLIT/CLASS/ or CLASS/; for a plain folder take format 'csv'")
    return Reading(table[fits], ImageFolder(root), target="label", notes=notes)


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
    paths = pd.Series(images_in(root), dtype=str)
    found = [UTKFACE_NAME.fullmatch(PurePosixPath(path).name) for path in paths]
    fits = pd.Series([match is not None for match in found], dtype=bool)
    if not fits.any():
        raise FacexkitError(f"{root} has no image named AGE_GENDER_RACE_DATETIME.jpg; is it UTKFace's folder?")
    fields = pd.DataFrame([match.groups()[:3] for match in found if match]).astype(int)
    fields.columns = ["age", "gender", "race"]
    table = fields.assign(
        path=paths[fits].to_numpy(),
        gender=fields.gender.map({0: "male", 1: "female"}),
        race=fields.race.map(dict(enumerate(UTKFACE_RACES))),
    )
    notes = [_left_out(paths[~fits], "lack a field in their name")] if not fits.all() else []
    return Reading(table[["path", "age", "gender", "race"]], ImageFolder(root), target="gender", notes=notes)


@register_format("lfwa")
def read_lfwa(root: Path, annotations: Path | None = None) -> Reading:
    """LFWA: `NAME/NAME_0001.jpg`, in the root or in `lfw/`, with the attributes of `lfw_att_40.mat` as 0 and 1."""
    from scipy.io import loadmat

    file = annotations or _find(root, "lfw_att_40.mat")
    try:
        content = loadmat(file, simplify_cells=True)
        names = [str(name).strip() for name in content["AttrName"]]
        paths = [str(name).strip().replace("\\", "/") for name in content["name"]]
        labels = pd.DataFrame(content["label"], columns=names, index=paths).astype(int)
    except Exception as error:  # scipy's reader ends in whatever a damaged file leads it to
        raise FacexkitError(
            f"{file} is not LFWA's lfw_att_40.mat, which holds name, label and AttrName of matching sizes: {error!r}"
        ) from error
    folders = ("lfw", "lfw-deepfunneled", "lfw_funneled")
    below = next((f"{folder}/" for folder in folders if (root / folder).is_dir()), "")
    table = labels.rename_axis("path").reset_index()
    return Reading(table.assign(path=below + table.path), ImageFolder(root), file=file)


def label_table(file: Path, image_column: str | None = None, sep: str | None = None) -> pd.DataFrame:
    """Read a CSV with a header; its image column becomes `path`, the first column.

    Parameters
    ----------
    image_column : by default the first column with a usual name (img, image, file, path, …), else the first.
    sep : by default whichever of comma, semicolon and tab the header has most of.
    """
    table = read_table(file, sep)
    if image_column is not None and image_column not in table:
        raise unknown("image column", image_column, table.columns, f"(columns of {file})")
    usual = [column for column in table if str(column).lower() in IMAGE_COLUMNS]
    column = image_column or [*usual, *table.columns][0]
    images = table.pop(column)
    if len(images) and not images.astype(str).str.lower().str.endswith(IMAGE_SUFFIXES).any():
        raise FacexkitError(
            f"{file}: column {column!r} names no image file (first value {images.iloc[0]!r}); "
            f"call the column that does image (or img, file, path), or say in Python image_column=…, one of "
            f"{', '.join(map(str, [column, *table.columns]))}"
        )
    if "path" in table:
        table = table.rename(columns={"path": "path (label)"})
    table.insert(0, "path", images)
    return table


def read_table(file: Path, sep: str | None = None) -> pd.DataFrame:
    """Read a CSV with a header, separated by `sep` or by whichever of comma, semicolon and tab the header has most of."""
    try:
        with open(file, encoding="utf-8-sig") as lines:
            sep = sep or max(",;\t", key=lines.readline().count)
        return pd.read_csv(file, sep=sep, encoding="utf-8-sig", skipinitialspace=True)
    except (pd.errors.EmptyDataError, pd.errors.ParserError, UnicodeDecodeError) as error:
        raise FacexkitError(f"{file} is no CSV that can be read: {error}; save it as UTF-8 with a header") from error


def attribute_table(file: Path, folder: str = "") -> pd.DataFrame:
    """Read CelebA's attribute list (a count, the names, then image and −1 or 1 for each) as labels 0 and 1."""
    with open(file, encoding="utf-8") as lines:
        count, names = lines.readline().strip(), lines.readline().split()
    if not count.isdigit() or not names:
        raise FacexkitError(f"{file}: in CelebA's lists line 1 is the number of images, line 2 the names")
    try:
        columns = ["path", *names]
        table = pd.read_csv(file, sep=r"\s+", skiprows=2, header=None, names=columns, index_col=False, dtype=str)
    except pd.errors.ParserError as error:
        raise FacexkitError(f"{file}: a line does not have {len(names)} values ({error})") from error
    values = table[names]
    if (wrong := ~values.isin(["-1", "1"])).any(axis=None):
        row, column = next(zip(*wrong.to_numpy().nonzero(), strict=True))
        found = values.iat[row, column]
        what = "has fewer values than line 2 has attributes" if pd.isna(found) else f"has {found!r}, not -1 or 1"
        raise FacexkitError(f"{file}, line {row + 3} ({table.path[row]}), column {names[column]!r}: {what}; mend it")
    if len(table) != int(count):
        raise FacexkitError(f"{file}: line 1 says {count} images, but {len(table)} follow; the file is cut or edited")
    return pd.concat([folder + table.path, (values == "1").astype(int)], axis=1)


def _with_masks(reading: Reading, folder: Path, key: Callable[[str], str] | None = None) -> Reading:
    if folder.is_dir():
        reading.masks = partial(mask_folder, folder, key=key)
    return reading


def _find(root: Path, name: str) -> Path:
    for folder in ("", "Anno", "Eval", "Img"):
        if (root / folder / name).exists():
            return root / folder / name
    raise FacexkitError(f"no {name} in {root}; give the folder that has it as root, or the file as annotations=")


def images_in(root: Path, folder: str = "") -> list[str]:
    """Return the image files below a folder, sorted, hidden ones left out."""
    found = []
    for place, folders, names in os.walk(root / folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(root).as_posix() + "/"
        below = "" if below == "./" else below
        found += [below + n for n in names if n.lower().endswith(IMAGE_SUFFIXES) and not n.startswith(".")]
    return sorted(found)


def _left_out(paths: Iterable[str], why: str) -> str:
    paths = list(paths)
    return f"{len(paths)} images {why} and are left out: {', '.join(paths[:10])}{', …' if len(paths) > 10 else ''}"
