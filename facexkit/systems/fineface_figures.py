"""Pictures of FineFACE: where its experts attend on the same faces, and how a training went."""

from __future__ import annotations

from collections.abc import Mapping

import pandas as pd
import xarray as xr
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from matplotlib.ticker import PercentFormatter

from facexkit.show.figures import MARKS, drawn, subplots
from facexkit.show.pictures import veil


@drawn
def plot_attention(seen: xr.Dataset) -> Figure:
    """Draw a row a face: the face, and for each expert and for all together where it looks, and the box of the crop.

    Parameters
    ----------
    seen : what `expert_attention` gave, of a few faces.
    """
    images, experts, side = seen.sizes["image"], seen.expert.to_numpy(), seen.sizes["y"]
    figure, axes = subplots(images, 5, figsize=(8, 1.7 * images + 0.5), squeeze=False)
    for row, name in zip(axes, seen.image.to_numpy(), strict=True):
        one = seen.sel(image=name)
        for ax in row:
            ax.imshow(one.picture)
            ax.set_axis_off()
        for ax, expert in zip(row[1:], experts, strict=True):
            ax.imshow(veil(one.attention.sel(expert=expert).to_numpy(), side))
            top, bottom, left, right = one.box.sel(expert=expert).to_numpy()
            frame = {"fill": False, "edgecolor": "#f0a202", "linewidth": 2}
            ax.add_patch(Rectangle((left - 0.5, top - 0.5), right - left, bottom - top, **frame))
    titles = ("face", "expert 1\nearly stage", "expert 2", "expert 3\nlast stage", "all three")
    for ax, title in zip(axes[0], titles, strict=True):
        ax.set_title(title, fontsize=9)
    return figure


@drawn
def plot_history(histories: Mapping[str, pd.DataFrame]) -> Figure:
    """Plot the last validation column of each training's `history.csv` over the epochs, by name."""
    figure, ax = subplots(figsize=(6.4, 3.2))
    for (name, history), (colour, mark) in zip(histories.items(), MARKS, strict=False):
        ax.plot(history.epoch, history.iloc[:, -1], f"{mark}-", color=colour, label=name)
        ax.plot(history.epoch, history.accuracy, ":", color=colour, label=f"{name}, while it learned")
    ax.set(xlabel="epoch", ylabel="accuracy")
    ax.yaxis.set_major_formatter(PercentFormatter(1, decimals=0))
    ax.legend()
    ax.set_title("Right answers on validation faces, epoch by epoch", fontweight="bold")
    return figure
