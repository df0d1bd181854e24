"""Face sets by format name: a registry of readers, and the checks that every set goes through."""

from __future__ import annotations

import inspect
import os
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import pandas as pd

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.faceset import FaceSet, ImageSource, MaskSource
from facexkit.faces.images import ImageFolder
from facexkit.faces.landmarks import LandmarkParser
from facexkit.faces.masks import MaskFiles, Parser, mask_folder, parsed_masks
from facexkit.registry import Registry


@dataclass
class Reading:
    """What a format's reader returns.

    Attributes
    ----------
    table : one row an image: `path`, relative to the root, and label, group and `split` columns.
    images : source of pixels.
    masks : source of the format's own masks, or a function that makes it of the paths that are taken.
    target : the column that a model predicts, if the format has one of its own.
    file : the annotation file, named in errors.
    notes : sentences on what the reader met and did not take.
    image_columns : the columns that name images; where there are more than `path`, an image may be in several rows.
    """

    table: pd.DataFrame
    images: ImageSource
    masks: MaskSource | Callable[[Sequence[str]], MaskSource] | None = None
    target: str | None = None
    file: Path | None = None
    notes: Sequence[str] = ()
    image_columns: Sequence[str] = ("path",)


Reader = Callable[..., Reading]
FORMATS: Registry[Reader] = Registry(
    "format", "facexkit.formats", "facexkit.drawn.synthetic", "facexkit.faces.readers", "facexkit.faces.face_dictionary",
    "facexkit.faces.pairs",
)  # fmt: skip


def register_format(name: str) -> Callable[[Reader], Reader]:
    """Make a function the reader of the format `name`, by decoration.

    The function takes what it needs of `root` and `annotations` (both `Path`), and keyword options, and returns a
    `Reading`. It may also take `target`. A parameter without a default must be given to `load_faces`.
    """

    return FORMATS.register(name)


def load_faces(
    format: str,
    root: str | Path | None = None,
    annotations: str | Path | None = None,
    masks: str | Path | Parser | MaskSource | None = None,
    target: str | None = None,
    protected: str | Sequence[str] = (),
    limit: int | None = None,
    **options: object,
) -> FaceSet:
    """Read a face set.

    Parameters
    ----------
    format : synthetic, celebamask_hq, celeba, csv, image_folder, fairface, utkface, lfwa, face_dictionary, pairs, or
        a registered one.
    root : folder that the images' paths are relative to.
    annotations : file of labels, where the format's own place for it is not meant; relative to here or to `root`.
    masks : None for the format's own, a folder, "landmarks", or a face parser.
    target : the label that a model predicts.
    protected : the columns by which groups are compared.
    limit : take only the first so many rows.
    options : further options of the format.

    Raises
    ------
    FacexkitError
        with the file and the row, for input that is missing, contradictory or outside `root`.
    """
    read = FORMATS.find(format, "Add your own with fx.register_format.")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Integral) or limit < 1):
        raise FacexkitError(f"limit is {limit!r}; it is a number of faces from 1 on, or None for all")
    given = {"root": root, "annotations": annotations, **options}
    given = {name: value for name, value in given.items() if value is not None}
    reading = read(**_arguments(format, read, given, target))
    table, notes = _check_table(reading, limit)
    source, more = _choose_masks(masks, reading, table.path.tolist())
    protected = (protected,) if isinstance(protected, str) else tuple(protected)
    return FaceSet(
        table,
        reading.images,
        source,
        name=f"{format} ({Path(root).name})" if root else format,
        target=target or reading.target,
        protected=protected,
        notes=[*reading.notes, *notes, *more],
        source={"format": format, **{name: str(value) for name, value in given.items()}}
        | ({"masks": getattr(masks, "name", str(masks))} if masks is not None else {})
        | ({"limit": int(limit)} if limit else {}),
    )


def _arguments(format: str, read: Reader, given: dict[str, object], target: str | None) -> dict[str, object]:
    """Check what is given against the reader's parameters; turn root and annotations into paths that exist."""
    parameters = inspect.signature(read).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    for name in given:
        if name not in parameters and not free:
            raise unknown(f"option of format {format!r}", name, parameters)
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise FacexkitError(f"format {format!r} needs {name}=…")
    given = dict(given) | ({"target": target} if target and "target" in parameters else {})
    if "root" in given:
        given["root"] = root = Path(str(given["root"])).expanduser()
        if not root.is_dir():
            raise FacexkitError(f"root {root} is no folder; give the folder that the images' paths are relative to")
    if "annotations" in given:
        file = Path(str(given["annotations"])).expanduser()
        beside = given.get("root", Path()) / file
        given["annotations"] = file = file if file.is_file() else beside
        if not file.is_file():
            raise FacexkitError(f"there is no annotation file {file}; check annotations=")
    return given


