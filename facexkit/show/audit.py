"""An audit and the effects of units: in words, as pictures, and as tables."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from facexkit.faces.faceset import FaceSet
from facexkit.measure.groups import CROSS
from facexkit.measure.saved import write_table
from facexkit.show.face_map import INK, SOFT
from facexkit.show.figures import MARKS, draw_dots, drawn, subplots
from facexkit.show.pictures import face_as_seen
from facexkit.show.readings import percent, points, points_between
from facexkit.show.words import NotMeasured, group_title, headed, label_of, model_name, model_of, words

NOTHING = ("0 points", "0.0 points")


def audit_findings(found: xr.Dataset, metric: str = "accuracy") -> list[str]:
    """Say of each attribute, the widest gap first, whom each model treats worst and best, and how models differ.

    A gap with q ≥ 0.05 is said to be perhaps chance. Intersections come last; groups too small to be compared are named at the end.

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
    if training := found.attrs.get("training"):
        said.append(f"{training:,} of the faces are training faces (split “train”): of new faces this says little.")
    every = filter(None, [*said, *_on_small(found), *_on_left_out(found)])
    return sorted(every, key=lambda sentence: isinstance(sentence, NotMeasured))


def _on_small(found: xr.Dataset) -> list[NotMeasured]:
    small = found.isel(group=~found.ranked.to_numpy())
    listed = {
        name: ", ".join(
            f"{label_of(name, label)} ({n:,})"
            for of, label, n in zip(small.attribute_of.values, small.label.values, small.images.values, strict=True)
            if of == name
        )
        for name in map(str, found.attribute.values)
    }  # fmt: skip
    why = f"too small to say anything, with fewer than {found.attrs['min_images']} images"
    return [NotMeasured(f"{headed(name)}: {why}: {groups}.") for name, groups in listed.items() if groups]


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
    if points(gap.gap_size) in NOTHING:
        same, images = percent(own.value[0]), f"{int(own.images.sum()):,} images"
        return f"{title}: no difference was measured; {what} is {same} in each of {own.sizes['group']} groups ({images})."
    chance = f", which may be chance: of alike groups of these sizes best and worst lie {points(gap.by_chance)} apart"
    chance = chance if gap.q_value >= 0.05 else ""
    worst, best = (_with_images(own.isel(group=at(own.value.to_numpy())), attribute) for at in (np.argmin, np.argmax))
    return (
        f"{title}: {what} is lowest for {worst} and highest for {best}, a gap of "
        f"{points(gap.gap_size)} ({_interval(gap, 'gap_size')}){chance}."
    )


def _on_change(one: xr.Dataset, name: str, found: xr.Dataset, attribute: str, metric: str) -> str:
    gap = one.sel(attribute=attribute, metric=metric, gap="difference")
    change = float(gap.gap_size_change)
    if not np.isfinite(change):
        return ""
    wider, first = "wider" if change > 0 else "narrower", model_name(found.model.to_numpy()[0])
    sure = "" if gap.q_change < 0.05 else ", which may be chance"
    if points(change) in NOTHING:
        return f"{headed(attribute)}: the gap of {model_name(name)} is as wide as that of {first}."
    return (
        f"{headed(attribute)}: the gap of {model_name(name)} is {points(abs(change))} {wider} than that of {first} "
        f"(difference: {_interval(gap, 'gap_size_change')}){sure}."
    )


def effects_findings(effects: xr.Dataset, chosen: str, others: str = "") -> list[str]:
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
        f"{group_title(by, group)} {percent(before)} → {percent(after)}"
        for group, before, after in zip(
            one.group.to_numpy(), effects.group_accuracy_before.values, one.group_accuracy.values, strict=True
        )
    )
    said = [
        f"Switching off {units} units of {layer} ({chosen}) moves the gap between {words(by)} from "
        f"{points(effects.gap_before)} to {points(one.gap)} (change: {_interval(one, 'gap_change')}); accuracy: {moved}."
    ]
    if others:
        rest = effects.sel(unit=[name for name in effects.unit.to_numpy() if str(name).startswith(others)])
        said.append(f"{rest.sizes['unit']} random sets of as many units: to {points(rest.gap.mean())} on average.")
    if left_out := effects.attrs.get("left_out"):
        said.append(f"Images without a class or group, which are left out: {left_out:,}.")
    return said


