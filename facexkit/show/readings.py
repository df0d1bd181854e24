"""What a result says, in numbers that people read: one class of one model at a time, each method with its unit."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, TITLES, UNIONS
from facexkit.measure.region_methods import METHODS, RegionMethod, each_class, one_class
from facexkit.show.words import legible, model_name

ELSE = "everything else"
LARGE = ("hair", "cloth", "skin", "neck", "hat")
"""Regions that cover much of a picture, the largest first."""
PLURAL = {*UNIONS, "eye_g", "cloth"}


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
    """One region's number, its 95 % interval and the images behind it.

    Attributes
    ----------
    region, title : its name, or that of a union such as the lips, and what people read for it.
    members : the regions that it stands for.
    """

    region: str
    title: str
    members: tuple[str, ...]
    value: float
    low: float
    high: float
    images: int
    method: RegionMethod
    signed: bool = False

    @property
    def the(self) -> str:
        """The title as a sentence names it: "the lips", "everything else (background, hair, clothes …)"."""
        return self.title if self.title.startswith(ELSE) else f"the {self.title}"

    @property
    def label(self) -> str:
        """The title where there is little room."""
        return ELSE if self.title.startswith(ELSE) else self.title

    def verb(self, one: str, several: str) -> str:
        """Return the words that go with the title: "it carries", "they carry"."""
        return several if self.region in PLURAL else one

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
        if not self.known:
            return "no data: no image has this region"
        return f"{self.text} ({self.behind})" if self.behind else self.text

    @property
    def behind(self) -> str:
        """What the number rests on: "95 % interval 37–45 %, 256 images"."""
        images = f"{self.images} image{'' if self.images == 1 else 's'}" if self.images else ""
        interval = f"95 % interval {self.interval}" if self.interval else "no interval" if images else ""
        return ", ".join(part for part in (interval, images) if part)


def read_regions(scores: xr.Dataset) -> dict[str, Reading]:
    """Return the readings of a one-class result: of every region that its masks can tell, and of every union of two."""
    scores, found = one_class(scores), {}
    untold, method = scores.attrs.get("untold", ()), method_of(scores)
    rest = {REGIONS[0]: (everything_else(untold), (REGIONS[0], *untold))} if len(untold) else {}
    for of, names in (("", REGIONS), ("union_", UNIONS)):
        if f"{of}score" in scores:
            columns = [_column(scores, f"{of}{name}", names) for name in ("score", "score_low", "score_high", "images")]
            for name, value, low, high, images in zip(names, *columns, strict=True):
                title, members = rest.get(name) or (TITLES[name], UNIONS.get(name, (name,)))
                numbers = (value, low, high, int(np.nan_to_num(images)))
                found[name] = Reading(name, title, members, *numbers, method, bool(scores.attrs.get("difference")))
    return {name: reading for name, reading in found.items() if name not in untold}


def _column(scores: xr.Dataset, name: str, names: Iterable[str]) -> list[float]:
    if name not in scores:
        return [np.nan] * len([*names])
    return scores[name].to_series().reindex([*names]).tolist()


def everything_else(untold: Sequence[str]) -> str:
    """Return what people read for a background that hides regions, those that cover most of a picture first."""
    most = [region for region in LARGE if region in untold] + [region for region in untold if region not in LARGE]
    named = ", ".join(TITLES[region] for region in (REGIONS[0], *most[:2]))
    return f"{ELSE} ({named}{' …' if len(most) > 2 else ''})"


def read_parts(scores: xr.Dataset) -> dict[str, Reading]:
    """Return the readings of what is shown and named: regions, and in the place of paired ones (both lips) their union."""
    every = read_regions(scores)
    paired = {region for name in every if name in UNIONS for region in UNIONS[name]}
    return {name: reading for name, reading in every.items() if name not in paired}


def ranked(scores: xr.Dataset, by: str = "value", missing: bool = False) -> list[Reading]:
    """Return the readings of regions, and of unions in the place of theirs, the largest first.

    Parameters
    ----------
    by : "value", or "size" for the absolute value.
    missing : whether those without data follow at the end; else they are left out.
    """
    readings, size = read_parts(scores).values(), abs if by == "size" else float
    have = sorted((reading for reading in readings if reading.known), key=lambda reading: -size(reading.value))
    return have + [reading for reading in readings if missing and not reading.known]


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
    """Return score(a) − score(b) by region and union; what one of them lacks is NaN."""
    if a.attrs.get("method") != b.attrs.get("method"):
        raise FacexkitError("a difference needs two results of the same method")
    both = [name for name in ("score", "union_score") if name in a and name in b]
    attrs = {name: a.attrs[name] for name in ("method", "untold") if name in a.attrs} | {"difference": True}
    return xr.Dataset({name: a[name] - b[name].reset_coords(drop=True) for name in both}, attrs=attrs)

