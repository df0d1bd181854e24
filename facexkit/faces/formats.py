"""Face sets by format name: a registry of readers, and the checks that every set goes through."""

from __future__ import annotations

import inspect
import posixpath
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import pandas as pd

from facexkit.arguments import PASSED, check_argument, checked, kind_of
from facexkit.errors import FacexkitError, check_known
from facexkit.faces.address import Address, is_file, is_folder, place_at
from facexkit.faces.faceset import FaceSet, ImageSource, MaskSource
from facexkit.faces.images import ImageFolder
from facexkit.faces.label_files import clean, distinct
from facexkit.faces.listing import place_files
from facexkit.faces.masks import SCATTERED, MaskFiles, compared, mask_folder, order_of, scatter
from facexkit.faces.notes import by_group, refuse, rows_named
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
    "facexkit.faces.face_dictionary", "facexkit.faces.pairs", "facexkit.faces.parquet",
)  # fmt: skip

MaskMaker = Callable[..., tuple[MaskSource, Sequence[str]]]
MASKS: Registry[MaskMaker] = Registry("kind of masks", "facexkit.masks", "facexkit.measure.made_masks")
"""What `masks="NAME"` or `masks="NAME:REST"` asks for → a function of REST, the faces and the options of a pass, which
returns the masks and notes; "parser" takes a face parser for REST."""

FINDERS: Registry[Callable[..., FaceSet]] = Registry("choice of found faces", "facexkit.finders", "facexkit.measure.photographs")
"""What `find` asks for → a function of the photographs, `margin` and the options of a pass, which returns their faces."""


def register_format(name: str) -> Callable[[Reader], Reader]:
    """Make a function the reader of the format `name`, by decoration.

    The function takes what it needs of `root` and `annotations` (both `Path`), and keyword options, and returns a
    `Reading`. It may also take `target`. A parameter without a default must be given to `load_faces`.
    """

    return FORMATS.register(name)


@checked
def load_faces(
    format: str,
    root: str | Path | None = None,
    annotations: str | Path | None = None,
    masks: str | Path | MaskSource | object | None = None,
    target: str | None = None,
    protected: str | Sequence[str] = (),
    limit: int | None = None,
    find: bool | str | None = None,
    margin: float | None = None,
    mask_classes: str | Sequence[str] | None = None,
    **options: object,
) -> FaceSet:
    """Read a face set.

    Parameters
    ----------
    format : synthetic, celebamask_hq, celeba, csv, photos, image_folder, fairface, utkface, lfwa, face_dictionary,
        pairs, rfw, bfw, parquet, or a registered one.
    root : folder that the images' paths are relative to; this, annotations and masks may lie at any address that fsspec
        knows, such as s3://bucket/faces.
    annotations : file of labels, where the format's own place for it is not meant; relative to here or to `root`.
    masks : None for the format's own, else those in `ROOT-mask-anno` if that folder is there; a folder, "landmarks",
        `NAME:REST` of a registered kind, or an `fx.FaceParser`.
    target : the label that a model predicts.
    protected : the columns by which groups are compared.
    limit : take only the first so many rows.
    find : for photographs that are no aligned faces: True or "largest" takes the largest face of each, "all" every one.
    margin : None for found faces that are aligned (eyes and mouth in one place); a number for squares around them
        with so much room on each side, as a share of the face.
    mask_classes : the order of the values in index PNGs: "celebamask" (the kit's), "face_parsing", or the names.
    options : further options of the format; and of the pass that finds faces or makes masks, see `PassOptions`.

    Raises
    ------
    FacexkitError
        with the file and the row, for input that is missing, contradictory or outside `root`.
    """
    read = FORMATS.find(format, "Add your own with fx.register_format.")
    how = {name: options.pop(name) for name in PASSED if name in options}
    find = {True: "largest", "yes": "largest", False: None, "no": None}.get(find, find)
    given = {"root": root, "annotations": annotations, **options}
    given = {name: value for name, value in given.items() if value is not None}
    reading = read(**_arguments(format, read, {**given}, target))
    table, notes = _check_table(reading, limit)
    asked = {"find": find, "margin": margin, "mask_classes": mask_classes, "limit": limit}
    faces = FaceSet(
        table, reading.images, name=f"{format} ({Path(root).name})" if root else format,
        target=target or reading.target, protected=protected, notes=[*reading.notes, *notes],
        source={"format": format, **{name: str(value) for name, value in given.items()}}
        | ({"masks": getattr(masks, "name", str(masks))} if masks is not None else {})
        | {name: value for name, value in asked.items() if value},
    )  # fmt: skip
    return _with_masks(faces, reading, masks, find, margin, mask_classes, how)


