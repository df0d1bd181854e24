"""The look of the kit's plots, and what several of them draw: dots with their intervals, bars of counts."""

from __future__ import annotations

import io
from collections.abc import Callable, Sequence
from functools import cache, wraps
from textwrap import fill

import numpy as np
from matplotlib import font_manager, get_data_path, rc_context
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.text import Text
from matplotlib.ticker import FixedLocator, PercentFormatter

from facexkit.show.face_map import INK, SOFT
from facexkit.show.words import by_number, legible

MARKS = (("#0a539a", "o"), ("#b4500b", "s"), ("#4a566b", "^"), ("#7a3b8f", "D"))
LOOK = {
    "axes.labelcolor": SOFT, "axes.titlecolor": INK, "axes.titlesize": 10, "axes.spines.top": False,
    "axes.spines.right": False, "axes.axisbelow": True, "grid.color": "#e1e6eb", "grid.linewidth": 0.8,
    "legend.frameon": False, "legend.fontsize": 9, "figure.titlesize": 10, "figure.titleweight": "bold",
    "text.parse_math": False, "text.usetex": False, "axes.formatter.use_mathtext": False,
}  # fmt: skip
"""matplotlib's settings for every plot; no text in it is a formula."""


class Picture(Figure):
    """A figure that a notebook shows whatever matplotlib's backend is: pyplot, which has one, is never asked."""

    def _repr_png_(self) -> bytes:
        self.savefig(buffer := io.BytesIO(), format="png", bbox_inches="tight")
        return buffer.getvalue()


def subplots(rows: int = 1, columns: int = 1, *, figsize: tuple[float, float], **how: object) -> tuple[Figure, object]:
    """Return a figure and its axes, as `pyplot.subplots` does."""
    figure = Picture(figsize=figsize, layout="constrained")
    return figure, figure.subplots(rows, columns, **how)


def drawn(plot: Callable[..., Figure]) -> Callable[..., Figure]:
    """Give a plotting function the kit's look, and all texts as they are written; a user's own plots keep theirs."""

    @wraps(plot)
    def in_our_look(*given: object, **named: object) -> Figure:
        with rc_context(LOOK):
            figure = plot(*given, **named)
            _spell_out(figure)
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


def draw_dots(
    ax: Axes, series: Sequence[tuple[str, np.ndarray, np.ndarray, np.ndarray]], names: Sequence[str] | None = None, *,
    percent: bool = False, ranked: np.ndarray | None = None, within: float = 0.5,
) -> None:  # fmt: skip
    """Draw a dot with its interval in each row, of several series beside each other, told apart by colour and mark.

    Parameters
    ----------
    series : name, value, low and high, each a number a row.
    names : of the rows, from the top; None leaves them to the caller.
    percent : whether the numbers are shares, told in percent.
    ranked : where dots are full, and hollow elsewhere.
    within : the height of a row that they share.
    """
    for place, (name, value, low, high) in enumerate(series):
        at = np.arange(len(value)) + (place - (len(series) - 1) / 2) * within / len(series)
        colour, mark = MARKS[place % len(MARKS)]
        full = np.ones(len(value), bool) if ranked is None else ranked
        ax.hlines(at, low, high, color=colour, linewidth=2, alpha=0.55)
        ax.plot(value[full], at[full], mark, color=colour, markersize=6, label=name)
        ax.plot(value[~full], at[~full], mark, color=colour, markerfacecolor="white", markersize=6)
    ax.grid(axis="y")
    ax.spines["left"].set_visible(False)
    ax.tick_params(axis="y", length=0)
    if names is not None:
        ax.set_yticks(range(len(names)), names)
        ax.set_ylim(len(names) - 0.4, -0.6)
    if percent:
        ax.xaxis.set_major_formatter(PercentFormatter(1, decimals=0, symbol=" %"))
