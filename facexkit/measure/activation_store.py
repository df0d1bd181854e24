"""Activation maps on disk: a zarr 3 store that is written while the model runs, and is there whole or not at all."""

from __future__ import annotations

import os
import warnings
from collections import deque
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import torch
import xarray as xr
import zarr

from facexkit.errors import FacexkitError, check_known, told
from facexkit.faces.cache import side_folder

DTYPES = {"float16": torch.float16, "float32": torch.float32, "bfloat16": torch.bfloat16}
CHUNK_BYTES = 8 << 20
MOST_WAITING = 4
MARK = {"content": "facexkit activations"}


@contextmanager
def activation_store(path: str | Path, dtype: str = "float16", chunk: int | None = None) -> Iterator[StoreWriter]:
    """Open a store to be written to the side; leaving the block puts it at `path`, an exception leaves nothing.

    Parameters
    ----------
    dtype, chunk : see `record`.

    Raises
    ------
    FacexkitError without zarr 3, for an unknown dtype or a chunk below 1, and where `path` is something else than an
    activation store.
    """
    path = Path(path).expanduser()
    if int(zarr.__version__.split(".")[0]) < 3:
        raise FacexkitError(f"store= needs zarr 3, not {zarr.__version__}; take Python 3.11 or newer, or no store")
    check_known("dtype", [dtype], DTYPES)
    if chunk is not None and chunk < 1:
        raise FacexkitError(f"chunk is {chunk!r}; it is a number of images from 1 on, or None for about 8 MB")
    if path.exists() and not _is_ours(path):
        raise FacexkitError(f"{path} is there and is no activation store; name another store=, or remove it first")
    path.parent.mkdir(parents=True, exist_ok=True)
    with side_folder(path) as side:
        with ThreadPoolExecutor(1) as thread:
            writer = StoreWriter(Path(side, "new"), thread, dtype, chunk)
            yield writer
        if path.exists():
            os.replace(path, Path(side, "old"))
        os.replace(writer.path, path)


def _is_ours(path: Path) -> bool:
    try:
        return dict(zarr.open_group(str(path), mode="r").attrs).get("content") == MARK["content"]
    except (OSError, ValueError, KeyError):
        return False


class StoreWriter:
    """Appends batches of maps to one array a layer, chunk by chunk, in a thread of its own.

    Parameters
    ----------
    path : folder to be made.
    thread : runs the writing.
    """

    def __init__(self, path: Path, thread: ThreadPoolExecutor, dtype: str, chunk: int | None) -> None:
        self.path, self.thread, self.chunk = path, thread, chunk
        self.dtype = DTYPES[dtype]
        self.root = zarr.open_group(str(path), mode="w", zarr_format=3, attributes=MARK)
        self.arrays: dict[str, zarr.Array] = {}
        self.held: dict[str, np.ndarray] = {}
        self.writes: deque[Future] = deque()

    def write(self, layer: str, maps: np.ndarray) -> None:
        """Append the maps (B, U, h, w) of the next images; waits where the disk is slower than the model."""
        self.writes.append(self.thread.submit(self._append, layer, maps))
        self._wait(MOST_WAITING)

    def complete(self, layer: str, result: xr.Dataset) -> None:
        """Write what is left of a layer, and beside it its result, whose images are the ones written."""
        self._wait(0)
        if len(self.held[layer]):
            self.arrays[layer].append(self.held[layer])
        with warnings.catch_warnings():  # that other zarr libraries may not read the index of the metadata
            warnings.filterwarnings("ignore", message="Consolidated metadata")
            result.to_zarr(str(self.path), group=layer, mode="a", zarr_format=3)

    def _append(self, layer: str, values: np.ndarray) -> None:
        array = self.arrays[layer] if layer in self.arrays else self._make(layer, values)
        values = np.concatenate([self.held[layer], values])
        whole = len(values) - len(values) % array.chunks[0]
        if whole:
            array.append(values[:whole])
        self.held[layer] = values[whole:]

    def _make(self, layer: str, values: np.ndarray) -> zarr.Array:
        chunk = self.chunk or max(1, CHUNK_BYTES // values[0].nbytes)
        self.held[layer] = values[:0]
        self.arrays[layer] = self.root.require_group(layer).create_array(
            "activation",
            shape=(0, *values.shape[1:]),
            chunks=(chunk, *values.shape[1:]),
            dtype=values.dtype,
            fill_value=np.nan,
            dimension_names=("image", "unit", "y", "x"),
            compressors=zarr.codecs.BloscCodec(cname="zstd", clevel=1, shuffle="shuffle"),
        )
        return self.arrays[layer]

    def _wait(self, most: int) -> None:
        while len(self.writes) > most:
            with told("the store cannot be written", "free space or name another", OSError):
                self.writes.popleft().result()
