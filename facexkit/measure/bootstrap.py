"""Bootstrap intervals over images."""

from __future__ import annotations

import numpy as np

REPLICATES = 1000
LEVEL = 0.95


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, seed: int = 0, replicates: int = REPLICATES
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of Σ numerator / Σ denominator, drawing images with replacement.

    A mean is the ratio with a denominator of ones, or of zeros for the images that do not count.

    Parameters
    ----------
    numerator, denominator : float (N, K), or (N, 1) to be shared by all columns.

    Returns
    -------
    low, high : float (K,), the 2.5 % and 97.5 % quantiles (Efron 1979); NaN where the denominators sum to 0.
    """
    images = len(numerator)
    rng = np.random.default_rng(seed)
    ratios = np.full((replicates, max(numerator.shape[1], denominator.shape[1])), np.nan)
    for replicate in range(replicates):
        weights = np.bincount(rng.integers(0, images, images), minlength=images)
        above, below = weights @ numerator, weights @ denominator
        np.divide(above, below, out=ratios[replicate], where=np.broadcast_to(below > 0, ratios[replicate].shape))
    known = ~np.isnan(ratios).all(0)
    low, high = np.full((2, ratios.shape[1]), np.nan)
    tail = (1 - LEVEL) / 2
    if known.any():
        low[known], high[known] = np.nanquantile(ratios[:, known], [tail, 1 - tail], axis=0)
    return low, high
