"""Exact upper-tail quantiles of every unit, in one pass."""

from __future__ import annotations

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.probe.accumulator import Accumulator, ProbedBatch


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
        self.seen = 0
        self.largest: np.ndarray | None = None
        self.waiting: list[np.ndarray] = []

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        if not bool(maps.sum().isfinite()) and not bool(maps.isfinite().all()):
            row, unit = (~maps.isfinite()).nonzero()[0, :2].tolist()
            raise FacexkitError(
                f"layer {self.layer!r}: unit {unit} is not a finite number on image {self.paths[batch.rows[row]]!r}; "
                "the model or its normalization is broken, or half precision overflowed"
            )
        self.seen += maps[:, 0].numel()
        self._take(maps.transpose(0, 1).flatten(1).cpu().numpy(), most=maps.shape[2] * maps.shape[3] * len(self.paths))

    def merge(self, other: TailQuantile) -> None:
        if other.largest is not None:
            other._settle()
            self.seen += other.seen
            self._take(other.largest, other.most)

    def _take(self, values: np.ndarray, most: int) -> None:
        """Take in values (U, n); there will be at most `most` of each unit in all."""
        if self.largest is None:
            self.most = most
            self.largest = np.empty((len(values), 0), np.float32)
        self.waiting.append(values)
        if sum(v.shape[1] for v in self.waiting) > max(self.capacity, 4096):
            self._settle()

    @property
    def capacity(self) -> int:
        """How many of each unit's largest values can matter."""
        return int(self.quantile * self.most) + 1

    def _settle(self) -> None:
        self.largest = np.concatenate([self.largest, *self.waiting], 1)
        self.waiting = []
        if self.largest.shape[1] > self.capacity:
            self.largest = np.partition(self.largest, -self.capacity, axis=1)[:, -self.capacity :].copy()

    def bound(self) -> np.ndarray:
        """Return float32 (U,), what the final threshold cannot lie below; −inf while too few values are in."""
        full = self.largest.shape[1] == self.capacity
        return self.largest.min(1) if full else np.full(len(self.largest), -np.inf, np.float32)

    def result(self) -> xr.Dataset:
        """Return threshold (unit)."""
        if self.largest is None:
            raise FacexkitError("no image was seen, so there is no threshold")
        self._settle()
        place = int(self.quantile * self.seen)
        descending = -np.sort(-self.largest, axis=1)
        return xr.Dataset({"threshold": ("unit", descending[:, place])}, {"unit": np.arange(len(descending))})