def effects_finding(*given: object, **named: object) -> str:
    """Return the sentences of `effects_findings` as one text, as its old name did."""
    return " ".join(effects_findings(*given, **named))


def _with_images(group: xr.Dataset, attribute: str) -> str:
    return f"{label_of(attribute, str(group.label.item()))} ({percent(group.value)}, {int(group.images):,} images)"


def _interval(one: xr.Dataset, name: str) -> str:
    return points_between(one[f"{name}_low"], one[f"{name}_high"])


@drawn
def plot_audit(found: xr.Dataset, metric: str = "accuracy", title: str | None = None) -> Figure:
    """Plot a metric of every group as a dot with its 95 % interval; models by colour and mark, small groups hollow.

    Parameters
    ----------
    found : what `audit` gave.
    title : what the picture shows; the first finding if None.
    """
    parts = [found.sel(group=found.attribute_of == name) for name in found.attribute.to_numpy()]
    rows, names = [part.sizes["group"] for part in parts], [model_name(name) for name in found.model.to_numpy()]
    size = (8, 1.2 + 0.42 * sum(rows) + 0.4 * len(rows))
    figure, axes = subplots(len(parts), figsize=size, sharex=True, squeeze=False, height_ratios=rows)
    for ax, part, by in zip(axes[:, 0], parts, map(str, found.attribute.to_numpy()), strict=True):
        own, ranked = part.sel(metric=metric), part.ranked.to_numpy()
        numbers = ((one.value, one.value_low, one.value_high) for one in (own.sel(model=m) for m in own.model))
        counts = zip(part.label.to_numpy(), part.images.to_numpy(), ranked, strict=True)
        labels = [f"{label_of(by, label)} ({n:,}{'' if large else ', not ranked'})" for label, n, large in counts]
        series = [(name, *map(np.asarray, each)) for name, each in zip(names, numbers, strict=True)]
        draw_dots(ax, series, labels, percent=True, ranked=ranked, within=0.6)
        ax.set_title(words(by), loc="left", fontsize=9, color=SOFT)
        ax.grid(axis="x")
    axes[-1, 0].set_xlabel(f"{words(metric)}, with 95 % interval")
    if found.sizes["model"] > 1:
        axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    said = (audit_findings(found, metric) or [metric])[0].split(" (95 %")[0].split(" (no int")[0] if title is None else title
    figure.suptitle(said.replace(" %", "\N{NO-BREAK SPACE}%"), color=INK, wrap=True)
    return figure


@drawn
def plot_confusion(found: xr.Dataset, attribute: str, model: str | None = None) -> Figure:
    """Draw a confusion matrix a group of an attribute: share of each true class, and the number of images."""
    one = found.sel(model=found.model.to_numpy()[0] if model is None else model)
    one = one.sel(group=one.attribute_of == attribute)
    groups = one.sizes["group"]
    figure, axes = subplots(1, groups, figsize=(1 + 2.6 * groups, 3.1), squeeze=False, sharey=True)
    for ax, place in zip(axes[0], range(groups), strict=True):
        counts = one.confusion.isel(group=place).to_numpy()
        share = counts / np.maximum(counts.sum(1, keepdims=True), 1)
        ax.imshow(share, cmap="Blues", vmin=0, vmax=1)
        for (truth, said), n in np.ndenumerate(counts):
            ink = "white" if share[truth, said] > 0.55 else INK
            ax.text(said, truth, f"{share[truth, said]:.0%}\n{n:,}", ha="center", va="center", color=ink, fontsize=8)
        ax.set_title(f"{label_of(attribute, str(one.label.to_numpy()[place]))} ({int(one.images[place]):,})", fontsize=9, color=SOFT)
        ax.set_xticks(range(len(counts)), one.prediction.to_numpy(), fontsize=8)
        ax.set_yticks(range(len(counts)), one.truth.to_numpy(), fontsize=8)
        ax.set_xlabel("prediction", fontsize=8)
    axes[0, 0].set_ylabel("truth", fontsize=8)
    figure.suptitle(f"{model_name(one.model.item())}: what is taken for what, by {words(attribute)}", color=INK)
    return figure


