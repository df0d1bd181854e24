"""Regions exchanged between two faces one after another, made where the model runs and shown to it in full batches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from facexkit.faces.faceset import FaceBatch
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Walk

FROM_TOP = [REGIONS.index(name) for name in TOP_TO_BOTTOM]
"""The regions' places, the uppermost first."""


@dataclass(frozen=True)
class FacePairs:
    """Pairs of faces of a set, by their row numbers, and which regions are exchanged between them.

    Attributes
    ----------
    rows : int64 (P, 2), the first face of each pair and the second.
    orders : int64 (P, R), for each pair the order, a permutation of the positions in `REGIONS`, of a walk; or
    sets : bool (S, R), sets of regions, each exchanged for itself in every pair.
    seam : pixels over which the edge of what is exchanged is blended, on either side; 0 for a hard edge.
    """

    rows: np.ndarray
    orders: np.ndarray | None = None
    sets: np.ndarray | None = None
    seam: int = 0


@torch.no_grad()
def exchanged(
    model: FaceModel, faces: FaceBatch, view: MaskView, pairs: FacePairs, numbers: np.ndarray, batch_size: int
) -> Walk:
    """Exchange regions between the faces of some pairs and ask the model after each exchange.

    Of the two regions that the masks of a pair have at a pixel, the upper one owns it, so the regions partition the
    image; a region that owns no pixel is no step. x_k = the first face with the pixels of the first k regions taken from
    the second, or with those of the k-th set.

    Parameters
    ----------
    faces : 2·B faces, first and second of each of the pairs `numbers` in turn, with their masks in `view`.
    batch_size : how many composites the model sees at a time.
    """
    device, rows = model.device, faces.rows[0::2]
    last = model.at(rows) is not model
    first, second, owner = _ends(faces, view, device)
    if pairs.sets is None:
        regions, taken, asked = _steps(owner, torch.as_tensor(pairs.orders[numbers], device=device), last)
    else:
        taken = torch.as_tensor(pairs.sets[:, FROM_TOP], device=device).expand(len(rows), -1, -1)
        regions, asked = torch.empty(len(rows), 0), torch.ones(taken.shape[:2], dtype=torch.bool, device=device)
    outputs = None
    for pair, step in zip(*(part.split(batch_size) for part in asked.nonzero(as_tuple=True)), strict=True):
        other = taken[pair, step].gather(1, owner[pair].flatten(1)).view(len(pair), 1, *owner.shape[1:])
        composites = _blended(first[pair], second[pair], other, pairs.seam)
        said = model.at(rows[pair.cpu().numpy()])(model.prepare(composites)).double()
        if outputs is None:
            outputs = said.new_full((*asked.shape, said.shape[1]), torch.nan)
        outputs[pair, step] = said
    return Walk(regions.cpu(), outputs.cpu())


def composed(faces: FaceBatch, view: MaskView, regions: Sequence[str]) -> Tensor:
    """Return the first face of each pair with some regions of the second, uint8 (B, 3, S, S); see `exchanged`."""
    first, second, owner = _ends(faces, view, faces.images.device)
    taken = torch.tensor([REGIONS[place] in regions for place in FROM_TOP], device=owner.device)
    return _blended(first, second, taken[owner][:, None], 0)


def _ends(faces: FaceBatch, view: MaskView, device: torch.device) -> tuple[Tensor, Tensor, Tensor]:
    """Return the first faces of pairs, the second ones, and how far from the top each pixel's owner lies (B, S, S)."""
    first, second = (faces.images[k::2].to(device) for k in (0, 1))
    owner = _uppermost(faces.masks[view].to(device))
    return first, second, torch.minimum(owner[0::2], owner[1::2])


def _blended(first: Tensor, second: Tensor, other: Tensor, seam: int) -> Tensor:
    """Return uint8 images (B, 3, S, S): the second where `other` (B, 1, S, S), else the first, over a seam a mixture."""
    if not seam:
        return torch.where(other, second, first)
    part = F.avg_pool2d(other.float(), 2 * seam + 1, 1, seam, count_include_pad=False)
    return (first + part * (second.float() - first)).round().to(first.dtype)


def _uppermost(masks: Tensor) -> Tensor:
    """Return how far from the top each pixel's region lies, int64 (B, S, S), of masks (B, regions, S, S)."""
    ordered = masks[:, FROM_TOP].clone()
    ordered[:, -1] = True  # where there is nothing, there is background
    return ordered.to(torch.uint8).argmax(1)


def _steps(owner: Tensor, orders: Tensor, last: bool) -> tuple[Tensor, Tensor, Tensor]:
    """Cut walks in the order `orders` (B, R) into steps, one for each region that owns a pixel.

    Returns
    -------
    regions : int64 (B, R), the region of each step, −1 beyond. taken : bool (B, step, height), what is exchanged by then.
    asked : bool (B, R), the steps after which the model is asked: without the last one, unless `last`.
    """
    height_of = torch.tensor([FROM_TOP.index(region) for region in range(len(REGIONS))], device=owner.device)
    heights = height_of[orders]
    present = torch.zeros_like(heights, dtype=torch.bool).scatter_(1, owner.flatten(1), True)
    own = present.gather(1, heights)
    counted = own.cumsum(1) - 1
    step = torch.empty_like(heights).scatter_(1, heights, counted)
    regions = torch.full_like(heights, -1)
    pair, place = own.nonzero(as_tuple=True)
    regions[pair, counted[pair, place]] = orders[pair, place]
    steps = torch.arange(len(REGIONS), device=owner.device)
    asked = steps < (own.sum(1, keepdim=True) - int(not last)).clamp(min=1)
    return regions, step[:, None] <= steps[:, None], asked
