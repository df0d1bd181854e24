"""Activations of every unit of any layer: maxima and means as tables, the maps themselves as a store."""

from __future__ import annotations

import re
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.faceset import FaceSet
from facexkit.measure.activation_store import DTYPES, LayerMaps, activation_store
from facexkit.measure.groups import as_labels
from facexkit.measure.records import provenance
from facexkit.measure.saved import write_table
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.copies import HostCopies, Ready
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.shards import SHARD
from facexkit.probe.state import Rows


def record(
    model: FaceModel, faces: FaceSet, layers: str | Sequence[str], *, store: str | Path | None = None,
    dtype: str = "float16", chunk: int | None = None, **how: object,
) -> dict[str, xr.Dataset]:  # fmt: skip
    """Record the activations of layers of any rank, (B, U), (B, U, h, w) or (B, T, D), in one pass.

        recorded = fx.record(model, faces, layers=["layer3", "avgpool"], store="maps.zarr")
        recorded["avgpool"].maximum                              # (image, unit)
        xr.open_zarr("maps.zarr", group="layer3").activation     # (image, unit, y, x), read when it is used

    Parameters
    ----------
    store : folder, or an address that fsspec knows, for the maps as zarr 3, one group a layer, together with that layer's
        Dataset. It takes the place of an earlier activation store, and of nothing else; a run that stops leaves nothing
        there. Whoever runs a shard writes its maps, so on a cluster the address must mean the same to every worker.
    dtype : of the maps in the store: "float16", "float32", or "bfloat16", which zarr lacks and which is kept as float32
        rounded to bfloat16 (the zeros that this leaves compress to next to nothing).
    chunk : images in a chunk of the store, which is in one shard; None for chunks of about 8 MB.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    for each layer a Dataset: float32 `maximum` and `mean` (image, unit) of the unit's map; coordinates image (paths),
    unit, and every label of the face set. An image that cannot be decoded is listed in attrs["skipped"] and has no row,
    neither here nor in the store.

    Raises
    ------
    FacexkitError for an unknown layer; for an activation that is NaN, infinite or too large for `dtype`, with layer,
    unit and image; and where something else than an activation store is at `store`.
    """
    layers = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
    if not layers:
        raise FacexkitError("record needs at least one layer; list them with fx.list_layers(model)")
    if chunk is not None and chunk < 1:
        raise FacexkitError(f"chunk is {chunk!r}; it is a number of images from 1 on, or None for about 8 MB")
    check_known("dtype", [dtype], DTYPES)
    options = PassOptions(**how)
    sizes = {layer: (len(faces), *map(int, _shape(model, layer))) for layer in layers}
    made_by = [*provenance(model, faces).values(), sizes, dtype, chunk] if options.folder is not None else None
    with nullcontext() if store is None else activation_store(store, made_by) as opened:
        own = {layer: opened.maps(layer, size, dtype, chunk, SHARD) for layer, size in sizes.items() if opened}
        summaries = [UnitSummary(layer, faces.table, own.get(layer)) for layer in layers]
        shard = chunk * max(1, SHARD // chunk) if chunk else SHARD
        skipped = run(model, faces, summaries, options, shard=shard)
        about = provenance(model, faces, skipped=skipped)
        results = {s.layer: s.result().assign_attrs(about, layer=s.layer) for s in summaries}
        for summary in summaries if opened else ():
            (rows,) = summary.seen.by_row("rows")
            opened.complete(summary.layer, results[summary.layer].assign_attrs(dtype=dtype), rows)
    return results


def _shape(model: FaceModel, layer: str) -> pd.Series:
    """Return units, height and width of a layer; an error where it has none."""
    model.layer(layer)
    return model.layers.loc[layer, ["units", "height", "width"]]


class UnitSummary(Accumulator):
    """Maximum and mean of every unit's activation map on every image.

    Parameters
    ----------
    table : the face set's table.
    store : gets the maps too, chunk by chunk.
    """

    def __init__(self, layer: str, table: pd.DataFrame, store: LayerMaps | None = None) -> None:
        self.layer, self.layers = layer, (layer,)
        self.table, self.store = table, store
        self.dtype = None if store is None else DTYPES[store.dtype]
        self.seen = Rows()
        self._begin()

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        wide = torch.float32 if maps.device.type == "mps" else torch.float64
        found = {"maximum": maps.amax((2, 3)), "mean": maps.mean((2, 3), dtype=wide)}
        if self.dtype is not None:
            found |= {"minimum": maps.amin((2, 3)), "maps": maps.to(self.dtype)}
        self._take(self._copies.put(batch.rows, found))

    def fresh(self) -> UnitSummary:
        twin = super().fresh()
        twin._begin()
        return twin

    def _begin(self) -> None:
        self._copies, self._block, self._start = HostCopies(), None, 0

    def finish(self) -> None:
        self._take(self._copies.rest())
        self._write()

    def result(self) -> xr.Dataset:
        """Return maximum, mean (image, unit), by row, with the labels as coordinates."""
        rows, maximum, mean = self.seen.by_row("rows", "maximum", "mean")
        values = {"maximum": maximum, "mean": mean}
        return xr.Dataset(
            {name: (("image", "unit"), value.astype(np.float32)) for name, value in values.items()},
            image_coordinates(self.table.iloc[rows]) | {"unit": np.arange(values["mean"].shape[1])},
        )

    def _take(self, ready: Ready) -> None:
        for rows, host in ready:
            self._refuse(rows, ~host["mean"].isfinite(), "is NaN or infinite; check the weights and normalize=")
            if self.dtype is not None:
                peak = torch.maximum(host["maximum"], -host["minimum"]).to(self.dtype)
                self._refuse(rows, peak.isinf(), f"is too large for {self.dtype}; take dtype='float32'")
                maps = host["maps"].float() if self.dtype == torch.bfloat16 else host["maps"]
                self._place(rows, maps.numpy())
            self.seen.take(rows, maximum=host["maximum"].numpy(), mean=host["mean"].numpy())

    def _place(self, rows: np.ndarray, maps: np.ndarray) -> None:
        """Put maps where they belong in the chunk that is being filled; one that is full is written."""
        for start in np.unique(rows // self.store.chunk) * self.store.chunk:
            if self._block is None or start != self._start:
                self._write()
                length = min(self.store.chunk, self.store.shape[0] - start)
                self._start, self._block = start, np.full((length, *maps.shape[1:]), np.nan, maps.dtype)
            own = (rows >= start) & (rows < start + self.store.chunk)
            self._block[rows[own] - start] = maps[own]

    def _write(self) -> None:
        if self._block is not None:
            self.store.write(int(self._start), self._block)
            self._block = None

    def _refuse(self, rows: np.ndarray, wrong: torch.Tensor, why: str) -> None:
        if wrong.any():
            image, unit = wrong.nonzero()[0].tolist()
            path = self.table.path.iloc[rows[image]]
            raise FacexkitError(f"layer {self.layer!r}, unit {unit}, image {path!r}: an activation {why}")


def image_coordinates(table: pd.DataFrame) -> dict[str, object]:
    """Return the paths of a face set's rows as coordinate `image`, and its labels along it.

    A label without a value is "", or NaN among numbers. Spaces and slashes in a column's name become "_", as a store
    needs them; one called like a dimension or variable of a result becomes "NAME_label".
    """
    coordinates: dict[str, object] = {"image": table.path.to_numpy(object)}
    for name, column in table.drop(columns="path").items():
        numbers = column.dtype.kind in "iuf" or column.dtype == bool
        values = column.to_numpy() if numbers else as_labels(column)
        name = re.sub(r"[\s/]+", "_", str(name))
        taken = name in ("image", "unit", "y", "x", "maximum", "mean", "activation")
        coordinates[f"{name}_label" if taken else name] = ("image", values)
    return coordinates


def write_activations(recorded: dict[str, xr.Dataset], folder: str | Path) -> list[Path]:
    """Write `activations.csv` and `activations.parquet` of every layer into a folder of its name below `folder`.

    A row an image: `image`, its labels, `maximum_0`, `maximum_1`, …, `mean_0`, `mean_1`, … by unit. Returns the paths.
    """
    files = []
    for layer, result in recorded.items():
        labels = {name: result[name].to_numpy() for name in result.coords if result[name].dims == ("image",)}
        units = [result[n].to_pandas().add_prefix(f"{n}_").reset_index(drop=True) for n in ("maximum", "mean")]
        files += write_table(pd.concat([pd.DataFrame(labels), *units], axis=1), Path(folder, layer, "activations"))
    return files