@drawn
def plot_mistakes(found: xr.Dataset, faces: FaceSet, attribute: str, model: str | None = None) -> Figure:
    """Draw of each group of an attribute the mistakes that the model was most confident of.

    Parameters
    ----------
    found : what `audit` gave for `faces`, or for predictions with their paths and confidences.
    """
    one = found.sel(model=found.model.to_numpy()[0] if model is None else model)
    one = one.sel(group=one.attribute_of == attribute)
    rows, columns = one.mistake_path.shape
    size = (1.9 * columns + 0.6, 2.05 * rows + 0.6)
    figure, axes = subplots(rows, columns, figsize=size, squeeze=False)
    for ax, (group, k) in zip(axes.flat, np.ndindex(rows, columns), strict=True):
        each = one.isel(group=group, mistake=k)
        ax.set(xticks=[], yticks=[])
        ax.spines[:].set_visible(False)
        if path := each.mistake_path.item():
            ax.imshow(face_as_seen(faces, path))
            said = " → ".join(words(each[f"mistake_{name}"].item()) for name in ("truth", "prediction"))
            ax.set_title(f"{said}, {each.mistake_confidence:.0%}", fontsize=8, color=INK)
        if not k:
            ax.set_ylabel(f"{label_of(attribute, str(each.label.item()))}\n({int(each.images):,})", fontsize=9, color=INK)
    title = f"{model_name(one.model.item())}, the most confident mistakes: truth → prediction, confidence"
    figure.suptitle(title, color=INK, wrap=True)
    return figure


@drawn
def plot_effects(effects: xr.Dataset, highlight: Sequence[object] = (), title: str = "") -> Figure:
    """Plot what switching units off does: to the right the change of accuracy, upwards that of the gap.

    Parameters
    ----------
    effects : what `unit_effects` gave.
    highlight : units or sets to mark and name.
    """
    figure, ax = subplots(figsize=(6.4, 4.2))
    chosen = np.isin(effects.unit.to_numpy().astype(str), [str(unit) for unit in highlight])
    for own, (colour, mark), name in ((~chosen, ("#8793a3", "o"), "others"), (chosen, MARKS[1], "marked")):
        part = effects.isel(unit=own)
        if part.sizes["unit"]:
            spread = [abs(part[f"gap_change_{end}"] - part.gap_change) for end in ("low", "high")]
            ax.errorbar(part.accuracy_change, part.gap_change, yerr=spread, fmt=mark, color=colour, alpha=0.8, elinewidth=0.8,
                        markersize=5, label=name)  # fmt: skip
    for one in (effects.sel(unit=unit) for unit in effects.unit.to_numpy()[chosen]):
        ax.annotate(str(one.unit.item()), (one.accuracy_change, one.gap_change), xytext=(6, 4), textcoords="offset points",
                    fontsize=8, color=INK)  # fmt: skip
    ax.axhline(0, color=SOFT, linewidth=0.8)
    ax.axvline(0, color=SOFT, linewidth=0.8)
    for axis in (ax.xaxis, ax.yaxis):
        axis.set_major_formatter(PercentFormatter(1))
    ax.set_xlabel("change of accuracy, all faces")
    ax.set_ylabel(f"change of the gap between {words(effects.attrs['by'])}")
    ax.set_title(title or f"{effects.attrs['layer']} of {model_of(effects)}: units switched off", fontweight="bold")
    return figure


def write_audit(folder: str | Path, found: xr.Dataset, effects: xr.Dataset | None = None) -> list[Path]:
    """Write an audit into a folder, each table as CSV and Parquet, and return the paths of the CSV files.

    Parameters
    ----------
    found : what `audit` gave: `groups`, a row a model, group and metric; `gaps`, a row a model, attribute, metric and
        gap; `mistakes`, a row a model, group and mistake, where confidences are known.
    effects : what `unit_effects` gave: `units`, a row a unit.
    """
    stems = {"groups": "value", "gaps": "gap_size", "mistakes": "mistake_"}
    tables = {name: found[[v for v in found if str(v).startswith(stem)]] for name, stem in stems.items()}
    tables["groups"] = tables["groups"].assign(images=found.images, ranked=found.ranked)
    judged = [name for name in ("q_value", "q_change", "by_chance") if found[name].notnull().any()]
    tables["gaps"] = tables["gaps"].assign(found[judged])
    if effects is not None:
        tables["units"] = effects[[v for v in effects if effects[v].dims == ("unit",)]]
    every = {name: table.to_dataframe().reset_index() for name, table in tables.items()}
    every["mistakes"] = every["mistakes"][every["mistakes"].mistake_truth != ""]
    return [write_table(table, Path(folder, name))[0] for name, table in every.items() if len(table)]
