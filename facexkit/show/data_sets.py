"""Faces with what was found about them, as data sets of two tools that browse pictures: FiftyOne and Spotlight."""

from __future__ import annotations

import base64
import io
import json
import re
import zlib
from collections.abc import Iterable, Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.images import encoded
from facexkit.probe.options import PassOptions
from facexkit.probe.progress import progress_bar
from facexkit.probe.work import check_skipped
from facexkit.show.pictures import veil

SIDE = 512
"""A picture's longer side at most, in pixels."""

_FIELD = "fiftyone.core.fields.{}Field"
_LABEL = _FIELD.format("EmbeddedDocument") + "(fiftyone.core.labels.{})"
KINDS = {"b": "Boolean", "i": "Int", "u": "Int", "f": "Float"}
_RESERVED = {"id", "filepath", "tags", "metadata", "created_at", "last_modified_at", "ground_truth", "prediction"}


def to_fiftyone(
    faces: FaceSet,
    folder: str | Path,
    scores: xr.Dataset | None = None,
    predictions: pd.DataFrame | None = None,
    maps: xr.Dataset | None = None,
) -> Path:
    """Write a face set as a data set of FiftyOne: `fiftyone.Dataset.from_json(path, rel_dir=path.parent)`.

    Parameters
    ----------
    folder : gets samples.json and the faces as images/ROW.jpg, at most 512 pixels a side.
    scores : of `fx.score_regions`; each face's number of each region is a field.
    predictions : of `fx.predict`; a classification with its confidence.
    maps : of `fx.attribution_maps`; a heat map of each class.

    Returns
    -------
    the path of samples.json. A sample has the target as `ground_truth` (Classification), the split as its tag, and the
    other columns of the face set as fields.

    Raises
    ------
    FacexkitError for results that are of other faces.
    """
    folder, table, drawn = Path(folder), _assembled(faces, scores, predictions), _maps_of(maps, faces)
    none = pd.Series(None, table.index, object)
    taken = lambda name: table.pop(name) if name in table else none  # noqa: E731
    splits, target, said, sure = (taken(name) for name in ("split", faces.target, "predicted", "confidence"))
    labels = {"ground_truth": (target, none), "prediction": (said, sure)}
    table.columns = _field_names(table.columns)
    schema = {"filepath": _FIELD.format("String"), "tags": f"{_FIELD.format('List')}({_FIELD.format('String')})"}
    schema |= {name: _FIELD.format(KINDS.get(column.dtype.kind, "String")) for name, column in table.items()}
    schema |= dict.fromkeys(drawn, _LABEL.format("Heatmap"))
    schema |= {name: _LABEL.format("Classification") for name, (values, _) in labels.items() if values.notna().any()}
    samples = []
    for row, image in _decoded(faces):
        picture = f"images/{row:06d}.jpg"
        write_whole(folder / picture, _jpeg(image))
        sample = {"filepath": picture, "tags": [str(splits[row])] if pd.notna(splits[row]) else [], "_media_type": "image"}
        sample |= {name: _plain(value) for name, value in table.loc[row].items()}
        for name, (values, confidence) in labels.items():
            if pd.notna(values[row]):
                sample[name] = {"_cls": "Classification", "tags": [], "label": str(values[row]), "confidence": _plain(confidence[row])}
        for name, of_rows in drawn.items():
            if row in of_rows:
                sample[name] = {"_cls": "Heatmap", "tags": [], "map": _packed(of_rows[row]), "range": [0.0, 1.0]}
        samples.append(sample)
    told = {"name": faces.name, "media_type": "image", "sample_fields": schema, "samples": samples}
    told["info"] = {"made_by": {k: str(v) for k, v in (scores.attrs if scores is not None else {}).items()}}
    write_whole(folder / "samples.json", json.dumps(told).encode())
    return folder / "samples.json"


def to_spotlight(
    faces: FaceSet,
    folder: str | Path,
    scores: xr.Dataset | None = None,
    predictions: pd.DataFrame | None = None,
    maps: xr.Dataset | None = None,
) -> Path:
    """Write a face set as one file that Spotlight shows, pictures included: `renumics.spotlight.show(path)`.

    Parameters and errors as of `to_fiftyone`; a map is the face under a veil that is clear where the map is high.

    Returns
    -------
    the path of faces.parquet, in the form in which the Hugging Face hub stores images; `fx.load_faces("parquet", root=folder)`
    reads it too.
    """
    import pyarrow as pa
    from pyarrow import parquet

    table, drawn = _assembled(faces, scores, predictions), _maps_of(maps, faces)
    columns: dict[str, list] = {name: [] for name in ("image", *drawn)}
    shown = []
    for row, image in _decoded(faces):
        shown.append(row)
        columns["image"].append(_stored(image))
        for name, of_rows in drawn.items():
            columns[name].append(_stored(_veiled(image, of_rows[row])) if row in of_rows else None)
    table = table.loc[shown].rename(columns={name: f"{name} (label)" for name in columns})
    pictures = pa.table({name: pa.array(cells, pa.struct({"bytes": pa.binary(), "path": pa.string()}))
                         for name, cells in columns.items()})  # fmt: skip
    for column in table.columns[table.dtypes == object]:
        table[column] = table[column].map(str, na_action="ignore")
    whole = pa.Table.from_pandas(table, preserve_index=False)
    for name in reversed(pictures.column_names):
        whole = whole.add_column(0, name, pictures.column(name))
    features = {"info": {"features": {name: {"_type": "Image"} for name in columns}}}
    out = io.BytesIO()
    parquet.write_table(whole.replace_schema_metadata({"huggingface": json.dumps(features)}), out)
    write_whole(Path(folder) / "faces.parquet", out.getvalue())
    return Path(folder) / "faces.parquet"


