"""The look of the kit's plots, and plots of region numbers: dots with their intervals, several methods side by side."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, wraps
from textwrap import fill

import matplotlib.pyplot as plt
import numpy as np
import xarray as xr
from matplotlib import font_manager, get_data_path
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator

from facexkit.show.face_map import INK, SOFT, short_titles
from facexkit.show.readings import METHODS, method_of, one_class_each, ranked, read_regions
from facexkit.show.words import by_number, legible

MARKS = (("#0a539a", "o"), ("#b4500b", "s"), ("#4a566b", "^"), ("#7a3b8f", "D"))
LOOK = {
    "axes.labelcolor": SOFT, "axes.titlecolor": INK, "axes.titlesize": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "grid.color": "#e1e6eb", "grid.linewidth": 0.8,
    "legend.frameon": False, "legend.fontsize": 9, "figure.titlesize": 10, "figure.titleweight": "bold",
    "text.parse_math": False, "text.usetex": False, "axes.formatter.use_mathtext": False,
}  # fmt: skip
"""matplotlib's settings for every plot; no text in it is a formula."""


def drawn(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Give a plotting function the kit's look, all texts as they are written, and close its figure: shown once."""

    @wraps(plot)
    def in_our_look(*given: object, **named: object) -> Figure:
        with plt.rc_context(LOOK):
            figure = plot(*given, **named)
            _spell_out(figure)
        plt.close(figure)
        return figure

    return in_our_look


def _spell_out(figure: Figure) -> None:
    """Draw every letter of a figure: by a font that has it, or by its number, and say so once where none has."""
    texts = figure.findobj(Text)
    for text in (text for text in texts if text.get_wrap()):  # matplotlib's own wrapping takes texts for formulas
        columns = int(72 * figure.get_figwidth() / (0.62 * text.get_fontsize()))
        text.set(wrap=False, text=fill(text.get_text(), columns))
    usual = font_manager.findfont(font_manager.FontProperties())
    used = {letter for text in texts for letter in text.get_text()} - {"\n"}
    lost = {letter: _family_with(letter) for letter in sorted(used) if not _has(usual, letter)}
    spelled = {ord(letter): by_number(letter) for letter, family in lost.items() if not family}
    for axis in (axis for ax in figure.axes for axis in (ax.xaxis, ax.yaxis) if spelled):
        labels = [label.get_text() for label in axis.get_ticklabels()]
        if isinstance(axis.get_major_locator(), FixedLocator) and any(set(label) & lost.keys() for label in labels):
            axis.set_ticklabels([label.translate(spelled) for label in labels])
    for text in texts if lost else ():
        text.set_text(text.get_text().translate(spelled))
        text.set_fontfamily(["sans-serif", *dict.fromkeys(filter(None, lost.values()))])
    if spelled:
        figure.supxlabel("[U+…]: a letter that no font here has; install one, as Noto Sans", fontsize=7, color=SOFT)


@cache
def _family_with(letter: str) -> str | None:
    """Return the first installed family of fonts that has a letter; matplotlib's own have formulas and boxes."""
    fonts = (font for font in font_manager.fontManager.ttflist if not font.fname.startswith(get_data_path()))
    return next((font.name for font in fonts if _has(font.fname, letter)), None)


@cache
def _letters(file: str) -> frozenset[int]:
    font = font_manager.get_font(file)
    return frozenset(font.get_charmap()) if font.scalable else frozenset()


def _has(file: str, letter: str) -> bool:
    return ord(letter) in _letters(file) and legible(letter) == letter


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
