"""Pictures of an audit: groups with their intervals, confusion by group, and the effects of units."""

from __future__ import annotations

from collections.abc import Sequence

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import PercentFormatter

from facexkit.show.audit_findings import audit_findings
from facexkit.show.face_map import INK, SOFT
from facexkit.show.figures import MARKS, drawn
from facexkit.show.words import label_of, model_name, model_of, words


@drawn
def plot_audit(found: xr.Dataset, metric: str = "accuracy", title: str | None = None) -> Figure:
    """Plot a metric of every group as a dot with its 95 % interval; models by colour and mark, small groups hollow.

    Parameters
    ----------
    found : what `audit` gave.
    title : what the picture shows; the first finding if None.
    """
    parts = [found.sel(group=found.attribute_of == name) for name in found.attribute.to_numpy()]
    rows = [part.sizes["group"] for part in parts]
    figure, axes = plt.subplots(
        len(parts), 1, figsize=(8, 1.2 + 0.42 * sum(rows) + 0.4 * len(rows)), sharex=True, squeeze=False,
        height_ratios=rows, layout="constrained",
    )  # fmt: skip
    for ax, part, name in zip(axes[:, 0], parts, found.attribute.to_numpy(), strict=True):
        _dots(ax, part.sel(metric=metric), str(name))
    axes[-1, 0].set_xlabel(f"{words(metric)}, with 95 % interval")
    axes[-1, 0].xaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    if found.sizes["model"] > 1:
        axes[0, 0].legend(loc="lower right", bbox_to_anchor=(1, 1), ncols=2)
    said = (audit_findings(found, metric) or [metric])[0].split(" (95 %")[0].split(" (no int")[0] if title is None else title
    figure.suptitle(said.replace(" %", "\N{NO-BREAK SPACE}%"), color=INK, wrap=True)
    return figure


def _dots(ax: Axes, part: xr.Dataset, attribute: str) -> None:
    step, models = 0.6 / part.sizes["model"], part.model.to_numpy()
    for place, name in enumerate(models):
        one, (colour, mark) = part.sel(model=name), MARKS[place % len(MARKS)]
        at = np.arange(one.sizes["group"]) + (place - (len(models) - 1) / 2) * step
        ax.hlines(at, one.value_low, one.value_high, color=colour, linewidth=2, alpha=0.55)
        for ranked in (True, False):
            own = one.ranked.to_numpy() == ranked
            fill = colour if ranked else "white"
            ax.plot(one.value[own], at[own], mark, color=colour, markerfacecolor=fill, markersize=6,
                    label=model_name(name) if ranked else None)  # fmt: skip
    counts = zip(part.label.to_numpy(), part.images.to_numpy(), part.ranked.to_numpy(), strict=True)
    labels = [f"{label_of(attribute, label)} ({n:,}{'' if ranked else ', not ranked'})" for label, n, ranked in counts]
    ax.set_yticks(range(len(labels)), labels)
    ax.set_ylim(len(labels) - 0.4, -0.6)
    ax.set_title(words(attribute), loc="left", fontsize=9, color=SOFT)
    ax.grid(axis="both")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)


@drawn
def plot_confusion(found: xr.Dataset, attribute: str, model: str | None = None) -> Figure:
    """Draw a confusion matrix a group of an attribute: share of each true class, and the number of images."""
    one = found.sel(model=found.model.to_numpy()[0] if model is None else model)
    one = one.sel(group=one.attribute_of == attribute)
    groups = one.sizes["group"]
    figure, axes = plt.subplots(1, groups, figsize=(1 + 2.6 * groups, 3.1), squeeze=False, layout="constrained", sharey=True)
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
def plot_effects(effects: xr.Dataset, highlight: Sequence[object] = (), title: str = "") -> Figure:
    """Plot what switching units off does: to the right the change of accuracy, upwards that of the gap.

    Parameters
    ----------
    effects : what `unit_effects` gave.
    highlight : units or sets to mark and name.
    """
    figure, ax = plt.subplots(figsize=(6.4, 4.2), layout="constrained")
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