def _with_masks(
    faces: FaceSet, reading: Reading, masks: object, find: str | None, margin: float | None, mask_classes: object, how: dict
) -> FaceSet:
    """Find the faces if that is asked, give them their masks, and note whose are missing and whether they are aligned."""
    made = hasattr(masks, "classes") or (isinstance(masks, str) and masks.partition(":")[0] in MASKS)
    if not made:
        faces.masks = _own_masks(masks, reading, faces, order_of(mask_classes))
        faces.notes += compared(faces.masks, faces, mask_classes) if isinstance(faces.masks, MaskFiles) else []
    if find:
        faces = FINDERS.find(find)(faces, margin, **how)
    if made:
        name, _, rest = masks.partition(":") if isinstance(masks, str) else ("parser", "", masks)
        faces.masks, more = MASKS[name](rest, faces, **how)
        faces.notes += more
    if hasattr(faces.masks, "missing"):
        without = faces.table.path.isin(faces.masks.missing(faces.table.path.tolist()))
        faces.notes += by_group(faces, without, "images without a mask")
        if (spread := scatter(faces)) > SCATTERED:
            faces.source["scatter"] = round(spread, 2)
            faces.notes.append(f"eyes and lips lie in different places from face to face (they scatter by {spread:.0%} of the "
                               "way between them): the faces are not aligned; find='largest' finds and aligns them")  # fmt: skip
    return faces


def _arguments(format: str, read: Reader, given: dict[str, object], target: str | None) -> dict[str, object]:
    """Check what is given against the reader's parameters; turn root and annotations into paths that exist."""
    parameters = inspect.signature(read).parameters
    free = any(p.kind is p.VAR_KEYWORD for p in parameters.values())
    check_known(f"option of format {format!r}", () if free else given, parameters)
    for name, parameter in parameters.items():
        if name not in given and parameter.default is parameter.empty and parameter.kind is not parameter.VAR_KEYWORD:
            raise FacexkitError(f"format {format!r} needs {name}=…")
    given |= {"target": target} if target and "target" in parameters else {}
    given |= {name: place_at(given[name]) for name in ("root", "annotations") if name in given}
    root = given.get("root", Path())
    if not is_folder(root):
        raise FacexkitError(f"root {root} is no folder; give the folder that the images' paths are relative to")
    if file := given.get("annotations"):
        given["annotations"] = file = file if isinstance(file, Address) or is_file(file) else root / file
        if not is_file(file):
            raise FacexkitError(f"there is no annotation file {file}; check annotations=")
    for name in given.keys() & parameters.keys() - {"root", "annotations"}:
        given[name] = check_argument(f"format {format!r}", name, kind_of(parameters[name]), given[name])
    return given


def _check_table(reading: Reading, limit: int | None) -> tuple[pd.DataFrame, list[str]]:
    """Check the paths of a reading; return the rows that are taken, and notes on what was changed or is lacking."""
    place = reading.file or getattr(reading.images, "root", "the format")
    distinct([*reading.table.columns], place)
    table, notes = reading.table.reset_index(drop=True), []
    if not len(table):
        raise FacexkitError(f"{place} lists no image")
    for column in reading.image_columns:
        empty = table[column].isna() | (table[column] == "")
        refuse(table[column][empty], f"{place}: rows without an image", "name one or take the row out")
        table[column] = table[column].astype(str).map(posixpath.normpath)
    for column in table.columns.drop([*reading.image_columns]):
        table[column], more = clean(table[column], table.path)
        notes += more
    if table.path.duplicated().any() and (repeated := table.duplicated()).any():
        notes.append(f"{repeated.sum()} rows repeat an earlier one and are left out: {rows_named(table.path[repeated])}")
        table = table[~repeated]
    table = table.iloc[:limit].copy()
    for column in reading.image_columns if isinstance(reading.images, ImageFolder) else ():
        table[column], more = place_files(table[column], reading.images.root, place)
        notes += more
    twice = table[[*reading.image_columns]].duplicated()
    refuse(table.path[twice], f"{place}: images with two rows of different labels", "keep one")
    for column in table.columns[table.isna().any()]:
        lacking = table.path[table[column].isna()]
        notes.append(f"column {column!r} has no value in {len(lacking)} of {len(table)} rows: {rows_named(lacking)}")
    return table, notes


def _own_masks(masks: object, reading: Reading, faces: FaceSet, order: Sequence[str] | None) -> MaskSource | None:
    """Return the masks of the format, of a folder, or of a user's own source."""
    paths = faces.table.path.tolist()
    images = reading.images if isinstance(reading.images, ImageFolder) else None
    if masks is None and reading.masks is None and images:
        root = images.root.resolve()
        beside = root.parent / f"{root.name}-mask-anno"
        reading.masks = partial(mask_folder, beside) if is_folder(beside) else None
    if masks is None:
        source = reading.masks(paths) if callable(reading.masks) else reading.masks
    elif isinstance(masks, (str, Path)):
        source = mask_folder(place_at(masks), paths)
    elif hasattr(masks, "read") and hasattr(masks, "names"):
        source = masks
    else:
        raise FacexkitError(f"masks is a {type(masks).__name__}; give a folder, 'landmarks' or a face parser")
    if isinstance(source, MaskFiles):
        source.images, source.order = images, order or source.order
    return source
