"""Rates of groups as dots with their intervals."""

from __future__ import annotations

import matplotlib.pyplot as plt
import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from facexkit.show.face_map import INK, SOFT
from facexkit.show.figures import MARKS


def plot_rates(tables: dict[str, pd.DataFrame], rate: str = "accuracy", title: str = "") -> Figure:
    """Plot a rate of every group, one mark a model.

    Parameters
    ----------
    tables : by model's name, tables indexed by (column, value) with columns `rate` and `error`, as `accuracy_by` gives.
    """
    groups = next(iter(tables.values())).index
    figure, ax = plt.subplots(figsize=(8, 1.2 + 0.42 * len(groups)), layout="constrained")
    for place, (name, table) in enumerate(tables.items()):
        at = np.arange(len(groups)) + 0.2 * (place - (len(tables) - 1) / 2)
        colour, mark = MARKS[place % len(MARKS)]
        values, errors = table[rate].reindex(groups), table.error.reindex(groups)
        ax.hlines(at, (values - errors).clip(lower=0), (values + errors).clip(upper=1), color=colour, linewidth=2, alpha=0.55)
        ax.plot(values, at, mark, color=colour, markersize=7, label=name)
    ax.set_yticks(range(len(groups)), [f"{column}: {value}" for column, value in groups])
    ax.invert_yaxis()
    ax.set_xlim(0, 1.02)
    ax.xaxis.set_major_formatter(lambda value, _: f"{100 * value:.0f} %")
    ax.set_xlabel(f"{rate} (95 % interval)", color=SOFT)
    ax.grid(color="#e1e6eb", linewidth=0.8)
    ax.set_axisbelow(True)
    ax.spines[["top", "right", "left"]].set_visible(False)
    ax.tick_params(axis="y", length=0)
    ax.set_title(title, loc="left", fontweight="bold", color=INK)
    if len(tables) > 1:
        ax.legend(frameon=False, loc="lower left")
    plt.close(figure)
    return figure
