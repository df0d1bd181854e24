"""How far groups lie apart: measures of a gap, intervals that cover it, and how often chance alone makes as much."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import numpy as np

from facexkit.measure.bootstrap import LEVEL

GAPS = ("difference", "ratio", "deviation", "over_geomean")
TAIL, STEPS = (1 - LEVEL) / 2, 20


def gap_sizes(values: np.ndarray) -> np.ndarray:
    """Return of values (…, G) max − min, max / min, their population standard deviation, max / geometric mean: (…, 4).

    NaN where a group's value is, a ratio too where one is 0.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        most, least = values.max(-1), values.min(-1)
        sizes = np.stack([most - least, most / least, values.std(-1), most / np.exp(np.log(values).mean(-1))], -1)
    return np.where(np.isfinite(sizes), sizes, np.nan)


def suppositions(
    values: np.ndarray, drawn: np.ndarray, least: np.ndarray, seed: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Yield what the groups may truly be, from all alike to further apart than can be, and that with noise, (R, …, G).

    Twice: once their relative distances are those of the values, which noise draws apart, so that noisier ones are drawn
    in more: v − m times √(c/(c + s²)), s² being a value's noise, m their mean with weights 1/(c + s²), and c the variance of
    the values beyond the mean of s², or that mean where it is more; and once there is a better and a worse half, whose
    gap noise widens most.

    Parameters
    ----------
    values, drawn : (…, G), in 0–1, and (R, …, G), as they are when the images are drawn again.
    least : (…, G), the standard error that a value has at least; 0 where it is what the draws show.
    """
    own = np.ma.masked_invalid(drawn).std(0).filled(np.nan)
    more = np.sqrt(np.clip(least**2 - own**2, 0, None))
    noise = drawn - values + more * np.random.default_rng(seed).standard_normal(drawn.shape)
    s2 = own**2 + more**2
    c = np.maximum(values.var(-1, ddof=1) - s2.mean(-1), s2.mean(-1))[..., None]
    with np.errstate(invalid="ignore", divide="ignore"):
        weight = 1 / (c + s2)
        mean = ((weight * values).sum(-1) / weight.sum(-1))[..., None]
        drawn_in = (values - mean) * np.sqrt(c * weight)
        reach = np.ptp(values, -1, keepdims=True) + 5 * np.sqrt(s2.max(-1, keepdims=True))
    for shape in (drawn_in, np.where(values > np.median(values, -1, keepdims=True), 0.5, -0.5)):
        shape = np.where(np.ptp(shape, -1, keepdims=True) > 0, shape, np.arange(values.shape[-1]))
        shape = (shape - shape.mean(-1, keepdims=True)) * reach / np.ptp(shape, -1, keepdims=True)
        for step in np.linspace(0, 1, STEPS):
            supposed = np.clip(mean + step * shape, 1e-3, 1)
            yield supposed, np.clip(supposed + noise, 0, 1)


def gap_interval(
    values: np.ndarray, drawn: np.ndarray, least: np.ndarray, seed: int,
    apart: Callable[[np.ndarray], np.ndarray] = gap_sizes,
) -> tuple[np.ndarray, np.ndarray]:  # fmt: skip
    """Return the 95 % interval of gaps: those with which noise makes one as wide, and one as narrow, in 2.5 % at least.

    Best and worst of noisy values lie further apart than the true ones, the more groups and the smaller, the further; so
    the interval may end below what was measured (test inversion; the grid bootstrap of Hansen 1999).

    Parameters
    ----------
    values, drawn, least, seed : see `suppositions`.
    apart : the gaps of values (…, G).
    """
    size, true, wide, narrow = apart(values), [], [], []
    for supposed, noisy in suppositions(values, drawn, least, seed):
        again = apart(noisy)
        again = np.where(np.isfinite(again), again, np.inf)
        true.append(apart(supposed))
        wide.append((again >= size - 1e-9).mean(0))
        narrow.append((again <= size + 1e-9).mean(0))
    true, wide, narrow = (np.reshape(each, (-1, STEPS, *size.shape)) for each in (true, wide, narrow))
    wide, narrow = np.maximum.accumulate(wide, 1), np.minimum.accumulate(narrow, 1)
    low, high = np.full((2, *size.shape), np.nan)
    for at in zip(*np.nonzero(np.isfinite(size) & np.isfinite(true).all((0, 1))), strict=True):
        own = [each[(..., *at)] for each in (true, wide, narrow)]
        low[at] = min(np.interp(TAIL, often, gaps) for gaps, often, _ in zip(*own, strict=True))
        high[at] = max(np.interp(-TAIL, -often, gaps) for gaps, _, often in zip(*own, strict=True))
    return low, high


def shuffled(cell: np.ndarray, within: np.ndarray, count: int, rng: np.random.Generator) -> np.ndarray:
    """Return labels (N,) that change places at random, but only among images of one class: (count, N)."""
    place = np.argsort(within, kind="stable")
    moved = np.empty((count, len(cell)), cell.dtype)
    moved[:, place] = cell[np.argsort(within + rng.random(moved.shape), axis=1)]
    return moved


def q_values(*p: np.ndarray) -> list[np.ndarray]:
    """Return p values of one family, NaN where there is none, after Benjamini & Hochberg (1995)."""
    from scipy.stats import false_discovery_control  # here, as its import takes a second

    every = np.concatenate([np.ravel(part) for part in p])
    known = np.isfinite(every)
    every[known] = false_discovery_control(every[known]) if known.any() else np.nan
    parts = np.split(every, np.cumsum([np.size(part) for part in p])[:-1])
    return [part.reshape(np.shape(own)) for part, own in zip(parts, p, strict=True)]
