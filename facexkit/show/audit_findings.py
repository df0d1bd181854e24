"""An audit and the effects of units in words."""

from __future__ import annotations

import numpy as np
import xarray as xr

from facexkit.measure.audit import CROSS
from facexkit.show.dissection_findings import group_title
from facexkit.show.readings import METHODS

_percent = METHODS["share"]


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
    return [sentence for sentence in said if sentence]


def _on_attribute(one: xr.Dataset, name: str, attribute: str, metric: str) -> str:
    own = one.sel(group=(one.attribute_of == attribute) & one.ranked, metric=metric)
    title = _title(attribute)
    if own.sizes["group"] < 2:
        least = one.attrs["min_images"]
        return f"{title}: fewer than two groups have {least} images, so {name} is not compared there."
    gap = one.sel(attribute=attribute, metric=metric, gap="difference")
    if not np.isfinite(gap.gap_size):
        return f"{title}: {metric.replace('_', ' ')} of {name} is not known for every group."
    worst, best = (_with_images(own.isel(group=at(own.value.to_numpy())), attribute) for at in (np.argmin, np.argmax))
    return (
        f"{title}: {metric.replace('_', ' ')} of {name} is lowest for {worst} and highest for {best}, a gap of "
        f"{_points(gap.gap_size)} ({_interval(gap, 'gap_size')})."
    )


def _on_change(one: xr.Dataset, name: str, found: xr.Dataset, attribute: str, metric: str) -> str:
    gap = one.sel(attribute=attribute, metric=metric, gap="difference")
    change = float(gap.gap_size_change)
    if not np.isfinite(change):
        return ""
    wider = "wider" if change > 0 else "narrower"
    sure = "" if gap.gap_size_change_low > 0 or gap.gap_size_change_high < 0 else ", which may be chance"
    return (
        f"{_title(attribute)}: the gap of {name} is {_points(abs(change))} {wider} than that of {found.model.to_numpy()[0]} "
        f"(difference: {_interval(gap, 'gap_size_change')}){sure}."
    )


def _title(attribute: str) -> str:
    return attribute.replace("_", " ").capitalize()


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
        f"Switching off {units} units of {layer} ({chosen}) moves the gap between {by.replace('_', ' ')} from "
        f"{_points(effects.gap_before)} to {_points(one.gap)} (change: {_interval(one, 'gap_change')}); accuracy: {moved}."
    )
    if others:
        rest = effects.sel(unit=[name for name in effects.unit.to_numpy() if str(name).startswith(others)])
        said += f" {rest.sizes['unit']} random sets of as many units: to {_points(rest.gap.mean())} on average."
    return said


def _with_images(group: xr.Dataset, attribute: str) -> str:
    return f"{label_of(attribute, str(group.label.item()))} ({_percent.say(float(group.value))}, {int(group.images):,} images)"


def label_of(attribute: str, label: str) -> str:
    """Return what people read for a group or intersection of groups."""
    parts = zip(attribute.split(CROSS), label.split(CROSS), strict=False)
    return CROSS.join(group_title(name, part) for name, part in parts)


def _points(value: xr.DataArray | float) -> str:
    return _percent.say(float(value), signed=True).lstrip("+−")


def _interval(one: xr.Dataset, name: str) -> str:
    low, high = (round(100 * float(one[f"{name}{end}"])) + 0.0 for end in ("_low", "_high"))
    return f"95 % interval {low:.0f} to {high:.0f} points".replace("-", "−")
