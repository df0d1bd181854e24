"""Exact upper-tail quantiles of every unit, in one pass."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.measure.kept_tail import COUNTED, MAPS, VALUES, KeptTail
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.tail import Counts, lower_bits, settled


class TailQuantile(Accumulator):
    """Exact threshold of each unit that at most a share q of its values exceed (Face Dissect).

    T[u] = the value at place ⌊q·M⌋, counted from 0, of the unit's M = N·h·w values in descending order. Values are counted
    by their leading bits, see `Tail`. Those that can still be T are kept in a file while there is room; where there is
    none, `LowerBits` counts the other bits in a second pass.

    Parameters
    ----------
    layer : whose activation maps are read.
    paths : the face set's paths, by row; no shard may see rows beyond them.
    quantile : q, 0 < q < 1.
    room, level : see `KeptTail`.

    Raises
    ------
    FacexkitError where an activation is NaN or infinite: it names the unit and the image.
    """

    def __init__(
        self, layer: str, paths: np.ndarray, quantile: float = 0.005, room: int = 4 << 30, level: int = VALUES
    ) -> None:
        if not 0 < quantile < 1:
            raise FacexkitError(f"quantile {quantile} must lie between 0 and 1; Face Dissect takes 0.005")
        self.layers, self.layer = (layer,), layer
        self.paths, self.quantile = paths, quantile
        self.tail = KeptTail(quantile, room, level)

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        if not bool(maps.sum().isfinite()) and not bool(maps.isfinite().all()):
            row, unit = (~maps.isfinite()).nonzero()[0, :2].tolist()
            raise FacexkitError(
                f"layer {self.layer!r}: unit {unit} is not a finite number on image {self.paths[batch.rows[row]]!r}; "
                "the model or its normalization is broken, or half precision overflowed"
            )
        masks = batch.masks[self.masks[0]] if self.tail.level == MAPS else None
        self.tail.look(batch.rows, maps, maps.shape[2] * maps.shape[3] * len(self.paths), masks)

    def second(self) -> LowerBits | None:
        """Return what must be shown the faces before there is a result; None where it is there already."""
        return LowerBits(self.layer, *self.tail.found()[:2]) if self.tail.level == COUNTED else None

    def result(self, lower: Counts | None = None) -> xr.Dataset:
        """Return threshold (unit); `lower` is what `second` counted, where it had to."""
        if self.tail.floor is None:
            raise FacexkitError("no image was seen, so there is no threshold")
        threshold = settled(self.tail.lower() if lower is None else lower, *self.tail.found())
        return xr.Dataset({"threshold": ("unit", threshold)}, {"unit": np.arange(len(threshold))})


class LowerBits(Accumulator):
    """The lower bits of the values that decide where a threshold lies: at most 65,536 counts a unit, most often hundreds.

    Parameters
    ----------
    edge, above : float32 (U,), between which values each unit's threshold lies; above is NaN where it is the edge.
    """

    def __init__(self, layer: str, edge: np.ndarray, above: np.ndarray) -> None:
        self.layers, self.layer = (layer,), layer
        self.edge, self.above = edge, above
        self.counts = Counts()

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        edge, above = (torch.from_numpy(at).to(maps.device)[:, None, None] for at in (self.edge, self.above))
        image, unit, y, x = ((maps > edge) & (maps < above)).nonzero(as_tuple=True)
        values = maps[image, unit, y, x]
        self.counts.take(lower_bits(unit.cpu().numpy(), values.cpu().numpy(), self.edge, self.above))

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the lower bits that came, as `lower_bits` gives them, and how often each."""
        return self.counts.bins, self.counts.times
