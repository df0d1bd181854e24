"""How sure a decision share is: its interval, and which regions it accuses."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.bootstrap import LEVEL, with_interval
from facexkit.measure.region_methods import one_class

PARTS = {name: (name,) for name in REGIONS if not any(name in own for own in UNIONS.values())} | UNIONS
"""What a sentence names, and its regions: unions, such as the lips, in the place of theirs."""
CARRIES = 0.02
"""The least share that is worth a sentence."""
CERTAIN = 30
"""Faces that are enough to believe a share on which all their pairs agree."""


def accused(scores: xr.Dataset) -> list[str]:
    """Return the regions that carry a decision beyond doubt, the largest share first: the only ones a sentence accuses.

    A region is accused if the lower end of an interval that holds for all regions at once lies above 2 %: with K
    regions that have a share, score − z(1 − 0.05 / K) / z(0.975) · (score − score_low) > 0.02 (Bonferroni, one-sided).
    A pair such as the lips is asked for together, as its union. Where all pairs agree, so that no spread is known, the
    share itself counts, if it is that of 30 faces.

    Parameters
    ----------
    scores : what `score_regions` gave for one class by the method "share".
    """
    score, low, images = (by_part(one_class(scores), name) for name in ("score", "score_low", "images"))
    low = low.fillna(score.where(images >= CERTAIN))
    normal = NormalDist()
    wider = normal.inv_cdf(1 - (1 - LEVEL) / max(score.count(), 1)) / normal.inv_cdf((1 + LEVEL) / 2)
    clear = score[score - wider * (score - low) > CARRIES]
    return clear.sort_values(ascending=False, kind="stable").index.tolist()


def by_part(scores: xr.Dataset, name: str) -> pd.Series:
    """Return a number of one class by part: of the regions, and of unions, if it has some, in the place of theirs."""
    own = scores[name].to_series()
    return pd.concat([own, scores[f"union_{name}"].to_series()]).reindex([*PARTS]) if "union" in scores.dims else own


def share_interval(pairs: np.ndarray, toward: np.ndarray, square: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Σ toward / Σ square over pairs of faces, and its 95 % interval.

    The interval counts that each face is in several pairs: with e_p = (toward − share·square) / Σ square the influence of
    the pair p, both its walks together, and S_m the change of the share when all pairs that touch face m are left out (the
    jackknife, which for few faces covers better than the sum of their e_p), V = Σ_m S_m² − Σ_p e_p² (dyadic clustering;
    Fafchamps & Gubert 2007), at least Σ_p e_p², which pairs without a common face would have, and the quantiles of t for
    (faces − 1) degrees of freedom.

    Parameters
    ----------
    pairs : int64 (P, 2), the pairs' faces. toward : (P, K). square : (P,).
    """
    from scipy.stats import t  # here, as its import takes a second

    whole = square.sum()
    share = toward.sum(0) / whole
    influence = (toward - share * square[:, None]) / whole
    faces, ends = np.unique(np.sort(pairs, 1), return_inverse=True)
    count, ends = len(faces), ends.reshape(pairs.shape)
    _, dyad = np.unique(ends, axis=0, return_inverse=True)
    both = np.zeros((dyad.max() + 1, toward.shape[1]))
    np.add.at(both, dyad.ravel(), influence)
    touching = np.zeros((count, toward.shape[1] + 1))
    for end in ends.T:
        np.add.at(touching, end, np.column_stack([toward, square]))
    without = (toward.sum(0) - touching[:, :-1]) / np.maximum(whole - touching[:, -1:], np.finfo(float).tiny)
    spread = (count - 1) / count * ((without - without.mean(0)) ** 2).sum(0)
    apart = (both**2).sum(0)
    variance = np.maximum(spread - apart, apart)
    known = variance > 1e-18  # below, all pairs agree, and nothing is known of a spread
    reach = t.ppf((1 + LEVEL) / 2, count - 1) * np.sqrt(np.where(known, variance, np.nan))
    return share, share - reach, share + reach


def known_well(pairs: np.ndarray, moved: np.ndarray, half_width: float, largest: int = 3) -> bool:
    """Whether the largest shares of every target are known to ± `half_width`; `moved` (P, regions, targets) = c.

    Unions, such as the lips, stand in the place of their regions.
    """
    members = np.array([[region in own for own in PARTS.values()] for region in REGIONS])
    for own in np.moveaxis(moved, 2, 0):
        way = own.sum(1)
        share, low, _ = share_interval(pairs, (own @ members) * way[:, None], way**2)
        first = np.argsort(-share)[:largest]
        if (share[first] - low[first] > half_width).any():
            return False
    return True


def placebo(pairs: np.ndarray, moved: np.ndarray, off: np.ndarray, margins: np.ndarray) -> dict[str, tuple]:
    """Return how far exchanges between two faces of one decision move it, which on average should be nowhere.

    With sign = that of the two faces' margins, and off = the mean margin of what lies between them on the walk less the
    middle of the two: placebo = mean(sign · off) / √mean(d²), the mean over pairs of one decision, with its 95 %
    interval. Below 0 composites of two faces that agree look less like that decision than either does.

    Parameters
    ----------
    pairs : int64 (P, 2), places in `margins` (N,). moved : (P, regions). off : (P,).
    """
    sign = np.sign(margins[pairs])
    same = (sign[:, 0] == sign[:, 1]) & (sign[:, 0] != 0)
    if same.sum() < 3:
        return with_interval("placebo", (), np.full(3, np.nan))
    lost = (sign[:, 0] * off / np.sqrt((moved.sum(1) ** 2).mean()))[same]
    ends = share_interval(pairs[same], lost[:, None], np.ones(len(lost)))
    return with_interval("placebo", (), (float(value[0]) for value in ends))