def _check_table(reading: Reading, limit: int | None) -> tuple[pd.DataFrame, list[str]]:
    """Check the paths of a reading; return the rows that are taken, and notes on labels without a value."""
    table, notes = reading.table.reset_index(drop=True), []
    place = reading.file or getattr(reading.images, "root", "the format")
    if not len(table):
        raise FacexkitError(f"{place} lists no image")
    for column in reading.image_columns:
        if (empty := table[column].isna() | (table[column] == "")).any():
            rows = _rows(table[column][empty])
            raise FacexkitError(f"{place}: {rows} without an image; name one or take the row out")
        table[column] = table[column].astype(str).map(posixpath.normpath)
    if table.path.duplicated().any() and (repeated := table.duplicated()).any():
        notes.append(f"{repeated.sum()} rows repeat an earlier one and are left out: {_rows(table.path[repeated])}")
        table = table[~repeated]
    if (twice := table[[*reading.image_columns]].duplicated()).any():
        raise FacexkitError(f"{place}: images with two rows of different labels: {_rows(table.path[twice])}; keep one")
    table = table.iloc[:limit]
    for paths in (table[column] for column in reading.image_columns):
        outside = paths.str.match(r"[/\\]|[A-Za-z]:[/\\]|\.\.(?:[/\\]|$)") | paths.str.contains(r"\\\.\.\\")
        if outside.any():
            raise FacexkitError(f"{place}: paths that leave the root: {_rows(paths[outside])}; write them below it")
        if isinstance(reading.images, ImageFolder):
            _check_files(paths, reading.images.root, place)
    for column in table.columns[table.isna().any()]:
        lacking = table.path[table[column].isna()]
        notes.append(f"column {column!r} has no value in {len(lacking)} of {len(table)} rows: {_rows(lacking)}")
    return table, notes


def _check_files(paths: pd.Series, root: Path, place: object) -> None:
    """Check that every path is there and really lies under the root; lists folders, as asking for each file is slow."""
    real, here, away = os.path.realpath(root), set(), set()
    for folder in paths.map(posixpath.dirname).unique():
        try:
            entries = list(os.scandir(root / folder))
        except OSError:
            continue
        moved = not _is_below(os.path.realpath(root / folder), real)
        names = {f"{folder}/{entry.name}" if folder else entry.name: entry for entry in entries}
        here |= names.keys()
        away |= {name for name, entry in names.items() if moved or entry.is_symlink()}
    lacking = ~paths.isin(here)
    if lacking.any():
        raise FacexkitError(
            f"{place}: {int(lacking.sum())} of {len(paths)} images are not under {root}: {_rows(paths[lacking])}; "
            "put them there, or take their rows out"
        )
    linked = paths[paths.isin(away)]
    outside = linked[[not _is_below(os.path.realpath(root / path), real) for path in linked]]
    if len(outside):
        raise FacexkitError(f"{place}: links that leave {root}: {_rows(outside)}; copy the files, or take a root above")


def _is_below(path: str, real_root: str) -> bool:
    return path == real_root or path.startswith(real_root.rstrip(os.sep) + os.sep)


def _rows(paths: pd.Series) -> str:
    """Name the first rows, counted from 1, with their images."""
    listed = ", ".join(f"row {row + 1} ({path})" for row, path in paths.iloc[:5].items())
    return listed + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _choose_masks(masks: object, reading: Reading, paths: list[str]) -> tuple[MaskSource | None, list[str]]:
    notes: list[str] = []
    if masks is None:
        source = reading.masks(paths) if callable(reading.masks) else reading.masks
    elif masks == "landmarks" or hasattr(masks, "parse"):
        parser = LandmarkParser() if masks == "landmarks" else masks
        return parsed_masks(parser, reading.images, paths)
    elif isinstance(masks, (str, Path)):
        source = mask_folder(Path(masks).expanduser(), paths)
    elif hasattr(masks, "read") and hasattr(masks, "names"):
        source = masks
    else:
        raise FacexkitError(f"masks is a {type(masks).__name__}; give a folder, 'landmarks' or a face parser")
    if isinstance(source, MaskFiles) and (lacking := source.missing(paths)):
        listed = ", ".join(lacking[:5]) + (", …" if len(lacking) > 5 else "")
        notes.append(f"{len(lacking)} of {len(paths)} images have no mask in {source.folder}: {listed}")
    return source, notes
