"""Where upsampled activation maps exceed their threshold, without upsampling what cannot."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

BLOCKS = 8
"""The upsampled square is divided into about BLOCKS × BLOCKS parts, each computed only for the maps that need it."""


@dataclass(frozen=True)
class _Block:
    """A range of pixels of one axis, the places of the padded map that they lie between, and how they are weighted.

    `weight` float32 (places, pixels): of each pixel's two places 1 − t and t, of the others 0.
    """

    pixels: slice
    places: slice
    weight: Tensor


class ActiveArea:
    """Counts of active pixels, in all and within masks, of maps upsampled bilinearly with half-pixel centres.

    A pixel is a weighted mean of the four places around it, so a block of pixels between places none of which exceeds
    the threshold has no active pixel and is left out.

    Parameters
    ----------
    height, width : of the maps.
    size : side length of the square that they are upsampled to.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        self.rows, self.columns = _blocks(height, size), _blocks(width, size)

    def count(self, maps: Tensor, thresholds: Tensor, image: Tensor, masks: Tensor) -> tuple[Tensor, Tensor]:
        """Count active pixels.

        Parameters
        ----------
        maps : float32 (n, h, w), one a pair of image and unit.
        thresholds : float32 (n,).
        image : int64 (n,), ascending: which of the masks' images a map belongs to.
        masks : bool (B, C, size, size).

        Returns
        -------
        active : int64 (n,), pixels above the threshold.
        inside : int64 (n, C), those of them that lie in each mask.
        """
        padded = F.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        above = padded > thresholds[:, None, None]
        counts = torch.zeros(len(maps), 1 + masks.shape[1], device=maps.device)
        for row, column in product(self.rows, self.columns):
            near = (slice(None), row.places, column.places)
            hit = above[near].flatten(1).any(1).nonzero()[:, 0]
            if len(hit):
                weight = torch.kron(row.weight, column.weight).to(maps.device)
                lit = padded[near][hit].flatten(1) @ weight
                torch.gt(lit, thresholds[hit, None], out=lit)
                tiles = masks[:, :, row.pixels, column.pixels].flatten(2).float()
                counts[hit] += _overlaps(lit, image[hit], F.pad(tiles, (0, 0, 1, 0), value=1))
        return counts[:, 0].long(), counts[:, 1:].long()


def _overlaps(lit: Tensor, image: Tensor, tiles: Tensor) -> Tensor:
    """Count where `lit` (k, P) meets the tiles (B, C, P) of its image, all 0 or 1; returns float (k, C), exact."""
    overlaps = torch.empty(len(lit), tiles.shape[1], device=lit.device)
    found, lengths = image.unique_consecutive(return_counts=True)
    parts = zip(found.tolist(), lit.split(lengths.tolist()), overlaps.split(lengths.tolist()), strict=True)
    for b, own, counted in parts:
        torch.mm(own, tiles[b].T, out=counted)
    return overlaps


def _blocks(length: int, size: int) -> list[_Block]:
    """Divide the pixels of one axis into blocks that end between places; the map is padded by one place each side."""
    source = (np.arange(size) + 0.5) * length / size - 0.5
    before = np.floor(source).astype(int) + 1  # in the padded map
    beyond = source + 1 - before
    width = -(-(length + 1) // BLOCKS)
    blocks = []
    for start in range(0, length + 1, width):
        own = np.flatnonzero((before >= start) & (before < start + width))
        if len(own):
            weight = np.zeros((width + 1, len(own)), np.float32)
            pixel = np.arange(len(own))
            weight[before[own] - start, pixel] = 1 - beyond[own]
            weight[before[own] - start + 1, pixel] = beyond[own]
            places = slice(start, min(start + width + 1, length + 2))
            weight = torch.from_numpy(weight[: places.stop - start])
            blocks.append(_Block(slice(own[0], own[-1] + 1), places, weight))
    return blocks
