"""Bootstrap intervals over images."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

import numpy as np
from scipy.special import ndtr, stdtrit

REPLICATES = 1000
LEVEL = 0.95
ENDS = ("", "_low", "_high")
"""What a number and the two ends of its interval are called."""


def with_interval(name: str, dims: str | Sequence[str], ends: Iterable[np.ndarray]) -> dict[str, tuple]:
    """Return a number and the two ends of its interval as the variables NAME, NAME_low and NAME_high of a Dataset."""
    return {f"{name}{end}": (dims, values) for end, values in zip(ENDS, ends, strict=True)}


def resamples(images: int, seed: int = 0, replicates: int = REPLICATES) -> Iterator[np.ndarray]:
    """Yield for each replicate how often each image is drawn, with replacement: int64 (images,)."""
    rng = np.random.default_rng(seed)
    for _ in range(replicates):
        yield np.bincount(rng.integers(0, images, images), minlength=images)


def percentile_interval(replicates: np.ndarray, tail: float | np.ndarray = (1 - LEVEL) / 2) -> tuple[np.ndarray, np.ndarray]:
    """Return the quantiles at `tail` and 1 − `tail`, one for all or one a column (Efron 1979), over the first axis, NaN left out.

    NaN where all replicates are NaN, or the same: of one image, or where all images agree, a bootstrap knows no spread.
    """
    low, high = np.full((2, *replicates.shape[1:]), np.nan)
    least, most = np.fmin.reduce(replicates), np.fmax.reduce(replicates)
    known = most - least > 1e-9 * np.fmax(abs(most), abs(least))
    tails = np.broadcast_to(tail, known.shape)
    for own in np.unique(tails[known]):
        same = known & (tails == own)
        low[same], high[same] = np.nanquantile(replicates[:, same], [own, 1 - own], axis=0)
    return low, high


def expanded_tail(images: np.ndarray) -> np.ndarray:
    """Return the tail of a percentile interval of a mean of so few images that it covers as Student's t does.

    Φ(−√(n / (n − 1)) · t(0.975; n − 1)) for n images, nearly 0.025 for many (Hesterberg 2015, "What teachers should know
    about the bootstrap").
    """
    n = np.maximum(images, 2)
    return ndtr(-np.sqrt(n / (n - 1)) * stdtrit(n - 1, (1 + LEVEL) / 2))


def wilson_interval(successes: np.ndarray, trials: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return the 95 % interval of a proportion (Wilson 1927), never of width 0; NaN for fewer than two trials."""
    n = np.where(np.asarray(trials) < 2, np.nan, trials)
    z, p = 1.959964, successes / n
    centre, half = p + z**2 / (2 * n), z * np.sqrt(p * (1 - p) / n + (z / (2 * n)) ** 2)
    return np.clip((centre - half) / (1 + z**2 / n), 0, 1), np.clip((centre + half) / (1 + z**2 / n), 0, 1)


def ratio_interval(
    numerator: np.ndarray, denominator: np.ndarray, seed: int = 0, replicates: int = REPLICATES
) -> tuple[np.ndarray, np.ndarray]:
    """Percentile bootstrap interval of Σ numerator / Σ denominator, drawing images with replacement; see `expanded_tail`.

    A mean is the ratio with a denominator of ones, or of zeros for the images that do not count.

    Parameters
    ----------
    numerator, denominator : float (N, K), or (N, 1) to be shared by all columns.

    Returns
    -------
    low, high : float (K,); NaN where the denominators sum to 0, and where all images agree; see `percentile_interval`.
    """
    ratios = np.full((replicates, max(numerator.shape[1], denominator.shape[1])), np.nan)
    for ratio, weights in zip(ratios, resamples(len(numerator), seed, replicates), strict=True):
        above, below = weights @ numerator, weights @ denominator
        np.divide(above, below, out=ratio, where=np.broadcast_to(below > 0, ratio.shape))
    return percentile_interval(ratios, expanded_tail(np.count_nonzero(denominator, 0)))


def mean_scores(per_image: np.ndarray, dims: Sequence[str], seed: int) -> dict[str, tuple]:
    """Return the mean over images as variables score, score_low, score_high and images, see `ratio_interval`.

    Parameters
    ----------
    per_image : float (N, …), NaN where an image does not count. dims : the names of the others.
    """
    columns = per_image.reshape(len(per_image), -1)
    share, has = np.nan_to_num(columns), np.isfinite(columns)
    images, ends = has.sum(0), ratio_interval(share, has.astype(float), seed)
    with np.errstate(invalid="ignore"):
        values = zip(("score", "score_low", "score_high", "images"), (share.sum(0) / images, *ends, images), strict=True)
    return {name: (dims, own.reshape(per_image.shape[1:])) for name, own in values}
