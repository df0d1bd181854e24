"""The first look of a dissection: thresholds, and the maps that may still count, so that faces need not pass twice."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from facexkit.faces.mask_view import MaskView
from facexkit.measure.iou_tally import IoUTally
from facexkit.measure.kept_tail import MAPS
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.state import Least, Rows
from facexkit.probe.tail import Counts


class Candidates(TailQuantile):
    """Exact thresholds, each image's maxima, and the maps that can still lie above the thresholds.

    Parameters
    ----------
    view : the concepts and the size at which pixels are counted.
    room : see `KeptTail`.
    """

    def __init__(self, layer: str, paths: np.ndarray, quantile: float, view: MaskView, room: int) -> None:
        super().__init__(layer, paths, quantile, room, MAPS)
        self.view, self.masks = view, (view,)
        self.seen, self.minimum = Rows(), Least()

    def update(self, batch: ProbedBatch) -> None:
        super().update(batch)
        maps = batch.activations[self.layer]
        present = batch.present[self.view].numpy()
        self.seen.take(batch.rows, maximum=maps.amax((2, 3)).cpu().numpy(), present=present)
        self.minimum.take(maps.amin((0, 2, 3)).cpu().numpy())

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
