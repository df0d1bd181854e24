"""What of the maps of a pass may still lie above the thresholds, so that faces need not pass again."""

from __future__ import annotations

import pickle
import zlib
from collections.abc import Iterator
from os import SEEK_END
from tempfile import SpooledTemporaryFile
from typing import IO

import numpy as np
import pandas as pd
import torch
from torch import Tensor

from facexkit.faces.cache import cache_folder
from facexkit.probe.state import Arrays
from facexkit.probe.tail import Counts, Tail, lower_bits

AT_ONCE = 64
"""Images that are tallied together."""
COUNTED, VALUES, MAPS = range(3)
"""What is kept: nothing but counts, the values above the floor, or whole maps that reach above it and their images' masks."""
IN_MEMORY = 32 << 20
"""Bytes beyond which what is kept lies on a disk."""
IN_A_SHARD = 1 / 16
"""The part of the room that one shard may take."""


class KeptTail(Tail):
    """A tail, and what exceeds its floor, while there is room for it: whole maps with masks, else values, else nothing.

    It goes to a file in the cache that has no name, and memory holds little of it.

    Parameters
    ----------
    room : bytes that the file may take; a shard may take a sixteenth of it.
    level : what is kept, `MAPS` or `VALUES`; it only sinks.
    """

    def __init__(self, share: float, room: int, level: int) -> None:
        super().__init__(share)
        self.room, self.level = room, level if room else COUNTED
        self.file: IO[bytes] | None = None
        self.parts = 0

    def look(self, rows: np.ndarray, maps: Tensor, most: int, masks: Tensor | None = None) -> None:
        """Take in the maps (B, U, h, w) of rows, and the masks (B, C, size, size) of the images; `most` as in `begin`."""
        self.begin(maps.shape[1], most)
        above = maps > self._floor_of(maps)[:, None, None]
        units = torch.arange(maps.shape[1], device=maps.device, dtype=torch.int32)
        unit, values = (held[above].cpu().numpy() for held in (units[:, None, None].expand_as(maps), maps))
        self.take(unit, values, maps[:, 0].numel())
        if self.level == MAPS:
            image, unit = (maps.amax((2, 3)) > self._floor_of(maps)).nonzero(as_tuple=True)
            packed = [zlib.compress(np.packbits(mask), 1) for mask in masks.cpu().numpy()]
            self._add({
                "rows": rows, "lengths": np.array([*map(len, packed)]), "masks": np.frombuffer(b"".join(packed), np.uint8),
                "image": rows[image.cpu().numpy()], "unit": unit.cpu().numpy(), "maps": maps[image, unit].cpu().numpy(),
            })  # fmt: skip
        elif self.level == VALUES:
            self._add({"unit": unit, "maps": values})
        if self._size() > self.room * IN_A_SHARD:
            self._sink(self.level)
        while self._size() > self.room * IN_A_SHARD:
            self._sink(self.level - 1)

    def lower(self) -> Counts:
        """Count the lower bits of the values that decide, of what is kept."""
        counts, (edge, above, _) = Counts(), self.found()
        for part in map(_values, self.every_part()):
            counts.take(lower_bits(part["unit"], part["maps"], edge, above))
        return counts

    def batches(self, shape: tuple[int, ...]) -> Iterator[tuple[np.ndarray, Tensor, Tensor, Tensor, Tensor]]:
        """Yield of some images at a time rows, and of each map its image's place among them, ascending, unit and values; masks."""
        for part in self.every_part():
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

    def fresh(self) -> KeptTail:
        twin = KeptTail(self.share, self.room, self.level)
        twin.floor = self.floor
        return twin

    def merge(self, other: KeptTail) -> None:
        super().merge(other)
        if self.level > other.level:
            self._sink(other.level)
        for part in other.every_part():
            self._add(part)
        while self._size() > self.room:
            self._sink(self.level - 1)

    def arrays(self) -> Arrays:
        found = super().arrays() | {"level": np.array(self.level)}
        parts = [_above(part, self.floor) for part in self.every_part()]
        return found | {f"maps_{name}": np.concatenate([part[name] for part in parts]) for name in (parts or [{}])[0]}

    def load(self, arrays: Arrays) -> None:
        own = {name: array for name, array in arrays.items() if not name.startswith("maps_")}
        self.level = own.pop("level").item()
        super().load(own)
        self.file, self.parts = None, 0
        if part := {name[5:]: array for name, array in arrays.items() if name.startswith("maps_")}:
            self._add(part)

    def _floor_of(self, maps: Tensor) -> Tensor:
        return torch.from_numpy(self.floor).to(maps.device)

    def every_part(self) -> Iterator[Arrays]:
        """Return what was kept, as it came."""
        return _read(self.file, self.parts)

    def _add(self, part: Arrays) -> None:
        """Keep of a part what the level allows."""
        if self.level == COUNTED:
            return
        if self.file is None:
            cache_folder().mkdir(parents=True, exist_ok=True)
            self.file = SpooledTemporaryFile(IN_MEMORY, dir=cache_folder())
        self.file.seek(0, SEEK_END)
        pickle.dump(_above(part if self.level == MAPS else _values(part), self.floor), self.file, protocol=5)
        self.parts += 1

    def _sink(self, level: int) -> None:
        """Keep of everything what this level, and the floor as it is now, allow."""
        kept = self.every_part()
        self.level, self.file, self.parts = level, None, 0
        for part in kept:
            self._add(part)

    def _size(self) -> int:
        if self.file is None:
            return 0
        self.file.seek(0, SEEK_END)
        return self.file.tell()


def _read(file: IO[bytes] | None, parts: int) -> Iterator[Arrays]:
    if file is not None:
        file.seek(0)
    for _ in range(parts):
        yield pickle.load(file)


def _above(part: Arrays, floor: np.ndarray) -> Arrays:
    """Return a part without the maps, or values, that do not exceed their unit's floor."""
    stays = part["maps"].max(tuple(range(1, part["maps"].ndim)), initial=-np.inf) > floor[part["unit"]]
    return part | {name: part[name][stays] for name in ("image", "unit", "maps") if name in part}


def _values(part: Arrays) -> Arrays:
    """Return a part with every value on its own, without images and masks."""
    unit = part["unit"].astype(np.min_scalar_type(part["unit"].max(initial=0)))
    return {"unit": unit.repeat(part["maps"][:1].size), "maps": part["maps"].ravel()}
