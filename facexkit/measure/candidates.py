"""The first look of a dissection: thresholds, and the maps that may still count, so that faces need not pass twice."""

from __future__ import annotations

import zlib
from collections.abc import Iterator

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from facexkit.faces.mask_view import MaskView
from facexkit.measure.iou_tally import IoUTally
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.state import Arrays, Least, Rows, Tail

AT_ONCE = 64
"""Images that are tallied together."""


class TailMaps(Tail):
    """A tail, and whole the maps that reach into it, with the masks of their images, while memory allows.

    The value at the end of the tail of what has been seen can only rise, so a map that does not exceed it is dropped.

    Parameters
    ----------
    memory : bytes that maps and masks may take; beyond it they are given up for good.
    """

    def __init__(self, share: float, memory: int) -> None:
        super().__init__(share)
        self.memory, self.given_up = memory, False
        self.held, self.prune_at = 0, memory // 4
        self.parts: list[Arrays] = []

    def take_maps(self, rows: np.ndarray, maps: Tensor, masks: np.ndarray) -> None:
        """Keep those of the maps (B, U, h, w) that exceed the bound, and the masks (B, C, size, size) of the images."""
        if self.given_up:
            return
        image, unit = (maps.amax((2, 3)) > torch.from_numpy(self.bound()).to(maps.device)).nonzero(as_tuple=True)
        packed = [zlib.compress(np.packbits(mask), 1) for mask in masks]
        self._keep({
            "rows": rows, "lengths": np.array([*map(len, packed)]), "masks": np.frombuffer(b"".join(packed), np.uint8),
            "image": rows[image.cpu().numpy()], "unit": unit.cpu().numpy(), "maps": maps[image, unit].cpu().numpy(),
        })  # fmt: skip

    def batches(self, shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor, Tensor]]:
        """Yield of some images at a time rows, and of each map its image's place among them, ascending, unit and values; masks."""
        for part in self.parts:
            ends = np.cumsum(part["lengths"])
            for start in range(0, len(ends), AT_ONCE):
                rows = part["rows"][start : start + AT_ONCE]
                place = pd.Index(rows).get_indexer(part["image"])
                own = np.argsort(place, kind="stable")[(place < 0).sum() :]
                packed = [part["masks"][ends[k] - part["lengths"][k] : ends[k]] for k in range(start, start + len(rows))]
                bits = [np.unpackbits(np.frombuffer(zlib.decompress(one), np.uint8)) for one in packed]
                masks = np.stack([one[: int(np.prod(shape))].reshape(shape) for one in bits]).astype(bool)
                found = (place[own], part["unit"][own], part["maps"][own], masks)
                yield rows, *map(torch.from_numpy, found)

    def _keep(self, part: Arrays) -> None:
        self.parts.append(part)
        self.held += sum(array.nbytes for array in part.values())
        if self.held > self.prune_at:
            bound = self.bound()
            self.parts = [_pruned(part, bound) for part in self.parts]
            self.held = sum(array.nbytes for part in self.parts for array in part.values())
            self.prune_at = min(self.memory, max(self.prune_at, 2 * self.held))
        if self.held > self.memory:
            self.parts, self.given_up = [], True

    def fresh(self) -> TailMaps:
        return TailMaps(self.share, self.memory)

    def merge(self, other: TailMaps) -> None:
        super().merge(other)
        if self.largest is not None:
            self.kept()
        if self.given_up or other.given_up:
            self.parts, self.given_up = [], True
        for part in other.parts:
            self._keep(part)

    def arrays(self) -> Arrays:
        found = super().arrays() | {"given_up": np.array(self.given_up)}
        bound = self.bound() if self.parts else None
        parts = [_pruned(part, bound) for part in self.parts]
        return found | {f"maps_{name}": np.concatenate([part[name] for part in parts]) for name in (parts or [{}])[0]}

    def load(self, arrays: Arrays) -> None:
        super().load({name: arrays[name] for name in ("largest", "counts") if name in arrays})
        self.given_up, self.parts, self.held = bool(arrays["given_up"]), [], 0
        if part := {name[5:]: array for name, array in arrays.items() if name.startswith("maps_")}:
            self._keep(part)


def _pruned(part: Arrays, bound: np.ndarray) -> Arrays:
    """Return a part without the maps that do not exceed their unit's bound."""
    stays = part["maps"].max((1, 2), initial=-np.inf) > bound[part["unit"]]
    return part | {name: part[name][stays] for name in ("image", "unit", "maps")}


class Candidates(TailQuantile):
    """Exact thresholds, each image's maxima, and the maps that can still lie above the thresholds.

    Parameters
    ----------
    view : the concepts and the size at which pixels are counted.
    memory : see `TailMaps`.
    """

    def __init__(self, layer: str, paths: np.ndarray, quantile: float, view: MaskView, memory: int) -> None:
        super().__init__(layer, paths, quantile)
        self.view, self.masks = view, (view,)
        self.tail = TailMaps(quantile, memory)
        self.seen, self.minimum = Rows(), Least()

    def update(self, batch: ProbedBatch) -> None:
        super().update(batch)
        maps = batch.activations[self.layer]
        present = batch.present[self.view].numpy()
        self.seen.take(batch.rows, maximum=maps.amax((2, 3)).cpu().numpy(), present=present)
        self.minimum.take(maps.amin((0, 2, 3)).cpu().numpy())
        self.tail.kept()
        self.tail.take_maps(batch.rows, maps, batch.masks[self.view].cpu().numpy())

    def result(self) -> xr.Dataset:
        """Return threshold, minimum (unit), maximum (image, unit), has_concept (image, concept), images (concept)."""
        rows, maximum, present = self.seen.by_row("rows", "maximum", "present")
        return super().result().assign(
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
