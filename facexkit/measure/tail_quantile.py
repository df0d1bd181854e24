"""Exact upper-tail quantiles of every unit, in one pass."""

from __future__ import annotations

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.state import Tail, place_of


class TailQuantile(Accumulator):
    """Exact threshold of each unit that at most a share q of its values exceed (Face Dissect).

    T[u] = the value at place ⌊q·M⌋, counted from 0, of the unit's M = N·h·w values in descending order. Keeps the
    largest ⌊q·M⌋ + 1 of them, so memory is q times the data.

    Parameters
    ----------
    layer : whose activation maps are read.
    paths : the face set's paths, by row; no shard may see rows beyond them.
    quantile : q, 0 < q < 1.

    Raises
    ------
    FacexkitError where an activation is NaN or infinite: it names the unit and the image.
    """

    def __init__(self, layer: str, paths: np.ndarray, quantile: float = 0.005) -> None:
        if not 0 < quantile < 1:
            raise FacexkitError(f"quantile {quantile} must lie between 0 and 1; Face Dissect takes 0.005")
        self.layers, self.layer = (layer,), layer
        self.paths, self.quantile = paths, quantile
        self.tail = Tail(quantile)

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        if not bool(maps.sum().isfinite()) and not bool(maps.isfinite().all()):
            row, unit = (~maps.isfinite()).nonzero()[0, :2].tolist()
            raise FacexkitError(
                f"layer {self.layer!r}: unit {unit} is not a finite number on image {self.paths[batch.rows[row]]!r}; "
                "the model or its normalization is broken, or half precision overflowed"
            )
        values = maps.transpose(0, 1).flatten(1).cpu().numpy()
        self.tail.take(values, most=maps.shape[2] * maps.shape[3] * len(self.paths))

    def result(self) -> xr.Dataset:
        """Return threshold (unit)."""
        if self.tail.largest is None:
            raise FacexkitError("no image was seen, so there is no threshold")
        place = place_of(self.quantile, self.tail.seen)
        descending = -np.sort(-self.tail.kept(), axis=1)
        return xr.Dataset({"threshold": ("unit", descending[:, place])}, {"unit": np.arange(len(descending))})
