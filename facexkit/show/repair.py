"""A repair: in words, and as a picture of before, control and after."""

from __future__ import annotations

import numpy as np
import xarray as xr
from matplotlib.figure import Figure

from facexkit.faces.regions import TITLES
from facexkit.show.face_map import INK, SOFT
from facexkit.show.figures import draw_dots, drawn, subplots
from facexkit.show.readings import METHODS, percent
from facexkit.show.words import NotMeasured, label_of, model_of, words

PARTS_SHOWN = 6
_DONE = {
    "exchange": "trained on with {} exchanged", "last_layer": "with its last layer refitted", "ablate": "with units switched off",
    "erase": "with the group erased",
}  # fmt: skip


def repair_findings(found: xr.Dataset) -> list[str]:
    """Say what a repair did: to the worst group, to all faces, to the region's share, and what took its place.

    Parameters
    ----------
    found : the `result` of `fx.repair`.
    """
    regions, faces = _listed(found.regions), f"{found.held_out:,} held-out faces"
    if found.nothing_else:
        said = f"{_rate(found, 'accuracy', 'after')} are right, not clearly more than by always saying the commonest class"
        return [f"Without {regions} {model_of(found)} knows nothing of the class that {faces} could show: {said}."]
    worst = str(found.worst_group.sel(model="before").item())
    done, group = _DONE.get(found.method, f"repaired by “{found.method}”").format(regions), _group_title(found, worst)
    moved = found.sel(group=worst, metric="accuracy")
    means = f"whom it judged worst ({group})"
    said = [
        f"{model_of(found)}, {done}, is right for {_rate(moved, 'value', 'after')} of the faces {means}, instead of "
        f"{percent(moved.value.sel(model='before'))}; the control for {percent(moved.value.sel(model='control'))}.",
        f"Of all {faces} it is right for {_rate(found, 'accuracy', 'after')}, instead of "
        f"{percent(found.accuracy.sel(model='before'))}.",
    ]
    if "share" not in found:
        return [*said, NotMeasured("What it rests on is not known: there are no masks of regions.")]
    for name in (name for name in found.regions if name in found.part.values):
        one = found.sel(part=name)
        before, control = (percent(one.share.sel(model=state)) for state in ("before", "control"))
        said.append(f"The share of the {TITLES[name]}: {before} before, {_rate(one, 'share', 'after')} after; the control {control}.")
    if len(found.taken_over):
        risen = [f"the {TITLES[n]} ({percent(s[0])} → {percent(s[2])})" for n in found.taken_over if (s := found.share.sel(part=n).values).size]
        more = [*found.regions, *found.taken_over]
        said.append(f"More rests now on {_joined(risen)}. If that should not be either, repeat with regions={more}, or rounds=2.")
    return said


def _rate(found: xr.Dataset, name: str, state: str) -> str:
    value, low, high = (float(found[f"{name}{end}"].sel(model=state)) for end in ("", "_low", "_high"))
    interval = METHODS["share"].interval(low, high)
    return f"{percent(value)} (95 % interval {interval})" if interval else percent(value)


def _listed(regions: list[str]) -> str:
    return _joined([f"the {TITLES[name]}" for name in regions])


def _joined(names: list[str]) -> str:
    return " and ".join([", ".join(names[:-1]), names[-1]] if len(names) > 1 else names)


def _group_title(found: xr.Dataset, group: str) -> str:
    one = found.sel(group=group)
    return f"{words(one.attribute_of.item())}: {label_of(str(one.attribute_of.item()), str(one.label.item()))}"


@drawn
def plot_repair(found: xr.Dataset, title: str | None = None) -> Figure:
    """Plot accuracy, of all held-out faces and by group, and the largest shares: before, control and after.

    Parameters
    ----------
    found : the `result` of `fx.repair`.
    title : what the picture shows; the first finding if None.
    """
    states, shares = found.model.to_numpy(), "share" in found
    figure, axes = subplots(1, 1 + shares, figsize=(5.4 + 4.6 * shares, 3.6), squeeze=False)
    groups = found.sel(metric="accuracy")
    ends = [np.column_stack([found[f"accuracy{end}"], groups[f"value{end}"]]) for end in ("", "_low", "_high")]
    names = ["all faces", *(_group_title(found, str(name)) for name in found.group.to_numpy())]
    full = np.concatenate([[True], found.ranked.to_numpy()])
    panels = [(axes[0, 0], ends, names, full, "accuracy, with 95 % interval")]
    if shares:
        parts = found.share.max("model").fillna(-1).to_series().nlargest(PARTS_SHOWN).index
        own = [found[f"share{end}"].sel(part=parts).to_numpy() for end in ("", "_low", "_high")]
        panels.append((axes[0, 1], own, [TITLES[name] for name in parts], None, "share of the decision, with 95 % interval"))
    for ax, numbers, labels, ranked, told in panels:
        series = [(state, *own) for state, *own in zip(states, *numbers, strict=True)]
        draw_dots(ax, series, labels, percent=True, ranked=ranked, within=0.6)
        ax.set_xlabel(told)
        ax.grid(axis="x")
        ax.axvline(0, color=SOFT, linewidth=0.8) if told.startswith("share") else ax.set_xlim(0, 1.02)
    axes[0, -1].legend(loc="lower right")
    said = repair_findings(found)[0].replace(" %", "\N{NO-BREAK SPACE}%") if title is None else title
    figure.suptitle(said, color=INK, wrap=True)
    return figure
