"""How far region scores can be relied on: beside random weights, in the order of each method, in words."""

from __future__ import annotations

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.figure import Figure

from facexkit.measure.share_interval import accused
from facexkit.show.face_map import INK, SOFT
from facexkit.show.figures import MARKS, draw_dots, drawn, subplots
from facexkit.show.readings import method_of, names_of, one_class, ranked, read_parts
from facexkit.show.words import words


@drawn
def plot_randomized(scores: xr.Dataset, random: xr.Dataset) -> Figure:
    """Plot every region's number beside the band of models with random weights.

    Parameters
    ----------
    scores : a one-class result of `score_regions`. random : what `randomized_scores` gave by the same method.
    """
    order = ranked(scores)
    names = [reading.region for reading in order]
    figure, ax = subplots(figsize=(7.2, 1.6 + 0.27 * len(names)))
    band = [random[end].reindex(region=names).to_numpy() for end in ("low", "high")]
    ax.barh(range(len(names)), band[1] - band[0], left=band[0], height=0.7, color="#d5dbe2", label="random weights")
    own = [np.array([getattr(reading, end) for reading in order]) for end in ("value", "low", "high")]
    method, labels = method_of(one_class(scores)), [reading.label for reading in order]
    draw_dots(ax, [(names_of(one_class(scores))[1], *own)], labels, percent=method.percent)
    ax.axvline(0, color=SOFT, linewidth=0.8)
    ax.set_xlabel(method.unit)
    ax.legend(loc="lower right")
    beyond = [reading.label for reading in order if reading.region in beyond_random(scores, random)[:2]]
    named = " and ".join(beyond) or "No region"
    figure.suptitle(f"Above every model with random weights: {named}", color=INK, fontsize=12)
    return figure


def beyond_random(scores: xr.Dataset, random: xr.Dataset) -> list[str]:
    """Return the regions whose interval lies above the band of models with random weights, the largest first."""
    return [reading.region for reading in ranked(scores) if reading.low > random.high.sel(region=reading.region).item()]


@drawn
def plot_curves(curves: xr.Dataset) -> Figure:
    """Plot how far the decision has gone after each exchange, by order; `curves` is what `exchange_curves` gave."""
    figure, ax = subplots(figsize=(7.2, 4.4))
    for place, name in enumerate(curves.order.values):
        colour, mark = MARKS[place % len(MARKS)]
        own = curves.sel(order=name)
        label = f"{words(name)}: area {own.area.item():.2f} ({own.area_low.item():.2f} to {own.area_high.item():.2f})"
        line = {"color": SOFT, "linestyle": "--"} if name == "random" else {"color": colour, "marker": mark, "markersize": 4}
        ax.plot(own.curve, label=label, **line)
    ax.axhline(1, color=SOFT, linewidth=0.8)
    ax.xaxis.get_major_locator().set_params(integer=True)
    ax.set_xlabel("regions exchanged")
    ax.set_ylabel("part of the way to the other face's decision")
    ax.legend()
    figure.suptitle(curve_findings(curves)[0].partition(":")[0], color=INK, fontsize=12)
    return figure


def curve_findings(curves: xr.Dataset) -> list[str]:
    """Say which order has first what moves the decision, beside a random one."""
    told = curves.sel(order=curves.order != "random").sortby("area", ascending=False)
    chance = curves.sel(order="random")
    best, sure = told.isel(order=0), told.area_low.values > chance.area_high.item()
    named = "; ".join(f"{words(n)} {a:.2f}" for n, a in zip(told.order.values, told.area.values, strict=True))
    said = f"The order of the {words(best.order.item())} moves the decision soonest" if sure[0] else "No order beats a random one"
    return [f"{said}: area under the curve {named}, random {chance.area.item():.2f}."]


def trust_findings(
    scores: xr.Dataset, random: xr.Dataset, curves: xr.Dataset, agreement: pd.DataFrame
) -> list[str]:
    """Say how far the finding of a decision share can be relied on."""
    share, parts, said = one_class(scores), read_parts(scores), []
    first = next(iter(accused(share)), None)
    if first is None:
        said.append("No region is accused: none has a share above 2 % that holds for all regions at once.")
    else:
        above = parts[first].low > random.high.sel(region=first).item()
        verdict = "more than in any model with random weights" if above else "which models with random weights show too"
        one = parts[first]
        carried = f"{one.the} {one.verb('carries', 'carry')} {one.text}"
        said.append(f"Of the way from one face's decision to another's, {carried}, {verdict}.")
    said += curve_findings(curves)
    if len(agreement):
        least = agreement.loc[agreement.rho.idxmin()]
        said.append(f"Methods agree least where {least['first']} and {least['second']} rank the regions: Spearman's ρ {least.rho:.2f}.")
    return said
