"""Regions exchanged between two faces one after another, made where the model runs and shown to it in full batches."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import torch
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
    """Pairs of faces of a set, by their row numbers, and in which order their regions are exchanged.

    Attributes
    ----------
    rows : int64 (P, 2), the first face of each pair and the second.
    orders : int64 (P, R), for each pair a permutation of the positions in `REGIONS`.
    """

    rows: np.ndarray
    orders: np.ndarray


@torch.no_grad()
def walk(model: FaceModel, faces: FaceBatch, view: MaskView, orders: np.ndarray, batch_size: int) -> Walk:
    """Exchange the regions of pairs one after another and ask the model after every step.

    Of the two regions that the masks of a pair have at a pixel, the upper one owns it, so the regions partition the
    image; a region that owns no pixel is no step. x_k = the first face with the pixels of the first k regions taken from
    the second.

    Parameters
    ----------
    faces : 2·B faces, first and second of each pair in turn, with their masks in `view`.
    orders : int64 (B, R), positions in `REGIONS`.
    batch_size : how many composites the model sees at a time.
    """
    device, rows = model.device, faces.rows[0::2]
    last = model.at(rows) is not model
    first, second = (faces.images[k::2].to(device) for k in (0, 1))
    owner = _uppermost(faces.masks[view].to(device))
    owner = torch.minimum(owner[0::2], owner[1::2])
    height_of = torch.tensor([FROM_TOP.index(region) for region in range(len(REGIONS))], device=device)
    heights = height_of[torch.as_tensor(orders, device=device)]
    present = torch.zeros_like(heights, dtype=torch.bool).scatter_(1, owner.flatten(1), True)
    step = _steps(heights, present)
    regions = torch.full_like(heights, -1)
    own = present.gather(1, heights)
    pair, place = own.nonzero(as_tuple=True)
    regions[pair, step.gather(1, heights)[pair, place]] = torch.as_tensor(orders, device=device)[pair, place]
    asked = torch.arange(len(REGIONS), device=device) < own.sum(1, keepdim=True) - int(not last)
    outputs = None
    for pairs, taken in zip(*(part.split(batch_size) for part in asked.nonzero(as_tuple=True)), strict=True):
        reached = step[pairs].gather(1, owner[pairs].flatten(1)).view(len(pairs), *owner.shape[1:]) <= taken[:, None, None]
        composites = torch.where(reached[:, None], second[pairs], first[pairs])
        said = model.at(rows[pairs.cpu().numpy()])(model.prepare(composites)).double()
        if outputs is None:
            outputs = said.new_full((*asked.shape, said.shape[1]), torch.nan)
        outputs[pairs, taken] = said
    return Walk(regions.cpu(), outputs.cpu())


def _uppermost(masks: Tensor) -> Tensor:
    """Return how far from the top each pixel's region lies, int64 (B, S, S), of masks (B, regions, S, S)."""
    ordered = masks[:, FROM_TOP].clone()
    ordered[:, -1] = True  # where there is nothing, there is background
    return ordered.to(torch.uint8).argmax(1)


def _steps(heights: Tensor, present: Tensor) -> Tensor:
    """Return at which step each height is exchanged, int64 (B, R): those that are present, in the order of `heights`."""
    counted = present.gather(1, heights).cumsum(1) - 1
    return torch.empty_like(heights).scatter_(1, heights, counted)
