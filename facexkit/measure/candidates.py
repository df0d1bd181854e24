"""The first look of a dissection: thresholds, and the maps that may still count, so that faces need not pass twice."""

from __future__ import annotations

import zlib
from collections.abc import Iterator
from tempfile import TemporaryFile
from typing import IO

import numpy as np
import pandas as pd
import torch
import xarray as xr
from torch import Tensor

from facexkit.faces.cache import cache_folder
from facexkit.faces.mask_view import MaskView
from facexkit.measure.iou_tally import IoUTally
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.state import Arrays, Least, Rows, Tail

AT_ONCE = 64
"""Images that are tallied together."""


class TailMaps(Tail):
    """A tail, and whole the maps that reach into it, with the masks of their images, while there is room for them.

    The value at the end of the tail of what has been seen can only rise, so a map that does not exceed it is dropped. What
    is merged goes to a file in the cache, and memory holds no more than a shard.

    Parameters
    ----------
    room : bytes that maps and masks may take in the file; beyond it they are given up for good.
    """

    def __init__(self, share: float, room: int) -> None:
        super().__init__(share)
        self.room, self.given_up = room, room == 0
        self.parts: list[Arrays] = []
        self.file: IO[bytes] | None = None
        self.places: list[dict[str, int]] = []

    def take_maps(self, rows: np.ndarray, maps: Tensor, masks: np.ndarray) -> None:
        """Keep those of the maps (B, U, h, w) that exceed the bound, and the masks (B, C, size, size) of the images."""
        if self.given_up:
            return
        image, unit = (maps.amax((2, 3)) > torch.from_numpy(self.bound()).to(maps.device)).nonzero(as_tuple=True)
        packed = [zlib.compress(np.packbits(mask), 1) for mask in masks]
        self.parts.append({
            "rows": rows, "lengths": np.array([*map(len, packed)]), "masks": np.frombuffer(b"".join(packed), np.uint8),
            "image": rows[image.cpu().numpy()], "unit": unit.cpu().numpy(), "maps": maps[image, unit].cpu().numpy(),
        })  # fmt: skip

    def batches(self, shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor, Tensor]]:
        """Yield of some images at a time rows, and of each map its image's place among them, ascending, unit and values; masks."""
        for part in self._every_part():
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

    def _every_part(self) -> Iterator[Arrays]:
        yield from self.parts
        for places in self.places:
            yield {name: self._read(place) for name, place in places.items()}

    def _read(self, place: int) -> np.ndarray:
        self.file.seek(place)
        return np.load(self.file, allow_pickle=False)

    def _spill(self, part: Arrays) -> None:
        """Append a part to the file, or give all up where there is no room."""
        if self.file is None:
            cache_folder().mkdir(parents=True, exist_ok=True)
            self.file = TemporaryFile(dir=cache_folder())
        places = {}
        self.file.seek(0, 2)
        for name, array in part.items():
            places[name] = self.file.tell()
            np.save(self.file, array)
        self.places.append(places)
        if self.file.tell() > self.room:
            self._give_up()

    def _give_up(self) -> None:
        self.parts, self.places, self.file, self.given_up = [], [], None, True

    def fresh(self) -> TailMaps:
        return TailMaps(self.share, self.room)

    def merge(self, other: TailMaps) -> None:
        super().merge(other)
        if other.given_up:
            self._give_up()
        for part in other.parts:
            self.kept()
            if not self.given_up:
                self._spill(_pruned(part, self.bound()))

    def arrays(self) -> Arrays:
        found = super().arrays() | {"given_up": np.array(self.given_up)}
        parts = [_pruned(part, self.bound()) for part in self._every_part()]
        return found | {f"maps_{name}": np.concatenate([part[name] for part in parts]) for name in (parts or [{}])[0]}

    def load(self, arrays: Arrays) -> None:
        super().load({name: arrays[name] for name in ("largest", "counts") if name in arrays})
        part = {name[5:]: array for name, array in arrays.items() if name.startswith("maps_")}
        self.given_up, self.parts = bool(arrays["given_up"]), [part] if part else []


def _pruned(part: Arrays, bound: np.ndarray) -> Arrays:
    """Return a part without the maps that do not exceed their unit's bound."""
    stays = part["maps"].max((1, 2), initial=-np.inf) > bound[part["unit"]]
    return part | {name: part[name][stays] for name in ("image", "unit", "maps")}


class Candidates(TailQuantile):
    """Exact thresholds, each image's maxima, and the maps that can still lie above the thresholds.

    Parameters
    ----------
    view : the concepts and the size at which pixels are counted.
    room : see `TailMaps`.
    """

    def __init__(self, layer: str, paths: np.ndarray, quantile: float, view: MaskView, room: int) -> None:
        super().__init__(layer, paths, quantile)
        self.view, self.masks = view, (view,)
        self.tail = TailMaps(quantile, room)
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
