"""Shards: blocks of consecutive rows, whose finished states are written down so that a killed pass can go on."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from safetensors import SafetensorError
from safetensors.numpy import load, save

from facexkit.errors import told
from facexkit.faces.cache import write_whole
from facexkit.probe.accumulator import Accumulator
from facexkit.probe.state import Arrays

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
    blocks = (rows[start : start + size] for start in range(0, len(rows), size))
    return [
        Shard(place, tuple(block[start : start + batch_size] for start in range(0, len(block), batch_size)))
        for place, block in enumerate(blocks)
    ]


def states_of(accumulators: Sequence[Accumulator]) -> Arrays:
    """Return the states of accumulators as one set of arrays."""
    return {f"{k}.{key}": array for k, own in enumerate(accumulators) for key, array in own.state_dict().items()}


def take_states(accumulators: Sequence[Accumulator], arrays: Arrays) -> None:
    """Let accumulators hold what `states_of` gave."""
    for k, accumulator in enumerate(accumulators):
        own = {key: array for key, array in arrays.items() if key.startswith(f"{k}.")}
        accumulator.load_state_dict({key.removeprefix(f"{k}."): array for key, array in own.items()})


class ShardFiles:
    """The states of finished shards in a folder, one safetensors file each, under the fingerprint of their pass.

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
        with told(f"{self._path(shard)} cannot be read", "remove it and run again", (OSError, SafetensorError)):
            found = load(self._path(shard).read_bytes())
        return dict(_with_texts(name, array) for name, array in found.items())

    def write(self, shard: Shard, states: Arrays) -> None:
        """Write a shard's states down, whole or not at all."""
        write_whole(self._path(shard), save(dict(_without_texts(name, array) for name, array in states.items())))

    def _path(self, shard: Shard) -> Path:
        return self.folder / f"{shard.place:06d}.safetensors"


def _without_texts(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Return an array that a safetensors file holds: of texts their code points, and their length in the name."""
    if array.dtype.kind != "U":
        return name, np.ascontiguousarray(array)
    length = array.dtype.itemsize // 4
    return f"{name}|{length}", np.ascontiguousarray(array).view(np.uint32).reshape(*array.shape, length)


def _with_texts(name: str, array: np.ndarray) -> tuple[str, np.ndarray]:
    """Return what `_without_texts` was given."""
    plain, _, length = name.partition("|")
    return plain, array.view(f"U{length}")[..., 0] if length else array
