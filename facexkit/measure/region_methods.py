"""Methods of scoring regions: how each is computed, how people read its numbers, and what it gives class by class."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.registry import Registry


@dataclass(frozen=True)
class RegionMethod:
    """A method of scoring regions.

    Attributes
    ----------
    title : what it is called.
    unit : of its numbers.
    explanation : what it measures, in a sentence or two.
    scores : `(model, faces, layer, targets, *, seed, **options) → one Dataset a target`, with score, score_low,
        score_high, images (region), per_image (image, region), output and row (image), as `score_regions` returns them;
        its options are those of the pass, and its own.
    percent : whether its numbers are shares, which people read in percent.
    needs_layer : whether there must be a layer, with activation maps.
    """

    title: str
    unit: str
    explanation: str
    scores: Callable[..., list[xr.Dataset]] | None = None
    percent: bool = False
    needs_layer: bool = False

    def say(self, value: float, signed: bool = False) -> str:
        """Return a value in words: "41 %" or "0.62"; with a sign and in points for a difference."""
        if not np.isfinite(value):
            return "no data"
        value = float(value) * (100 if self.percent else 1)
        digits = 0 if value == 0 or (self.percent and abs(value) >= 9.95) else 1 if self.percent else 2
        value = round(value, digits) + 0.0
        number = f"{value:{'+' if signed else ''}.{digits}f}".replace("-", "−")
        return number + ((" points" if signed else " %") if self.percent else "")

    def interval(self, low: float, high: float) -> str:
        """Return the 95 % interval in words, empty where there is none."""
        if not (np.isfinite(low) and np.isfinite(high)):
            return ""
        first, second = self.say(low), self.say(high)
        return f"{first.removesuffix(' %')}–{second}" if low >= 0 else f"{first} to {second}"


METHODS: Registry[RegionMethod] = Registry("method", "facexkit.methods", "facexkit.measure.region_scores")
"""The known methods, the one that a finding rests on first."""


def each_class(results: xr.Dataset | Iterable[xr.Dataset]) -> list[xr.Dataset]:
    """Return every class of every result; target_class and class_name are scalar coordinates then."""
    every = [results] if isinstance(results, xr.Dataset) else results
    found = [one.isel(target_class=k) if one.target_class.ndim else one for one in every for k in range(one.target_class.size)]
    if not found:
        raise FacexkitError("there are no results to show; pass what fx.score_regions returned")
    return found


def one_class(scores: xr.Dataset) -> xr.Dataset:
    """Return the only class of a result; see `each_class`."""
    first, *more = each_class(scores)
    if more:
        raise FacexkitError(
            f"this result holds {len(more) + 1} classes; take one with scores.sel(target_class={first.target_class.item()})"
        )
    return first
