"""Activation maps in a zarr 3 store, written shard by shard by whoever runs the shards; there whole or not at all."""

from __future__ import annotations

import hashlib
import os
import posixpath
import uuid
import warnings
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import fsspec
import numpy as np
import torch
import xarray as xr
import zarr
from fsspec.implementations.local import LocalFileSystem

from facexkit.errors import FacexkitError, check_known, told

DTYPES = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}
CHUNK_BYTES = 8 << 20
MARK = {"content": "facexkit activations"}


@contextmanager
def activation_store(path: str | Path, made_by: Sequence[object] | None = None) -> Iterator[Store]:
    """Open a store to be written to the side; leaving the block puts it at `path`, an exception leaves nothing.

    Parameters
    ----------
    path : a folder, or an address that fsspec knows, such as s3://bucket/maps.zarr.
    made_by : what changes with whatever could change a number. Where it is given, an exception or a kill leaves what is
        written, and the same call goes on with it.

    Raises
    ------
    FacexkitError without zarr 3, and where `path` is something else than an activation store.
    """
    if int(zarr.__version__.split(".")[0]) < 3:
        raise FacexkitError(f"store= needs zarr 3, not {zarr.__version__}; take Python 3.11 or newer, or no store")
    with told(f"store={str(path)!r} cannot be reached", "name a folder or an fsspec address"):
        files, place = fsspec.core.url_to_fs(os.path.expanduser(str(path)))
    address = place if isinstance(files, LocalFileSystem) else files.unstrip_protocol(place)
    if files.exists(place) and not _attributes(address).get("content") == MARK["content"]:
        raise FacexkitError(f"{path} is there and is no activation store; name another store=, or remove it first")
    folder, name = posixpath.split(place)
    side = f"{folder}/.{name}.{'unfinished' if made_by else os.getpid()}.part"
    new = address.removesuffix(place) + f"{side}/new"
    files.makedirs(side, exist_ok=True)
    key = made_by and hashlib.sha256("\n".join(map(str, made_by)).encode()).hexdigest()
    done = False
    try:
        goes_on = key and _attributes(new).get("made_by") == key
        if not goes_on:
            zarr.open_group(new, mode="w", zarr_format=3, attributes=MARK | {"made_by": key, "id": uuid.uuid4().hex})
        yield Store(new, _attributes(new)["id"])
        if files.exists(place):
            files.mv(place, f"{side}/old", recursive=True)
        files.mv(f"{side}/new", place, recursive=True)
        done = True
    finally:
        if (done or not made_by) and files.exists(side):
            files.rm(side, recursive=True)


def _attributes(address: str) -> dict[str, object]:
    try:
        return zarr.open_group(address, mode="r").attrs.asdict()
    except (OSError, ValueError, KeyError):
        return {}


@dataclass(frozen=True)
class LayerMaps:
    """Where one layer's maps (N, U, h, w) go, by the row of their image; sent to whoever runs a shard.

    Parameters
    ----------
    store, id : the store's address, and what tells it from an earlier one at the same place.
    """

    store: str
    id: str
    layer: str
    dtype: str
    shape: tuple[int, ...]
    chunk: int

    def write(self, start: int, maps: np.ndarray) -> None:
        """Write the maps of the rows from `start` on, which begin and end where chunks do."""
        with told("the store cannot be written", "free space or name another", OSError):
            zarr.open_array(f"{self.store}/{self.layer}/activation", mode="r+")[start : start + len(maps)] = maps


@dataclass(frozen=True)
class Store:
    """A store that is being written."""

    address: str
    id: str

    def maps(self, layer: str, shape: tuple[int, ...], dtype: str, chunk: int | None, most: int) -> LayerMaps:
        """Make room for a layer's maps, `shape` is (N, U, h, w), where there is none yet.

        Parameters
        ----------
        dtype, chunk : see `record`; without a chunk it is a power of two of images, about 8 MB and at most `most`.
        """
        check_known("dtype", [dtype], DTYPES)
        kind = np.dtype("float32" if dtype == "bfloat16" else dtype)
        fits = CHUNK_BYTES // (int(np.prod(shape[1:])) * kind.itemsize)
        chunk = chunk or min(1 << max(fits, 1).bit_length() - 1, most)
        group = zarr.open_group(self.address, mode="r+").require_group(layer)
        if "activation" not in group:
            group.create_array(
                "activation", shape=shape, chunks=(chunk, *shape[1:]), dtype=kind, fill_value=np.nan,
                dimension_names=("image", "unit", "y", "x"),
                compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
            )  # fmt: skip
        return LayerMaps(self.address, self.id, layer, dtype, shape, chunk)

    def complete(self, layer: str, result: xr.Dataset, rows: np.ndarray) -> None:
        """Write a layer's result beside its maps, and take out the rows of the images that were skipped."""
        array = zarr.open_array(f"{self.address}/{layer}/activation", mode="r+")
        if len(rows) < array.shape[0]:
            zarr.open_group(self.address, mode="r+").attrs["made_by"] = None  # a kill from here on costs the maps
            for start in range(0, len(rows), array.chunks[0]):
                own = rows[start : start + array.chunks[0]]
                array[start : start + len(own)] = array.oindex[own]
            array.resize((len(rows), *array.shape[1:]))
        with warnings.catch_warnings():  # that other zarr libraries may not read the index of the metadata
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            result.to_zarr(self.address, group=layer, mode="a", zarr_format=3)
