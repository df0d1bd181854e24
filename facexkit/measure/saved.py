"""Results on disk: labelled arrays as zarr, tables as CSV and Parquet, each there whole or not at all."""

from __future__ import annotations

import io
import os
import re
import tempfile
import warnings
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path

import pandas as pd
import xarray as xr
import zarr

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole


def save_result(result: xr.Dataset, path: str | Path) -> Path:
    """Write a result as a zarr folder, in the place of an earlier one, and return its path."""
    path = Path(path)
    if path.exists() and not path.suffix == ".zarr":
        raise FacexkitError(f"{path} is there and is no .zarr folder; name another place for the result")
    path.parent.mkdir(parents=True, exist_ok=True)
    result = _with_objects(result)
    with tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.") as side, warnings.catch_warnings():
        warnings.filterwarnings("ignore", message="Consolidated metadata")
        result.to_zarr(str(Path(side, "new")), mode="w")
        if path.exists():
            os.replace(path, Path(side, "old"))
        os.replace(Path(side, "new"), path)
    return path


def read_result(path: str | Path) -> xr.Dataset:
    """Read what `save_result` wrote, whole."""
    with _whole(path), xr.open_zarr(str(path)) as stored:
        return _with_objects(stored.load())


@contextmanager
def _whole(path: str | Path) -> Iterator[None]:
    try:
        yield
    except (OSError, ValueError, KeyError) as error:
        raise FacexkitError(f"{path} holds no result ({error}); make it again") from error


def _with_objects(result: xr.Dataset) -> xr.Dataset:
    """Return the result with its texts as objects, which any zarr stores."""
    texts = {name: (v.dims, v.to_numpy().astype(object)) for name, v in result.variables.items() if v.dtype.kind in "UT"}
    return result.assign_coords({name: texts.pop(name) for name in [*texts] if name in result.coords}).assign(texts)


def saved_result(path: str | Path, made_by: dict[str, object]) -> xr.Dataset | None:
    """Return the result at `path` if it was made by just this, None otherwise."""
    if not Path(path).exists():
        return None
    result = read_result(path)
    return result if all(result.attrs.get(name) == value for name, value in made_by.items()) else None


def save_scores(scores: xr.Dataset, folder: str | Path) -> Path:
    """Write one class's region scores into a folder, in the place of those of the same model, method and class."""
    name = "_".join(str(scores.attrs[what]) for what in ("model", "method", "class_name"))
    return save_result(scores, Path(folder, re.sub(r"[^\w-]+", "_", name) + ".zarr"))


def find_result(folders: Iterable[Path], made_by: Mapping[str, object]) -> Path | None:
    """Return where the first result lies that was made by just this, None if none was."""
    for path in (path for folder in folders for path in sorted(folder.glob("*.zarr"))):
        with _whole(path):
            attributes = zarr.open_group(str(path), mode="r").attrs.asdict()
        if made_by.items() <= attributes.items():
            return path
    return None


def write_table(table: pd.DataFrame, stem: str | Path) -> list[Path]:
    """Write a table as `STEM.csv` and `STEM.parquet`, and return their paths."""
    table.to_parquet(buffer := io.BytesIO(), index=False)
    files = []
    for suffix, content in (("csv", table.to_csv(index=False).encode()), ("parquet", buffer.getvalue())):
        files.append(Path(f"{stem}.{suffix}"))
        write_whole(files[-1], content)
    return files
