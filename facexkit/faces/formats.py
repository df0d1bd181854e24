"""Face sets by format name: a registry of readers, and the checks that every set goes through."""

from __future__ import annotations

import inspect
import os
import posixpath
import unicodedata
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from numbers import Integral
from pathlib import Path

import pandas as pd

from facexkit.arguments import check_argument, kind_of
from facexkit.errors import FacexkitError, check_known, listed
from facexkit.faces.faceset import MOST_VALUES, FaceSet, ImageSource, MaskSource
from facexkit.faces.images import ImageFolder
from facexkit.faces.label_files import distinct
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
    "format", "facexkit.formats", "facexkit.drawn.synthetic", "facexkit.faces.readers",
    "facexkit.faces.face_dictionary", "facexkit.faces.pairs",
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
    protected = (protected,) if isinstance(protected, str) else tuple(protected)
    read = FORMATS.find(format, "Add your own with fx.register_format.")
    if limit is not None and (isinstance(limit, bool) or not isinstance(limit, Integral) or limit < 1):
        raise FacexkitError(f"limit is {limit!r}; it is a number of faces from 1 on, or None for all")
    given = {"root": root, "annotations": annotations, **options}
    given = {name: value for name, value in given.items() if value is not None}
    reading = read(**_arguments(format, read, given, target))
    table, notes = _check_table(reading, limit)
    source, more = _choose_masks(masks, reading, table, [*protected, *([target] if target else [])])
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
    check_known(f"option of format {format!r}", () if free else given, parameters)
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise FacexkitError(f"format {format!r} needs {name}=…")
    given = dict(given) | ({"target": target} if target and "target" in parameters else {})
    for name in given.keys() & {"root", "annotations"}:
        given[name] = _place(name, given[name])
    root = given.get("root", Path())
    if not os.path.isdir(root):
        raise FacexkitError(f"root {root} is no folder; give the folder that the images' paths are relative to")
    if file := given.get("annotations"):
        given["annotations"] = file = file if os.path.isfile(file) else root / file
        if not os.path.isfile(file):
            raise FacexkitError(f"there is no annotation file {file}; check annotations=")
    for name in given.keys() & parameters.keys() - {"root", "annotations"}:
        given[name] = check_argument(f"format {format!r}", name, kind_of(parameters[name]), given[name])
    return given


def _place(name: str, place: object) -> Path:
    if not isinstance(place, (str, os.PathLike)):
        raise FacexkitError(f"{name} is a {type(place).__name__}; give the path as text or as a Path")
    return Path(os.path.expanduser(place))


def _check_table(reading: Reading, limit: int | None) -> tuple[pd.DataFrame, list[str]]:
    """Check the paths of a reading; return the rows that are taken, and notes on what was changed or is lacking."""
    place = reading.file or getattr(reading.images, "root", "the format")
    distinct([*reading.table.columns], place)
    table, notes = reading.table.reset_index(drop=True), []
    if not len(table):
        raise FacexkitError(f"{place} lists no image")
    for column in reading.image_columns:
        if (empty := table[column].isna() | (table[column] == "")).any():
            rows = _rows(table[column][empty])
            raise FacexkitError(f"{place}: {rows} without an image; name one or take the row out")
        table[column] = table[column].astype(str).map(posixpath.normpath)
        if isinstance(reading.images, ImageFolder):
            table[column] = _as_they_lie(table[column], reading.images.root)
    for column in table.columns.drop([*reading.image_columns]):
        table[column], more = _clean(table[column], table.path)
        notes += more
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


def _clean(labels: pd.Series, paths: pd.Series) -> tuple[pd.Series, list[str]]:
    """Take the blanks off a column of text; tell how many had some, and which values look alike but for case."""
    texts = labels[labels.map(lambda label: isinstance(label, str))]
    if not len(texts):
        return labels, []
    notes, plain = [], texts.str.strip()
    if (padded := plain != texts).any():
        notes.append(f"column {labels.name!r}: {padded.sum()} values had blanks around them, which are taken off: "
                     f"{_rows(paths[padded.index[padded]])}")  # fmt: skip
        labels = labels.astype(object).where(~labels.index.isin(plain.index), plain).infer_objects()
    counts = plain.value_counts()
    folded = counts.index.to_series().map(_looks)
    if len(alike := counts[folded.duplicated(keep=False).to_numpy()].sort_index()):
        values = [f"{value} ({n})" for value, n in alike.items()]
        same = "has values that look alike but for case and are kept apart"
        notes.append(f"column {labels.name!r} {same}: {listed(values)}")
    return labels, notes


