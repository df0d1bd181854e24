"""Shards: blocks of consecutive rows, whose finished states are written down so that a killed pass can go on."""

from __future__ import annotations

import hashlib
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from facexkit.errors import told
from facexkit.faces.cache import write_whole
from facexkit.probe.accumulator import Accumulator
from facexkit.probe.state import Arrays, those_under

SHARD = 512
"""Rows in a shard, whatever the number of workers."""


@dataclass(frozen=True)
class Shard:
    """A block of the rows of a pass: its place among the shards, and its rows batch by batch."""

    place: int
    batches: tuple[np.ndarray, ...]

    @property
    def rows(self) -> int:
        """How many rows it has."""
        return sum(map(len, self.batches))


def cut(rows: np.ndarray, batch_size: int, size: int = SHARD) -> list[Shard]:
    """Cut rows into shards of `size`, and these into batches; no batch crosses a shard's end."""
    blocks = enumerate(np.split(rows, range(size, len(rows), size)))
    return [Shard(place, tuple(np.split(block, range(batch_size, len(block), batch_size)))) for place, block in blocks]


def states_of(accumulators: Sequence[Accumulator]) -> Arrays:
    """Return the states of accumulators as one set of arrays."""
    return {f"{place}.{name}": array for place, own in enumerate(accumulators) for name, array in own.state_dict().items()}


def take_states(accumulators: Sequence[Accumulator], arrays: Arrays) -> None:
    """Let accumulators hold what `states_of` gave."""
    for place, own in enumerate(accumulators):
        own.load_state_dict(those_under(f"{place}.", arrays))


class ShardFiles:
    """The states of finished shards in a folder, one npz file each, under the fingerprint of their pass.

    Parameters
    ----------
    folder : holds a folder for each pass.
    made_by : texts that change with whatever could change a number.
    """

    def __init__(self, folder: str | Path, made_by: Sequence[str]) -> None:
        key = hashlib.sha256("\n".join(made_by).encode()).hexdigest()[:16]
        self.folder = Path(folder).expanduser() / key

    def has(self, shard: Shard) -> bool:
        """Whether the states of a shard are there."""
        return self._path(shard).is_file()

    def read(self, shard: Shard) -> Arrays:
        """Return the states of a shard; a damaged file is an error."""
        with told(f"{self._path(shard)} cannot be read", "remove it and run again"), np.load(self._path(shard)) as file:
            return dict(file)

    def write(self, shard: Shard, states: Arrays) -> None:
        """Write a shard's states down, whole or not at all."""
        np.savez(content := io.BytesIO(), **states)
        write_whole(self._path(shard), content.getvalue())

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.place:06d}.npz"
