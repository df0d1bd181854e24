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

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.measure.activation_store import StoreWriter, activation_store
from facexkit.measure.records import provenance
from facexkit.measure.saved import write_table
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.copies import HostCopies, Ready
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Handed, Rows


def record(
    model: FaceModel,
    faces: FaceSet,
    layers: str | Sequence[str],
    *,
    store: str | Path | None = None,
    dtype: str = "float16",
    chunk: int | None = None,
    **how: object,
) -> dict[str, xr.Dataset]:
    """Record the activations of layers of any rank, (B, U), (B, U, h, w) or (B, T, D), in one pass.

        recorded = fx.record(model, faces, layers=["layer3", "avgpool"], store="maps.zarr")
        recorded["avgpool"].maximum                              # (image, unit)
        xr.open_zarr("maps.zarr", group="layer3").activation     # (image, unit, y, x), read when it is used

    Parameters
    ----------
    store : folder for the maps as zarr 3, one group a layer, together with that layer's Dataset. It takes the place of
        an earlier activation store, and of nothing else; a run that stops leaves nothing there.
    dtype : of the maps in the store: "float16", "float32", or "bfloat16", which zarr lacks and which is kept as float32
        rounded to bfloat16 (the zeros that this leaves compress to next to nothing).
    chunk : images in a chunk of the store; None for chunks of about 8 MB.
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
    with nullcontext() if store is None else activation_store(store, dtype, chunk) as writer:
        summaries = [UnitSummary(layer, faces.table, writer) for layer in layers]
        skipped = run(model, faces, summaries, PassOptions(**how))
        made_by = provenance(model, faces, skipped=skipped)
        results = {s.layer: s.result().assign_attrs(made_by, layer=s.layer) for s in summaries}
        if writer is not None:
            for layer, result in results.items():
                writer.complete(layer, result.assign_attrs(dtype=dtype))
    return results


class UnitSummary(Accumulator):
    """Maximum and mean of every unit's activation map on every image.

    Parameters
    ----------
    table : the face set's table.
    store : gets the maps too, in the order of the images.
    """

    def __init__(self, layer: str, table: pd.DataFrame, store: StoreWriter | None = None) -> None:
        self.layer, self.layers = layer, (layer,)
        self.table = table
        self.dtype = None if store is None else store.dtype
        self._copies = HostCopies()
        self.seen = Rows()
        self.maps = Handed(lambda shard: store.write(layer, shard["maps"])) if store is not None else Rows()

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        wide = torch.float32 if maps.device.type == "mps" else torch.float64
        found = {"maximum": maps.amax((2, 3)), "mean": maps.mean((2, 3), dtype=wide)}
        if self.dtype is not None:
            found |= {"minimum": maps.amin((2, 3)), "maps": maps.to(self.dtype)}
        self._take(self._copies.put(batch.rows, found))

    def fresh(self) -> UnitSummary:
        twin = super().fresh()
        twin._copies = HostCopies()
        return twin

    def finish(self) -> None:
        self._take(self._copies.rest())

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
                self.maps.take(rows, maps=maps.contiguous().numpy())
            self.seen.take(rows, maximum=host["maximum"].numpy(), mean=host["mean"].numpy())

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
        if column.dtype.kind in "iuf" or column.dtype == bool:
            values = column.to_numpy()
        else:
            values = column.astype(object).where(column.notna(), "").astype(str).to_numpy(object)
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
        parts = [pd.DataFrame(labels)]
        for name in ("maximum", "mean"):
            columns = [f"{name}_{unit}" for unit in result.unit.to_numpy()]
            parts.append(pd.DataFrame(result[name].to_numpy(), columns=columns))
        files += write_table(pd.concat(parts, axis=1), Path(folder, layer, "activations"))
    return files