def _looks(label: str) -> str:
    """Return a label as it looks: composed letters, single blanks, no case, nothing that cannot be seen."""
    seen = "".join(letter for letter in unicodedata.normalize("NFC", label) if unicodedata.category(letter) != "Cf")
    return " ".join(seen.casefold().split())


def _as_they_lie(paths: pd.Series, root: Path) -> pd.Series:
    """Take the blanks off the paths that are no file with them."""
    padded = paths[paths != paths.str.strip()]
    lie = [path if os.path.lexists(root / path) else path.strip() for path in padded]
    return paths.where(~paths.index.isin(padded.index), pd.Series(lie, padded.index, dtype=object))


def _check_files(paths: pd.Series, root: Path, place: object) -> None:
    """Check that every path is a file that really lies under the root; lists folders, asking for each file is slow."""
    real, asked, here, away, odd = os.path.realpath(root), {*paths}, set(), set(), set()
    for folder in paths.map(posixpath.dirname).unique():
        try:
            entries = list(os.scandir(root / folder))
        except (OSError, ValueError):
            continue
        moved = not is_below(os.path.realpath(root / folder), real)
        names = {posixpath.join(folder, entry.name): entry for entry in entries}
        names = {name: entry for name, entry in names.items() if name in asked}  # others may be no text
        here |= names.keys()
        away |= {name for name, entry in names.items() if moved or entry.is_symlink()}
        odd |= {name for name, entry in names.items() if not entry.is_file()}
    lacking = ~paths.isin(here)
    if lacking.any():
        raise FacexkitError(
            f"{place}: {int(lacking.sum())} of {len(paths)} images are not under {root}: {_rows(paths[lacking])}; "
            "put them there, or take their rows out"
        )
    linked = paths[paths.isin(away)]
    outside = linked[[not is_below(os.path.realpath(root / path), real) for path in linked]]
    if len(outside):
        raise FacexkitError(f"{place}: links that leave {root}: {_rows(outside)}; copy the files, or take a root above")
    if len(unread := paths[paths.isin(odd)]):
        raise FacexkitError(f"{place}: {_rows(unread)}: no file but a folder, pipe or device; take the row out")


def is_below(path: str, real_root: str) -> bool:
    """Return whether a resolved path is that of a resolved folder or lies below it."""
    return path == real_root or path.startswith(real_root.rstrip(os.sep) + os.sep)


def _rows(paths: pd.Series) -> str:
    """Name the first rows, counted from 1, with their images."""
    listed = ", ".join(f"row {row + 1} ({path})" for row, path in paths.iloc[:5].items())
    return listed + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def _choose_masks(
    masks: object, reading: Reading, table: pd.DataFrame, columns: Sequence[str]
) -> tuple[MaskSource | None, list[str]]:
    """Return the masks that are asked for, and notes on the images without one, and whom these show by `columns`."""
    paths, notes = table.path.tolist(), []
    landmarks = isinstance(masks, str) and masks == "landmarks"
    if masks is None:
        source = reading.masks(paths) if callable(reading.masks) else reading.masks
    elif landmarks or hasattr(masks, "parse"):
        parser = LandmarkParser() if landmarks else masks
        source, notes = parsed_masks(parser, reading.images, paths)
    elif isinstance(masks, (str, Path)):
        source = mask_folder(_place("masks", masks), paths)
    elif hasattr(masks, "read") and hasattr(masks, "names"):
        source = masks
    else:
        raise FacexkitError(f"masks is a {type(masks).__name__}; give a folder, 'landmarks' or a face parser")
    if not isinstance(source, MaskFiles):
        return source, notes
    notes = [*notes, *source.notes]
    if not notes and (lacking := source.missing(paths)):
        notes.append(f"{len(lacking)} of {len(paths)} images have no mask in {source.folder}: {listed(lacking)}")
    source.images = reading.images if isinstance(reading.images, ImageFolder) else None
    if empty := source.take_out_empty(paths):
        share = f"{len(empty)} of {len(paths)}"
        notes.append(f"{share} images have a mask of background alone, taken for none: {listed(empty)}")
    without = table.path.isin(source.missing(paths))
    for column in columns if without.any() else ():
        if column in table and table[column].nunique() <= MOST_VALUES:
            groups = without.groupby(table[column]).agg(["sum", "size"])
            whom = ", ".join(f"{group} {hit} of {size}" for group, hit, size in groups.itertuples())
            notes.append(f"images without a mask by {column}: {whom}")
    return source, notes