def _assembled(faces: FaceSet, scores: xr.Dataset | None, predictions: pd.DataFrame | None) -> pd.DataFrame:
    """Return the face set's table by row, with each face's prediction and its number of each region and class."""
    table = faces.table.rename(columns={"path": "face"}).rename_axis("row")
    if predictions is not None:
        own = predictions.set_index("path")[["predicted", *(c for c in ("confidence", "correct") if c in predictions)]]
        _same_faces(own.index, faces, "predictions")
        table = table.drop(columns=own.columns.intersection(table.columns)).join(own, on="face")
    for one in [] if scores is None else scores.target_class.values:
        part = scores.sel(target_class=one)
        _same_faces(part.image.values, faces, "scores")
        ending = f"_class_{one}" if scores.sizes["target_class"] > 1 else ""
        names = [f"{scores.attrs['method']}_{region}{ending}" for region in part.region.values]
        table = table.join(pd.DataFrame(part.per_image.transpose("image", "region").values, part.row.values, names))
    return table


def _maps_of(maps: xr.Dataset | None, faces: FaceSet) -> dict[str, dict[int, np.ndarray]]:
    """Return each class's maps by name of their field and row of their face."""
    if maps is None:
        return {}
    _same_faces(maps.image.values, faces, "maps")
    name = lambda one: "map" if maps.sizes["target_class"] == 1 else f"map_class_{one}"  # noqa: E731
    return {name(one): dict(zip(maps.row.values.tolist(), maps.attribution.sel(target_class=one).values, strict=True))
            for one in maps.target_class.values}  # fmt: skip


def _same_faces(paths: Iterable[str], faces: FaceSet, what: str) -> None:
    foreign = set(paths) - set(faces.table.path)
    if foreign:
        raise FacexkitError(
            f"the {what} have {len(foreign)} faces that {faces.name!r} has not, {min(foreign)!r} among them; pass the faces they are of"
        )


def _decoded(faces: FaceSet) -> Iterator[tuple[int, Image.Image]]:
    """Yield each face that can be decoded, by row, at most `SIDE` pixels a side; too many that cannot are an error."""
    skipped = []
    for row, path in enumerate(progress_bar(True, iterable=faces.table.path, desc="pictures")):
        try:
            image = faces.images.read(path)
        except OSError as error:
            skipped.append(f"{path}: {error}")
            continue
        image.thumbnail((SIDE, SIDE))
        yield row, image
    check_skipped(skipped, len(faces), PassOptions.max_skipped)


def _stored(image: Image.Image) -> dict[str, object]:
    return {"bytes": _jpeg(image), "path": None}


def _jpeg(image: Image.Image) -> bytes:
    return encoded(image, "jpeg", quality=92)


def _veiled(image: Image.Image, attribution: np.ndarray) -> Image.Image:
    side = min(image.size)
    return Image.alpha_composite(image.convert("RGBA").resize((side, side)), veil(attribution, side)).convert("RGB")


def _field_names(columns: Iterable[object]) -> list[str]:
    """Return names that FiftyOne takes for fields: no dots, no leading _ or $, none that it has itself, none twice."""
    names: list[str] = []
    for column in columns:
        name = re.sub(r"[.$\0]|^_+", "-", str(column)) or "-"
        while name in names or name in _RESERVED:
            name += "_label"
        names.append(name)
    return names


def _plain(value: object) -> object:
    """Return a cell as JSON has it: None for a missing one, and Python's own number, truth value or text."""
    if pd.isna(value):
        return None
    value = value.item() if isinstance(value, np.generic) else value
    return value if isinstance(value, (bool, int, float, str)) else str(value)


def _packed(values: np.ndarray) -> str:
    """Return an array as FiftyOne writes one in JSON."""
    out = io.BytesIO()
    np.save(out, values.astype(np.float32), allow_pickle=False)
    return base64.b64encode(zlib.compress(out.getvalue())).decode("ascii")
