"""How sure a decision share is: its interval, and which regions it accuses."""

from __future__ import annotations

from statistics import NormalDist

import numpy as np
import xarray as xr

from facexkit.faces.regions import UNIONS

LEVEL = 0.95
CARRIES = 0.02
"""The least share that is worth a sentence."""


def accused(scores: xr.Dataset) -> list[str]:
    """Return the regions that carry a decision beyond doubt, the largest share first: the only ones a sentence accuses.

    A region is accused if the lower end of an interval that holds for all regions at once lies above 2 %: with K
    regions that have a share, score − z(1 − 0.05 / K) / z(0.975) · (score − score_low) > 0.02 (Bonferroni, one-sided).
    A pair such as the lips is asked for together, as its union. Where no spread is known nothing is accused.

    Parameters
    ----------
    scores : what `score_regions` gave for one class by the method "share".
    """
    pairs = {region for parts in UNIONS.values() for region in parts} if "union" in scores.dims else ()
    score, low = scores.score.to_series().drop([*pairs]), scores.score_low.to_series().drop([*pairs])
    if "union" in scores.dims:
        score = score.combine_first(scores.union_score.to_series())
        low = low.combine_first(scores.union_score_low.to_series())
    normal = NormalDist()
    wider = normal.inv_cdf(1 - (1 - LEVEL) / max(score.count(), 1)) / normal.inv_cdf((1 + LEVEL) / 2)
    clear = score[score - wider * (score - low) > CARRIES]
    return clear.sort_values(ascending=False, kind="stable").index.tolist()


def share_interval(
    pairs: np.ndarray, toward: np.ndarray, square: np.ndarray, count: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Return Σ toward / Σ square and its 95 % interval, which counts that pairs share faces; see `decision_shares`.

    Parameters
    ----------
    pairs : int64 (P, 2), places of the pairs' faces among `count`. toward : (P, K). square : (P,).
    """
    from scipy.stats import t  # here, as its import takes a second

    whole = square.sum()
    share = toward.sum(0) / whole
    influence = (toward - share * square[:, None]) / whole
    ends = np.sort(pairs, 1)
    _, dyad = np.unique(ends, axis=0, return_inverse=True)
    both = np.zeros((dyad.max() + 1, toward.shape[1]))
    np.add.at(both, dyad.ravel(), influence)
    touching = np.zeros((count, toward.shape[1] + 1))
    for end in ends.T:
        np.add.at(touching, end, np.column_stack([toward, square]))
    without = (toward.sum(0) - touching[:, :-1]) / np.maximum(whole - touching[:, -1:], np.finfo(float).tiny)
    spread = (count - 1) / count * ((without - without.mean(0)) ** 2).sum(0)
    variance = spread - (both**2).sum(0)
    known = variance > 1e-18  # below, all pairs agree, and nothing is known of a spread
    reach = t.ppf((1 + LEVEL) / 2, count - 1) * np.sqrt(np.where(known, variance, np.nan))
    return share, share - reach, share + reach
