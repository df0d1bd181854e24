"""Results on disk: labelled arrays as zarr, tables as CSV and Parquet, each there whole or not at all."""

from __future__ import annotations

import io
import os
import re
import warnings
from collections.abc import Iterable, Mapping
from contextlib import AbstractContextManager
from pathlib import Path

import pandas as pd
import xarray as xr
import zarr

from facexkit.errors import FacexkitError, told
from facexkit.faces.cache import side_folder, write_whole, writing
from facexkit.faces.spreadsheet import write_csv


def save_result(result: xr.Dataset, path: str | Path) -> Path:
    """Write a result as a zarr folder, in the place of an earlier one, and return its path."""
    path = Path(path)
    if path.exists() and not path.suffix == ".zarr":
        raise FacexkitError(f"{path} is there and is no .zarr folder; name another place for the result")
    result = _with_objects(result)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        with side_folder(path) as side, warnings.catch_warnings():
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            result.to_zarr(str(Path(side, "new")), mode="w", **_with_sums(result))
            if path.exists():
                os.replace(path, Path(side, "old"))
            os.replace(Path(side, "new"), path)
    return path


def read_result(path: str | Path) -> xr.Dataset:
    """Read what `save_result` wrote, whole; a file of it that is damaged or gone is an error."""
    with _whole(path), xr.open_zarr(str(path)) as stored:
        for name, array in zarr.open_group(str(path), mode="r").arrays():
            summed = any(getattr(each, "checksum", False) for each in getattr(array, "compressors", ()))
            gone = array.nchunks - array.nchunks_initialized if summed else 0
            if gone:
                raise ValueError(f"of {name} {gone} of {array.nchunks} chunks are gone")
        return _with_objects(stored.load())


def _with_sums(result: xr.Dataset) -> dict[str, object]:
    """Return how zarr 3 writes every chunk, with a checksum, so that none goes missing or wrong without a word."""
    if int(zarr.__version__.split(".")[0]) < 3:
        return {}
    sums = {"compressors": [zarr.codecs.ZstdCodec(level=3, checksum=True)]}
    return {"encoding": {name: sums for name in result.variables}, "write_empty_chunks": True}


def _whole(path: str | Path) -> AbstractContextManager[None]:
    return told(f"{path} holds no result, or a damaged one", "make it again")


def _with_objects(result: xr.Dataset) -> xr.Dataset:
    """Return the result with its texts as objects, which any zarr stores."""
    texts = {name: (v.dims, v.to_numpy().astype(object)) for name, v in result.variables.items() if v.dtype.kind in "UT"}
    return result.assign_coords({name: texts.pop(name) for name in [*texts] if name in result.coords}).assign(texts)


def write_scores(scores: xr.Dataset, folder: str | Path) -> list[Path]:
    """Write region scores into a folder, a result a class, each in the place of that of the same model, method and class."""
    made_by = [str(scores.attrs[what]) for what in ("model", "method")]
    names = [re.sub(r"[^\w-]+", "_", "_".join([*made_by, name])) for name in scores.class_name.values]
    classes = (scores.isel(target_class=[place]) for place in range(len(names)))
    return [save_result(one, Path(folder, f"{name}.zarr")) for one, name in zip(classes, names, strict=True)]


def find_result(
    folders: Iterable[Path], made_by: Mapping[str, object], name: str = "*.zarr", target_class: int | None = None
) -> xr.Dataset | None:
    """Return the first result of that name, of that class alone, that was made by just this, None if none was."""
    for path in (path for folder in folders for path in sorted(folder.glob(name))):
        with _whole(path):
            stored = zarr.open_group(str(path), mode="r")
            fits = made_by.items() <= stored.attrs.asdict().items()
            if fits and target_class is not None:
                fits = "target_class" in stored and target_class in stored["target_class"][:]
        if fits:
            found = read_result(path)
            return found if target_class is None else found.sel(target_class=[target_class])
    return None


def write_table(table: pd.DataFrame, stem: str | Path) -> list[Path]:
    """Write a table as `STEM.csv`, see `write_csv`, and `STEM.parquet`, and return their paths."""
    table.to_parquet(buffer := io.BytesIO(), index=False)
    write_whole(Path(f"{stem}.parquet"), buffer.getvalue())
    return [write_csv(table, f"{stem}.csv"), Path(f"{stem}.parquet")]
