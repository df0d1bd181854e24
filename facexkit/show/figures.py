"""The look of the kit's plots, and plots of region numbers: dots with their intervals, several methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import wraps

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facexkit.show.face_map import INK, SOFT, short_titles
from facexkit.show.readings import METHODS, method_of, one_class_each, ranked, read_regions

MARKS = (("#0a539a", "o"), ("#b4500b", "s"), ("#4a566b", "^"), ("#7a3b8f", "D"))
LOOK = {
    "axes.labelcolor": SOFT, "axes.titlecolor": INK, "axes.titlesize": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "grid.color": "#e1e6eb", "grid.linewidth": 0.8,
    "legend.frameon": False, "legend.fontsize": 9, "figure.titlesize": 10, "figure.titleweight": "bold",
}  # fmt: skip
"""matplotlib's settings for every plot."""


def drawn(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Give a plotting function the kit's look, and close its figure, so that a notebook shows it once."""

    @wraps(plot)
    def in_our_look(*given: object, **named: object) -> Figure:
        with plt.rc_context(LOOK):
            figure = plot(*given, **named)
        plt.close(figure)
        return figure

    return in_our_look


@drawn
def plot_regions(results: xr.Dataset | Iterable[xr.Dataset], *, title: str | None = None) -> Figure:
    """Plot every region's number as a dot with its 95 % interval, the first result's largest on top.

    Parameters
    ----------
    results : what `fx.score_regions` gave. Each method gets a panel, the decision share first; classes and models
        share it, told apart by colour and mark.
    title : what the picture shows; the highest region, or two together such as the lips, if None.
    """
    results = one_class_each(results)
    methods = sorted({s.attrs.get("method") for s in results}, key=lambda m: [*METHODS, m].index(m))
    panels = [[scores for scores in results if scores.attrs.get("method") == method] for method in methods]
    order = ranked(panels[0][0], missing=True)
    figure, axes = plt.subplots(
        1, len(panels), figsize=(1.6 + 4.6 * len(panels), 6.2), sharey=True, squeeze=False, layout="constrained"
    )
    for ax, panel in zip(axes[0], panels, strict=True):
        _dots(ax, panel, [reading.region for reading in order])
    axes[0, 0].set_yticks(range(len(order)), [reading.title for reading in order])
    axes[0, 0].invert_yaxis()
    best = (ranked(panels[0][0], parts=True) or order)[0]
    figure.suptitle(f"{best.title.capitalize()} first: {best.text}" if title is None else title, color=INK, fontsize=12)
    return figure


def _dots(ax: Axes, panel: list[xr.Dataset], order: list[str]) -> None:
    step = 0.5 / len(panel)
    for place, (scores, name) in enumerate(zip(panel, short_titles(panel), strict=True)):
        readings = [read_regions(scores)[region] for region in order]
        at = np.arange(len(order)) + (place - (len(panel) - 1) / 2) * step
        value, low, high = (np.array([getattr(r, k) for r in readings]) for k in ("value", "low", "high"))
        colour, mark = MARKS[place % len(MARKS)]
        ax.hlines(at, low, high, color=colour, linewidth=2, alpha=0.55)
        ax.plot(value, at, mark, color=colour, markersize=6, label=name)
    method = method_of(panel[0])
    for y, region in enumerate(order):
        if all(np.isnan(read_regions(scores)[region].value) for scores in panel):
            ax.text(0, y, " no data", va="center", fontsize=8, color=SOFT, style="italic")
    ax.axvline(0, color=SOFT, linewidth=0.8)
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_title(method.title, fontsize=11)
    ax.set_xlabel(method.unit.replace(" (", "\n("))
    if method.percent:
        ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    if len(panel) > 1:
        ax.legend()
