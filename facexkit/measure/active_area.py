"""Where upsampled activation maps exceed their threshold, without upsampling what cannot."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import torch
from torch import Tensor

CELLS_AT_ONCE = 2048


class ActiveArea:
    """Counts of active pixels, in all and within masks, of maps upsampled bilinearly with half-pixel centres.

    Between four neighbouring places of a map the upsampled pixels form a cell. They are weighted means of those four
    values, so a cell none of whose corners exceeds the threshold has no active pixel and is left out.

    Parameters
    ----------
    height, width : of the maps.
    size : side length of the square that they are upsampled to.
    """

    def __init__(self, height: int, width: int, size: int) -> None:
        self.grid = (height + 1, width + 1)
        self.pixels_y, self.weight_y = _cells(height, size)
        self.pixels_x, self.weight_x = _cells(width, size)

    def count(
        self, maps: Tensor, thresholds: Tensor, owner: Tensor, masks: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Count active pixels.

        Parameters
        ----------
        maps : float32 (n, h, w), one a pair of image and unit.
        thresholds : float32 (n,).
        owner : int64 (n,), which of the masks' images a map belongs to.
        masks : bool (B, C, size, size).

        Returns
        -------
        active : int64 (n,), pixels above the threshold.
        inside : int64 (n, C), those of them that lie in each mask.
        """
        active = torch.zeros(len(maps), dtype=torch.int64, device=maps.device)
        inside = torch.zeros(len(maps), masks.shape[1], dtype=torch.int64, device=maps.device)
        tiles = self._tiles(masks)
        touched = tiles.any(-1)
        for pair, cell, lit in self._active_cells(maps, thresholds):
            active.index_add_(0, pair, lit.sum(1).long())
            for concept in range(masks.shape[1]):
                image = owner[pair]
                both = touched[concept, image, cell].nonzero()[:, 0]
                if len(both):
                    overlap = tiles[concept, image[both], cell[both]].float().mul_(lit[both]).sum(1)
                    inside[:, concept].index_add_(0, pair[both], overlap.long())
        return active, inside

    def _active_cells(self, maps: Tensor, thresholds: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """Yield (map, cell, 1.0 where active else 0.0: float (cells, pixels of a cell)), some cells at a time."""
        padded = torch.nn.functional.pad(maps[:, None], (1, 1, 1, 1), mode="replicate")[:, 0]
        above = padded > thresholds[:, None, None]
        above = above[:, 1:] | above[:, :-1]
        pairs, ys, xs = (above[:, :, 1:] | above[:, :, :-1]).nonzero(as_tuple=True)
        wy, wx = self.weight_y.to(maps.device), self.weight_x.to(maps.device)
        for start in range(0, len(pairs), CELLS_AT_ONCE):
            pair, y, x = (part[start : start + CELLS_AT_ONCE] for part in (pairs, ys, xs))
            left_right = wx[x]
            upper = torch.lerp(padded[pair, y, x, None], padded[pair, y, x + 1, None], left_right)
            lower = torch.lerp(padded[pair, y + 1, x, None], padded[pair, y + 1, x + 1, None], left_right)
            values = torch.lerp(upper[:, None], lower[:, None], wy[y][:, :, None])
            yield pair, y * self.grid[1] + x, (values > thresholds[pair, None, None]).flatten(1).float()

    def _tiles(self, masks: Tensor) -> Tensor:
        """Cut masks (B, C, size, size) into bool (C, B, cells, pixels of a cell)."""
        rows = masks.transpose(0, 1)[:, :, self.pixels_y.to(masks.device)]
        tiles = rows[..., self.pixels_x.to(masks.device)]  # (C, B, cells y, pixels y, cells x, pixels x)
        return tiles.movedim(4, 3).flatten(4).flatten(2, 3)


def _cells(length: int, size: int) -> tuple[Tensor, Tensor]:
    """Divide the pixels of one axis among the length + 1 cells between (and beyond) its places.

    Returns
    -------
    pixels : int64 (cells, P), the pixels of each cell, padded by repeating the last.
    weight : float32 (cells, P), how far each lies towards the cell's second place; NaN in the padding, which then is
        never above a threshold.
    """
    source = (np.arange(size) + 0.5) * length / size - 0.5
    cell = np.floor(source).astype(int) + 1
    longest = np.bincount(cell, minlength=length + 1).max()
    pixels, weight = np.zeros((length + 1, longest), int), np.full((length + 1, longest), np.nan, np.float32)
    for k in range(length + 1):
        own = np.flatnonzero(cell == k)
        if len(own):
            pixels[k] = np.pad(own, (0, longest - len(own)), mode="edge")
            weight[k, : len(own)] = source[own] - (k - 1)
    return torch.from_numpy(pixels), torch.from_numpy(weight)
