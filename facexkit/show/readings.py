"""What a result says, in numbers that people read: one class of one model at a time, each method with its unit."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, TITLES, UNIONS
from facexkit.measure.region_methods import METHODS, RegionMethod, each_class, one_class
from facexkit.show.words import legible, model_name


def points_between(low: float, high: float) -> str:
    """Return the 95 % interval of a difference of rates in words."""
    if not np.isfinite(low + high):
        return "no interval"
    low, high = round(100 * float(low)) + 0.0, round(100 * float(high)) + 0.0
    return f"95 % interval {low:.0f} to {high:.0f} points".replace("-", "−")


def percent(value: float) -> str:
    """Return a rate in words: "41 %"."""
    return METHODS["share"].say(float(value))


def points(value: float) -> str:
    """Return the size of a difference of rates in words: "4 points"."""
    return METHODS["share"].say(float(value), signed=True).lstrip("+−")


def method_of(scores: xr.Dataset) -> RegionMethod:
    """Return how to read a result; a method registered by a user reads as plain numbers."""
    name = str(scores.attrs.get("method", "score"))
    return METHODS.get(name) or RegionMethod(name, "score", f"Scores of the method “{name}”.")


@dataclass(frozen=True)
class Reading:
    """One region's number, its 95 % interval and the images behind it."""

    region: str
    value: float
    low: float
    high: float
    images: int
    method: RegionMethod
    signed: bool = False

    @property
    def title(self) -> str:
        return TITLES[self.region]

    @property
    def known(self) -> bool:
        return bool(np.isfinite(self.value))

    @property
    def text(self) -> str:
        return self.method.say(self.value, self.signed)

    @property
    def interval(self) -> str:
        return self.method.interval(self.low, self.high)

    @property
    def sentence(self) -> str:
        """The number with its interval and images: "41 % (95 % interval 37–45 %, 256 images)"."""
        if not np.isfinite(self.value):
            return "no data: no image has this region"
        return f"{self.text} ({self.behind})" if self.behind else self.text

    @property
    def behind(self) -> str:
        """What the number rests on: "95 % interval 37–45 %, 256 images"."""
        images = f"{self.images} image{'' if self.images == 1 else 's'}" if self.images else ""
        interval = f"95 % interval {self.interval}" if self.interval else "no interval" if images else ""
        return ", ".join(part for part in (interval, images) if part)


def read_regions(scores: xr.Dataset) -> dict[str, Reading]:
    """Return the reading of every region of a one-class result, in the order of `REGIONS`."""
    return _readings(one_class(scores).reindex(region=list(REGIONS), fill_value={"images": 0}))


def _readings(scores: xr.Dataset) -> dict[str, Reading]:
    regions = scores.region.values.tolist()
    nothing = np.full(len(regions), np.nan)
    value, low, high = (scores[k].values if k in scores else nothing for k in ("score", "score_low", "score_high"))
    images = scores.images.values if "images" in scores else np.zeros(len(regions), int)
    method, signed = method_of(scores), bool(scores.attrs.get("difference"))
    columns = zip(regions, value.tolist(), low.tolist(), high.tolist(), images.tolist(), strict=True)
    return {row[0]: Reading(*row, method, signed) for row in columns}


def read_parts(scores: xr.Dataset) -> dict[str, Reading]:
    """Return the readings of what a sentence names: regions, and in the place of paired ones (both lips) their union."""
    scores = one_class(scores)
    readings = read_regions(scores)
    if "union" not in scores.dims:
        return readings
    paired = {region for union in UNIONS.values() for region in union}
    unions = scores[[name for name in scores if name.startswith("union_")]].drop_vars("region", errors="ignore")
    unions = unions.rename({"union": "region"} | {name: str(name).removeprefix("union_") for name in unions})
    return {region: own for region, own in readings.items() if region not in paired} | _readings(
        unions.assign_attrs(scores.attrs)
    )


def ranked(scores: xr.Dataset, by: str = "value", missing: bool = False, parts: bool = False) -> list[Reading]:
    """Return the regions' readings, the largest first.

    Parameters
    ----------
    by : "value", or "size" for the absolute value.
    missing : whether regions without data follow at the end; else they are left out.
    parts : whether unions stand in the place of their regions, see `read_parts`.
    """
    readings = (read_parts if parts else read_regions)(scores).values()
    size = abs if by == "size" else float
    have = sorted((r for r in readings if np.isfinite(r.value)), key=lambda r: -size(r.value))
    return have + [r for r in readings if missing and not np.isfinite(r.value)]


def names_of(scores: xr.Dataset) -> tuple[str, str]:
    """Return what people read for the class and for the model."""
    return legible(scores.class_name.item()), model_name(scores.attrs.get("model", "model"))


@dataclass
class Subject:
    """One class of one model, with its results: the method that findings rest on comes first."""

    model: str
    class_name: str
    results: list[xr.Dataset]

    def by(self, method: str) -> xr.Dataset | None:
        return next((scores for scores in self.results if scores.attrs.get("method") == method), None)


def subjects(results: xr.Dataset | Iterable[xr.Dataset]) -> list[Subject]:
    """Group results by model and class, in the order in which they come."""
    groups: dict[tuple, Subject] = {}
    for scores in each_class(results):
        key = (*(scores.attrs.get(name) for name in ("model", "model_fingerprint")), scores.target_class.item())
        groups.setdefault(key, Subject(*names_of(scores)[::-1], [])).results.append(scores)
    order = list(METHODS)
    for subject in groups.values():
        subject.results.sort(key=lambda s: order.index(s.attrs["method"]) if s.attrs.get("method") in order else 9)
    return list(groups.values())


def mirrored(a: xr.Dataset | None, b: xr.Dataset | None) -> bool:
    """Return whether b has the decision shares of the other class of the same two-class model: all the same."""
    if a is None or b is None:
        return False
    kind = [(scores.attrs.get("method"), scores.attrs.get("model")) for scores in (a, b)]
    same = kind[0] == kind[1] and kind[0][0] == "share" and a.target_class.item() != b.target_class.item()
    return same and np.allclose(a.score, b.score, rtol=0, atol=5e-3, equal_nan=True)


def difference(a: xr.Dataset, b: xr.Dataset) -> xr.Dataset:
    """Return score(a) − score(b) region by region; a region that one of them lacks is NaN."""
    if a.attrs.get("method") != b.attrs.get("method"):
        raise FacexkitError("a difference needs two results of the same method")
    return xr.Dataset({"score": a.score - b.score.reset_coords(drop=True)}, attrs={"method": a.attrs.get("method"), "difference": True})

