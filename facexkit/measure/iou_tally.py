"""How units and concepts overlap: intersection and union, counted over images (Face Dissect, stage 1)."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from facexkit.faces.mask_view import MaskView
from facexkit.measure.active_area import ActiveArea
from facexkit.measure.facex import named
from facexkit.measure.mask_exchange import ALPHA, MaskExchange, over_position
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.state import Sum, TopK

INTERPRETABLE = 0.04
UNION_RULES = ("labelled", "active")


class IoUTally(Accumulator):
    """Intersection and union of every unit's active area with every concept's masks, summed over images.

    intersection[u,c] = Σ |active[n,u] ∩ mask[n,c]| and union[u,c] = Σ |active[n,u] ∪ mask[n,c]| over the images n
    labelled with c, in pixels; active = upsampled map > T[u].

    Parameters
    ----------
    thresholds : float32 (U,), T.
    view : the concepts and the size at which pixels are counted.
    paths : the face set's paths, by row.
    union : "labelled", all images labelled with c; "active", those of them on which the unit has an active pixel, as
        the authors' released code counts the union.
    top_images : how many images with the highest IoU to keep of each unit and concept.
    exchange : the masks that images are given of each other, to tell what a unit's place alone would meet.
    """

    def __init__(
        self, layer: str, thresholds: np.ndarray, view: MaskView, paths: np.ndarray, union: str, top_images: int,
        exchange: MaskExchange,
    ) -> None:  # fmt: skip
        self.layer, self.layers, self.view, self.masks = layer, (layer,), view, (view,)
        self.thresholds, self.paths, self.union_rule = torch.from_numpy(thresholds), paths, union
        units, concepts, self.exchange = len(thresholds), len(view.names), exchange
        self.intersection, self.union = Sum(), Sum()
        self.counted, self.moved, self.squares = Sum(), Sum(), Sum()
        self.top = TopK(units * concepts, top_images)
        self.strongest = TopK(units, top_images)
        self._area: ActiveArea | None = None

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        image, unit = (maps.amax((2, 3)) > self.thresholds.to(maps.device)).nonzero(as_tuple=True)
        self.tally(batch.rows, image, unit, maps[image, unit], batch.masks[self.view], batch.present[self.view])

    def tally(
        self, rows: np.ndarray, image: Tensor, unit: Tensor, maps: Tensor, masks: Tensor, present: Tensor
    ) -> None:
        """Count one batch of B images, of which only the maps that may be active are given.

        Parameters
        ----------
        rows : int64 (B,).
        image, unit : int64 (n,), whose map each is; those left out have no place above the threshold.
        maps : float32 (n, h, w).
        masks : bool (B, C, size, size).
        present : bool (B, C), which images are labelled with which concept.
        """
        if self._area is None:
            self._area = ActiveArea(*maps.shape[1:], self.view.size)
        thresholds, masks = self.thresholds.to(maps.device), masks.to(maps.device)
        has, given = self.exchange.given(rows)
        counted, overlaps = self._area.count(maps, thresholds[unit], image, torch.cat([masks, given.to(masks.device)], 1))
        image, unit = image.cpu().numpy(), unit.cpu().numpy()
        active = np.zeros((len(rows), len(self.thresholds)))
        active[image, unit] = counted.cpu().numpy()
        inside, elsewhere = np.zeros((2, *active.shape, masks.shape[1]))
        inside[image, unit], elsewhere[image, unit] = np.split(overlaps.cpu().numpy(), 2, axis=1)

        labelled, size = present.numpy().astype(float), masks.sum((2, 3)).cpu().numpy().astype(float)
        mask_part = size.sum(0) if self.union_rule == "labelled" else (active > 0).T.astype(float) @ size
        overlap = inside.sum(0)
        self.intersection.take(overlap.astype(np.int64))
        self.union.take((active.T @ labelled + mask_part - overlap).astype(np.int64))

        self._beside_exchanged(rows, has, active, size, inside, elsewhere)

        pair = np.zeros(active.shape, int)
        pair[image, unit] = np.arange(len(image))
        coarse = maps.cpu().numpy()
        iou = inside / np.maximum(active[:, :, None] + size[:, None] - inside, 1)
        by_subject = np.where(inside > 0, iou, -np.inf).transpose(1, 2, 0).reshape(-1, len(rows))
        concepts = masks.shape[1]
        self.top.take(by_subject, rows, lambda subject, b: coarse[pair[b, subject // concepts]])
        peak = np.full(active.shape, -np.inf)
        peak[image, unit] = coarse.max((1, 2))
        self.strongest.take(peak.T, rows, lambda subject, b: coarse[pair[b, subject]])

    def _beside_exchanged(
        self, rows: np.ndarray, has: np.ndarray, active: np.ndarray, size: np.ndarray, inside: np.ndarray,
        elsewhere: np.ndarray,
    ) -> None:  # fmt: skip
        """Sum up what the sample meets of its own masks and of those it is given, once and as it is drawn again."""
        here = has.any(1)
        has, active, inside, elsewhere = has[here, None], active[here, :, None], inside[here], elsewhere[here]
        both = has * (active + size[here, None]) * ((active > 0) | (self.union_rule == "labelled"))
        drawn = self.exchange.weights(rows[here]).astype(float)
        every = [drawn @ part.reshape(len(part), -1) for part in (has * inside, elsewhere, both)]
        self.counted.take(np.stack(every, 1).reshape(len(drawn), 3, *both.shape[1:]).astype(np.int64))
        moved = has * inside - elsewhere
        self.moved.take(moved.sum(0).astype(np.int64))
        self.squares.take((moved**2).sum(0).astype(np.int64))

    def result(self) -> xr.Dataset:
        """Return intersection, union, iou (unit, concept), the unit's best concept, and the top images.

        position_iou, gain, gain_low, gain_high, q_value, could_be_best (unit, concept) as of `over_position`;
        supported (unit): q < 0.05 with the best concept.

        top_image, top_iou (unit, concept, top) and, of the best concept, top_map (unit, top, y, x); strongest_image
        (unit, top) and strongest_map, by activation. "" and −inf where there are fewer.
        """
        intersection, union = self.intersection.value, self.union.value
        units, concepts = intersection.shape
        iou = intersection / np.maximum(union, 1)
        best = iou.argmax(1)
        by_pair = (units, concepts, self.top.k)
        maps = self.top.payload.reshape(*by_pair, *self.top.payload.shape[2:])
        pair, top = ("unit", "concept"), ("unit", "concept", "top")
        beyond = over_position(self.counted.value, self.moved.value, self.squares.value)
        beyond["could_be_best"][np.arange(units), best] |= iou.max(1) > 0
        return xr.Dataset(
            {name: (pair, values) for name, values in beyond.items()} | {
                "supported": ("unit", beyond["q_value"][np.arange(units), best] < ALPHA),
                "intersection": (pair, intersection),
                "union": (pair, union),
                "iou": (pair, iou),
                "best_concept": ("unit", np.array(self.view.names, object)[best]),
                "best_iou": ("unit", iou.max(1)),
                "interpretable": ("unit", iou.max(1) > INTERPRETABLE),
                "top_image": (top, named(self.paths, self.top.rows).reshape(by_pair)),
                "top_iou": (top, self.top.values.reshape(by_pair)),
                "top_map": (("unit", "top", "y", "x"), maps[np.arange(units), best]),
                "strongest_image": (("unit", "top"), named(self.paths, self.strongest.rows)),
                "strongest_map": (("unit", "top", "y", "x"), self.strongest.payload),
            },
            coords={"unit": np.arange(units), "concept": list(self.view.names)},
        )


def detectors(found: xr.Dataset) -> np.ndarray:
    """Return which units of a dissection detect a concept, bool (unit): interpretable, and their label supported."""
    return (found.interpretable & found.supported).to_numpy()
