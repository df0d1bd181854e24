"""The masks that a computation wants, at the size that it wants them, as the bits of 32-bit integers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property, lru_cache, reduce

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facexkit.faces.regions import UNIONS

BITS = 32
FRACTION = 22
"""Pillow's weights of bytes are integers in units of 2^−22."""
SURE = 0.0454
"""A mask's pixel with this weight along both axes is above 0 in Pillow's bytes: w·(255·w − ½) > ½."""
AT_ONCE = 1 << 22


def sides(size: int | tuple[int, int]) -> tuple[int, int]:
    """Return the height and the width of a size, which is one number where they are the same."""
    return size if isinstance(size, tuple) else (size, size)


@dataclass(frozen=True, eq=False)
class IndexMask(Mapping[str, np.ndarray]):
    """Masks that do not overlap, in one image: bool (H, W) by name, of the names that have a pixel.

    Parameters
    ----------
    index : int (H, W), positions in `names`.
    """

    index: np.ndarray
    names: tuple[str, ...]

    @cached_property
    def found(self) -> np.ndarray:
        """The positions in `names` that have a pixel: those with which a row or a run in a row begins."""
        runs = self.index[:, 1:][self.index[:, 1:] != self.index[:, :-1]]
        return np.flatnonzero(np.bincount(np.concatenate([self.index[:, 0], runs])))

    def __getitem__(self, name: str) -> np.ndarray:
        if name not in list(self):
            raise KeyError(name)
        return self.index == self.names.index(name)

    def __iter__(self) -> Iterator[str]:
        return (self.names[value] for value in self.found)

    def __len__(self) -> int:
        return len(self.found)


