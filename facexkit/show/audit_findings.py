"""An audit and the effects of units in words."""

from __future__ import annotations

import numpy as np
import xarray as xr

from facexkit.measure.groups import CROSS
from facexkit.show.readings import METHODS, points_between
from facexkit.show.words import NotMeasured, group_title, headed, label_of, model_name, words

_percent = METHODS["share"]
NOTHING = ("0 points", "0.0 points")


def audit_findings(found: xr.Dataset, metric: str = "accuracy") -> list[str]:
    """Say of each attribute, the widest gap first, whom each model treats worst and best, and how models differ.

    Intersections come last: the gap between many small groups is wide by chance alone.

    Parameters
    ----------
    found : what `audit` gave.
    metric : of `value`; gaps are differences in it.
    """
    sizes = found.gap_size.sel(metric=metric, gap="difference")
    first = sizes.isel(model=0).to_numpy()
    crossed = [CROSS in str(name) for name in found.attribute.to_numpy()]
    said = []
    for place in np.lexsort((-np.nan_to_num(first, nan=-1), crossed)):
        attribute = str(found.attribute.to_numpy()[place])
        for name in found.model.to_numpy():
            said.append(_on_attribute(found.sel(model=name), str(name), attribute, metric))
        if found.sizes["model"] > 1 and not np.isnan(first[place]):
            said += [_on_change(found.sel(model=n), str(n), found, attribute, metric) for n in found.model.to_numpy()[1:]]
    return sorted(filter(None, [*said, *_on_left_out(found)]), key=lambda sentence: isinstance(sentence, NotMeasured))


def _on_left_out(found: xr.Dataset) -> list[NotMeasured]:
    lacking = {"true class": found.attrs.get("without_truth", 0)}
    lacking |= {f"label for {words(name)}": count for name, count in found.attrs.get("without_group", {}).items()}
    return [NotMeasured(f"Left out: {n:,} image{'s' * (n > 1)} without a {what}.") for what, n in lacking.items() if n]


def _on_attribute(one: xr.Dataset, name: str, attribute: str, metric: str) -> str:
    every = one.sel(group=one.attribute_of == attribute, metric=metric)
    own, title, what = every.sel(group=every.ranked), headed(attribute), f"{words(metric)} of {model_name(name)}"
    if every.sizes["group"] < 2:
        group = label_of(attribute, str(every.label.to_numpy()[0]))
        return NotMeasured(f"{title}: {group} is the only group, so there is nobody to compare with.")
    if own.sizes["group"] < 2:
        least = one.attrs["min_images"]
        return NotMeasured(f"{title}: fewer than two groups have {least} images, so {model_name(name)} is not compared there.")
    gap = one.sel(attribute=attribute, metric=metric, gap="difference")
    if not np.isfinite(gap.gap_size):
        return NotMeasured(f"{title}: {what} is not known for every group.")
    if _points(gap.gap_size) in NOTHING:
        same, images = _percent.say(float(own.value[0])), f"{int(own.images.sum()):,} images"
        return f"{title}: no difference was measured; {what} is {same} in each of {own.sizes['group']} groups ({images})."
    worst, best = (_with_images(own.isel(group=at(own.value.to_numpy())), attribute) for at in (np.argmin, np.argmax))
    return (
        f"{title}: {what} is lowest for {worst} and highest for {best}, a gap of "
        f"{_points(gap.gap_size)} ({_interval(gap, 'gap_size')})."
    )


def _on_change(one: xr.Dataset, name: str, found: xr.Dataset, attribute: str, metric: str) -> str:
    gap = one.sel(attribute=attribute, metric=metric, gap="difference")
    change = float(gap.gap_size_change)
    if not np.isfinite(change):
        return ""
    wider, first = "wider" if change > 0 else "narrower", model_name(found.model.to_numpy()[0])
    sure = "" if gap.gap_size_change_low > 0 or gap.gap_size_change_high < 0 else ", which may be chance"
    if _points(change) in NOTHING:
        return f"{headed(attribute)}: the gap of {model_name(name)} is as wide as that of {first}."
    return (
        f"{headed(attribute)}: the gap of {model_name(name)} is {_points(abs(change))} {wider} than that of {first} "
        f"(difference: {_interval(gap, 'gap_size_change')}){sure}."
    )


def effects_finding(effects: xr.Dataset, chosen: str, others: str = "") -> str:
    """Say what switching a set of units off did to the gap and to each group.

    Parameters
    ----------
    effects : what `unit_effects` gave for named sets of units.
    chosen : the set to tell of.
    others : what the names of the sets to compare with begin with, as random ones of the same size.
    """
    one, layer, by = effects.sel(unit=chosen), effects.attrs["layer"], effects.attrs["by"]
    units = len(effects.attrs["sets"][chosen])
    moved = ", ".join(
        f"{group_title(by, group)} {_percent.say(before)} → {_percent.say(after)}"
        for group, before, after in zip(
            one.group.to_numpy(), effects.group_accuracy_before.values, one.group_accuracy.values, strict=True
        )
    )
    said = (
        f"Switching off {units} units of {layer} ({chosen}) moves the gap between {words(by)} from "
        f"{_points(effects.gap_before)} to {_points(one.gap)} (change: {_interval(one, 'gap_change')}); accuracy: {moved}."
    )
    if others:
        rest = effects.sel(unit=[name for name in effects.unit.to_numpy() if str(name).startswith(others)])
        said += f" {rest.sizes['unit']} random sets of as many units: to {_points(rest.gap.mean())} on average."
    if left_out := effects.attrs.get("left_out"):
        said += f" Images without a class or group, which are left out: {left_out:,}."
    return said


def _with_images(group: xr.Dataset, attribute: str) -> str:
    return f"{label_of(attribute, str(group.label.item()))} ({_percent.say(float(group.value))}, {int(group.images):,} images)"


def _points(value: xr.DataArray | float) -> str:
    return _percent.say(float(value), signed=True).lstrip("+−")


def _interval(one: xr.Dataset, name: str) -> str:
    return points_between(one[f"{name}_low"], one[f"{name}_high"])
