"""The masks that a computation wants, at the size that it wants them."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from PIL import Image

from facexkit.faces.regions import UNIONS


@dataclass(frozen=True)
class MaskView:
    """Which masks a computation wants, at which size.

    Parameters
    ----------
    names : regions or concepts, the channels of the result in this order.
    size : side length in pixels.
    resample : "nearest", or "antialias": every place that the antialiased bilinear filter touches.
    through : with "antialias", a size that the mask is first resized to as a picture is (Pillow); the model's input
        size makes the mask as coarse as what the model sees.
    """

    names: tuple[str, ...]
    size: int
    resample: str = "nearest"
    through: int | None = None

    def of(self, masks: dict[str, np.ndarray]) -> np.ndarray:
        """Return bool (len(names), size, size) of one image's masks."""
        out = np.zeros((len(self.names), self.size, self.size), bool)
        for channel, name in enumerate(self.names):
            mask = named_mask(masks, name)
            if mask is None:
                continue
            if self.resample == "nearest":
                rows = _nearest(mask.shape[0], self.size)
                out[channel] = mask[rows[:, None], _nearest(mask.shape[1], self.size)]
            else:
                out[channel] = _touched(mask, self.through, self.size)
        return out

    def present(self, masks: dict[str, np.ndarray]) -> list[bool]:
        """Return for each name whether one image's mask has a pixel."""
        return [named_mask(masks, name) is not None for name in self.names]


def named_mask(masks: dict[str, np.ndarray], name: str) -> np.ndarray | None:
    """Return an image's mask by its own name or that of a union of regions; None where it has no pixel."""
    parts = [masks[part] for part in (name, *UNIONS.get(name, ())) if part in masks]
    return np.logical_or.reduce(parts) if parts and any(part.any() for part in parts) else None


def _nearest(length: int, size: int) -> np.ndarray:
    """Return the source position of each of `size` places, as OpenCV's INTER_NEAREST takes it."""
    return np.minimum((np.arange(size) * (1 / (size / length))).astype(int), length - 1)  # rounded twice, as there


def _touched(mask: np.ndarray, through: int | None, size: int) -> np.ndarray:
    if through:
        grey = Image.fromarray(mask.astype(np.uint8) * 255)
        mask = np.asarray(grey.resize((through, through), Image.Resampling.BILINEAR)) > 0
    weight = F.interpolate(torch.from_numpy(mask).float()[None, None], (size, size), mode="bilinear", antialias=True)
    return weight[0, 0].numpy() > 0