@dataclass(frozen=True)
class MaskView:
    """Which masks a computation wants, at which size.

    Parameters
    ----------
    names : regions, unions of them or concepts, the channels of the result in this order.
    size : side length in pixels, or (height, width).
    resample : "nearest", the source pixel at each pixel's centre, ⌊(x + ½)·W/w⌋, as Pillow takes it; or "antialias":
        every place that the antialiased bilinear filter touches.
    through : with "antialias", a size that the mask is first resized to as a picture is (Pillow, in bytes); the model's
        input size makes the mask as coarse as what the model sees.
    """

    names: tuple[str, ...]
    size: int | tuple[int, int]
    resample: str = "nearest"
    through: int | tuple[int, int] | None = None

    def pack(self, masks: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return one image's masks in bits, int32 (planes, size, size): channel c is bit c % 32 of plane c // 32."""
        shape, whole = sides(self.size), {}
        out = np.zeros((_planes(self.names), *shape), np.uint32)
        for pixels, names, _ in _layers(masks):
            table = _table(self.names, names)
            if self.resample == "nearest":
                rows, columns = map(_nearest, pixels.shape, shape)
                out |= table.take(pixels.take(rows, 0).take(columns, 1), 1)
            elif table.any():
                whole[pixels.shape] = whole.get(pixels.shape, 0) | table.take(pixels, 1)
        for bits in whole.values():
            bits = _through(bits, self.through) if self.through else bits
            touched = (_weights(length, size) > 0 for length, size in zip(bits.shape[1:], shape, strict=True))
            out |= _any(bits, *map(_windows, touched))
        return out.view(np.int32)

    def unpack(self, packed: Tensor) -> Tensor:
        """Return bool (B, names, size, size) of int32 (B, planes, size, size), on the same device."""
        masks = packed.new_empty((len(packed), len(self.names), *packed.shape[2:]), dtype=torch.bool)
        for channel in range(len(self.names)):  # one at a time stays in a processor's cache
            masks[:, channel] = packed[:, channel // BITS] >> channel % BITS & 1
        return masks

    def of(self, masks: Mapping[str, np.ndarray]) -> np.ndarray:
        """Return bool (names, size, size) of one image's masks."""
        return self.unpack(torch.from_numpy(self.pack(masks))[None])[0].numpy()

    def present(self, masks: Mapping[str, np.ndarray]) -> list[bool]:
        """Return for each name whether one image's mask has a pixel."""
        here = {names[value] for _, names, found in _layers(masks) for value in found}
        return [not here.isdisjoint((name, *UNIONS.get(name, ()))) for name in self.names]


class PackedMasks(Mapping[MaskView, Tensor]):
    """The masks of a batch, bool (B, names, size, size) by view, unpacked when they are first asked for.

    Parameters
    ----------
    packed : int32 (B, planes, size, size) by view; what is copied between processes and to a GPU.
    """

    def __init__(self, packed: Mapping[MaskView, Tensor]) -> None:
        self.packed, self.unpacked = dict(packed), {}

    def __getitem__(self, view: MaskView) -> Tensor:
        if view not in self.unpacked:
            self.unpacked[view] = view.unpack(self.packed[view])
        return self.unpacked[view]

    def __iter__(self) -> Iterator[MaskView]:
        return iter(self.packed)

    def __len__(self) -> int:
        return len(self.packed)

    def pin_memory(self) -> PackedMasks:
        """Return them in page-locked memory."""
        return PackedMasks({view: packed.pin_memory() for view, packed in self.packed.items()})

    def to(self, device: torch.device) -> PackedMasks:
        """Return them on a device, where they will be unpacked."""
        return PackedMasks({view: packed.to(device, non_blocking=True) for view, packed in self.packed.items()})


def _layers(masks: Mapping[str, np.ndarray]) -> Iterator[tuple[np.ndarray, tuple[str, ...], np.ndarray]]:
    """Yield an image's masks as index images: int (H, W), the name of each value, the values that are there."""
    if isinstance(masks, IndexMask):
        yield masks.index, masks.names, masks.found
        return
    for name, mask in masks.items():
        mask = np.asarray(mask, bool)
        yield mask.view(np.uint8), ("", name), np.arange(1, 1 + mask.any())


def _planes(names: tuple[str, ...]) -> int:
    return max(1, -(-len(names) // BITS))


@lru_cache(maxsize=1024)
def _table(names: tuple[str, ...], values: tuple[str, ...]) -> np.ndarray:
    """Return the bits of each value of an index image, uint32 (planes, values): of its name and of its unions."""
    table = np.zeros((_planes(names), len(values)), np.uint32)
    for channel, name in enumerate(names):
        has = [value == name or value in UNIONS.get(name, ()) for value in values]
        table[channel // BITS, has] |= np.uint32(1 << channel % BITS)
    return table


def _any(bits: np.ndarray, rows: np.ndarray, columns: np.ndarray) -> np.ndarray:
    """Return the bits that any pixel of each window has; windows are positions (places, widest)."""
    bits = reduce(np.bitwise_or, (bits.take(at, 1) for at in rows.T))
    return reduce(np.bitwise_or, (bits.take(at, 2) for at in columns.T))


def _windows(inside: np.ndarray) -> np.ndarray:
    """Return the positions of each window, whose places follow each other: bool (places, length) → (places, widest)."""
    count = inside.sum(1)
    return inside.argmax(1)[:, None] + np.minimum(np.arange(count.max()), count[:, None] - 1)


@lru_cache(maxsize=64)
def _nearest(length: int, size: int) -> np.ndarray:
    """Return ⌊(x + ½)·length/size⌋ as Pillow's running sum gives it where a centre lies on the edge of two pixels."""
    step = length / size
    return np.cumsum(np.r_[step / 2, np.full(size - 1, step)]).astype(int)


@lru_cache(maxsize=64)
def _weights(length: int, size: int, kind: torch.dtype = torch.float32) -> np.ndarray:
    """Return the weights of `length` places for each of `size` in the antialiased bilinear filter: (size, length)."""
    places = torch.eye(length, dtype=kind)[None, :, None]
    return F.interpolate(places, (1, size), mode="bilinear", antialias=True)[0, :, 0].T.numpy()


@lru_cache(maxsize=64)
def _pillow(length: int, size: int) -> tuple[np.ndarray, np.ndarray, np.ndarray | None]:
    """Return the windows of Pillow's bilinear filter, its weights there, and the windows of those that are sure."""
    weights = _weights(length, size, torch.float64)
    units = (weights * (1 << FRACTION) + 0.5).astype(np.int64)
    windows, sure = _windows(units > 0), weights >= SURE
    own = np.arange(windows.shape[1]) < (units > 0).sum(1)[:, None]
    return windows, np.take_along_axis(units, windows, 1) * own, _windows(sure) if sure.any(1).all() else None


def _through(bits: np.ndarray, size: int | tuple[int, int]) -> np.ndarray:
    """Return the bits of the masks that are above 0 when Pillow resizes each, 0 and 255, to bytes (size, size)."""
    (rows, down, sure_rows), (columns, across, sure_columns) = map(_pillow, bits.shape[1:], sides(size))
    found = _any(bits, rows, columns)
    doubt = found if sure_rows is None or sure_columns is None else found & ~_any(bits, sure_rows, sure_columns)
    at = np.flatnonzero(doubt != 0)
    which, bit = np.nonzero(doubt.ravel()[at, None] >> np.arange(BITS, dtype=np.uint32) & 1)
    at, bit = at[which], bit.astype(np.uint32)
    plane, y, x = np.unravel_index(at, found.shape)
    for part in np.array_split(np.arange(len(at)), 1 + len(at) * rows.shape[1] * columns.shape[1] // AT_ONCE):
        lines = plane[part, None] * bits.shape[1] + rows[y[part]]
        seen = bits.ravel().take(lines[:, :, None] * bits.shape[2] + columns[x[part], None])
        lit = (seen >> bit[part, None, None] & 1).astype(bool)
        flat = _bytes((lit * across[x[part], None]).sum(2) * 255)
        gone = part[_bytes((flat * down[y[part]]).sum(1)) == 0]
        np.bitwise_xor.at(found.ravel(), at[gone], np.uint32(1) << bit[gone])
    return found


def _bytes(sums: np.ndarray) -> np.ndarray:
    return (sums + (1 << FRACTION - 1)) >> FRACTION
