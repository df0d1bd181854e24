"""The first look of a dissection: thresholds, and the maps that may still count, so that faces need not pass twice."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from facexkit.faces.mask_view import MaskView
from facexkit.measure.iou_tally import IoUTally
from facexkit.measure.kept_tail import MAPS
from facexkit.measure.mask_exchange import SAMPLE, MaskExchange, chances
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.state import Least, Rows, TopK
from facexkit.probe.tail import Counts


class Candidates(TailQuantile):
    """Exact thresholds, each image's maxima, the maps that can still lie above the thresholds, and masks to be exchanged.

    Parameters
    ----------
    view : the concepts and the size at which pixels are counted.
    room : see `KeptTail`.
    seed : of the exchange.
    """

    def __init__(self, layer: str, paths: np.ndarray, quantile: float, view: MaskView, room: int, seed: int = 0) -> None:
        super().__init__(layer, paths, quantile, room, MAPS)
        self.view, self.masks, self.seed = view, (view,), seed
        self.seen, self.minimum, self.sample = Rows(), Least(), TopK(len(view.names), SAMPLE)
        self._waiting: tuple[tuple[np.ndarray, ...], ...] = ()

    def update(self, batch: ProbedBatch) -> None:
        super().update(batch)
        maps = batch.activations[self.layer]
        present, masks = batch.present[self.view].numpy(), batch.masks[self.view].flatten(2).cpu().numpy()
        self.seen.take(batch.rows, maximum=maps.amax((2, 3)).cpu().numpy(), present=present)
        self.minimum.take(maps.amin((0, 2, 3)).cpu().numpy())
        self._waiting = *self._waiting, (batch.rows, present, np.packbits(masks, axis=2))

    def finish(self) -> None:
        """Let the images of a shard into the sample, all at once, as masks are large."""
        if self._waiting:
            rows, present, masks = map(np.concatenate, zip(*self._waiting, strict=True))
            drawn = np.where(present.T, chances(rows, self.seed), -np.inf)
            self.sample.take(drawn, rows, lambda concept, image: masks[image, concept])
            self._waiting = ()

    def exchange(self) -> MaskExchange:
        """Return the exchange of the masks that were seen."""
        return MaskExchange.among(self.sample, len(self.paths), self.view.size, self.seed)

    def result(self, lower: Counts | None = None) -> xr.Dataset:
        """Return threshold, minimum (unit), maximum (image, unit), has_concept (image, concept), images (concept)."""
        rows, maximum, present = self.seen.by_row("rows", "maximum", "present")
        return super().result(lower).assign(
            minimum=("unit", self.minimum.value),
            maximum=(("image", "unit"), maximum),
            has_concept=(("image", "concept"), present),
            images=("concept", present.sum(0)),
        ).assign_coords(image=self.paths[rows], concept=list(self.view.names))

    def replay(self, tally: IoUTally) -> None:
        """Hand what was kept to the tally, instead of a second pass."""
        shape = (len(self.view.names), self.view.size, self.view.size)
        every, labelled = self.seen.by_row("rows", "present")
        for rows, image, unit, maps, masks in self.tail.batches(shape):
            above = maps.amax((1, 2)) > tally.thresholds[unit]
            present = torch.from_numpy(labelled[np.searchsorted(every, rows)])
            tally.tally(rows, image[above], unit[above], maps[above], masks, present)
