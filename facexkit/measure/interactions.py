"""What sets of regions do to a decision: what two do only together, and the exchanges that turn it most."""

from __future__ import annotations

from itertools import combinations
from typing import TYPE_CHECKING

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.bootstrap import with_interval
from facexkit.measure.groups import CROSS
from facexkit.measure.per_image import PerImage
from facexkit.measure.share_interval import PARTS, by_part, share_interval
from facexkit.probe.accumulator import ProbedBatch

if TYPE_CHECKING:
    from facexkit.measure.decision_share import Sample

TURNED, TRIED = 4, 24
"""Pairs whose decision turned most: how many are kept, of how many that are tried."""


class Exchanged(PerImage):
    """The model's outputs after each of some sets of regions was exchanged, float64 (P, S, classes), by pair."""

    def __init__(self, view: MaskView) -> None:
        super().__init__()
        self.exchanges, self.masks = view, (view,)

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, outputs=batch.walk.outputs.numpy())


def largest_parts(found: xr.Dataset, most: int) -> list[str]:
    """Return the parts with the largest shares: regions, and unions, such as the lips, in the place of theirs."""
    return by_part(found, "score").dropna().sort_values(ascending=False, kind="stable").index[:most].tolist()


def interactions_of(parts: list[str], sample: Sample, pairs: np.ndarray, place: int) -> xr.Dataset:
    """Return what two parts do only together, for every two of `parts`.

    With f(·) = the margin of x_i with those parts taken from x_j, I(r, s) = f(r and s) − f(r) − f(s) + f(neither), and
    interaction(r, s) = √(Σ I² / Σ d²): what the two do only together, beside the way from one face's decision to another's.
    (Σ I·d would not show it: I is the same from both ends of a pair, and d its opposite.)

    Parameters
    ----------
    pairs : int64 (P, 2), places in the sample; each is asked from its first end.
    place : of the target among the sample's.

    Returns
    -------
    Dataset: interaction, interaction_low, interaction_high (together), the 95 % interval of the ratio under the root.
    """
    two = list(combinations(range(len(parts)), 2))
    asked = [(k,) for k in range(len(parts))] + two
    sets = np.array([np.any([np.isin(REGIONS, PARTS[parts[k]]) for k in own], 0) for own in asked])
    f = sample.meaning.margin(ask(sample, pairs, sets), sample.targets[place]).numpy()
    first = sample.margins[pairs[:, 0], place]
    alone, both = f[:, : len(parts)], f[:, len(parts) :]
    r, s = np.array(two).T
    excess = both - alone[:, r] - alone[:, s] + first[:, None]
    way = sample.margins[pairs[:, 1], place] - first
    ends = (np.sqrt(np.clip(end, 0, None)) for end in share_interval(pairs, excess**2, way**2))
    names = [f"{parts[a]}{CROSS}{parts[b]}" for a, b in two]
    return xr.Dataset(with_interval("interaction", "together", ends), {"together": names})


def turned_by(part: str, sample: Sample, pairs: np.ndarray, moved: np.ndarray, place: int) -> xr.Dataset:
    """Return the pairs whose decision one part, taken from the other face, turned most.

    Parameters
    ----------
    pairs, moved : the walks, (P, 2), and c (P, regions) of the target at `place`.

    Returns
    -------
    Dataset: turned_region (turn), turned_image and turned_other (turn), paths; turned_output (turn, shown), what the
    model says of the class for the face, the other face, and the face with the part of the other: a probability where
    its outputs are some. Empty and NaN where there are fewer.
    """
    own, paths = np.isin(REGIONS, PARTS[part]), sample.faces.table.path.to_numpy(object)
    best = np.argsort(-abs(moved[:, own].sum(1)), kind="stable")
    _, firsts = np.unique(pairs[best, 0], return_index=True)
    tried = pairs[np.sort(best[np.sort(firsts)][:TRIED])]
    outputs = ask(sample, tried, np.stack([np.ones(len(REGIONS), bool), own]))
    shown = torch.cat([sample.outputs[tried[:, 0]][:, None], outputs], 1)
    said = shown if sample.own_question else sample.meaning.probabilities(shown.flatten(0, 1)).view(shown.shape)
    said = said[..., sample.targets[place]].numpy()
    best = np.argsort(-abs(said[:, 2] - said[:, 0]), kind="stable")[:TURNED]
    kept, names = np.full((TURNED, 3), np.nan), np.full((2, TURNED), "", object)
    kept[: len(best)] = said[best]
    names[:, : len(best)] = paths[sample.rows[tried[best]]].T
    values = {"turned_image": ("turn", names[0]), "turned_other": ("turn", names[1])}
    values |= {"turned_region": ("turn", np.full(TURNED, part, object)), "turned_output": (("turn", "shown"), kept)}
    return xr.Dataset(values, {"shown": ["face", "other", "exchanged"]})


def ask(sample: Sample, pairs: np.ndarray, sets: np.ndarray) -> Tensor:
    """Return the outputs (P, S, classes) after each of the sets of regions was exchanged in each pair of the sample."""
    return torch.from_numpy(sample.show(Exchanged(sample.view), pairs, sets=sets)[1])
