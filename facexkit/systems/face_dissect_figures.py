"""Face Dissect's comparison of models: which units detect what or nothing, and which lean to whom or nobody."""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facexkit.show.dissection import PALE, of_attribute
from facexkit.show.face_map import INK
from facexkit.show.figures import drawn, subplots
from facexkit.show.words import group_title, headed, model_name, model_of, title_of

COLOURS = ("#0a539a", "#e0a15c", "#5b8c5a", "#7a3b8f", "#b4500b", "#4a566b", "#8fc1e3")
BIASED = {2: 0.55}
"""Groups of an attribute → the probability from which a unit counts as biased; 1.2 / groups for others: 0.3 of four."""


def count_concepts(ranked: Mapping[str, xr.Dataset], by: str = "area") -> pd.DataFrame:
    """Count the concepts of the interpretable units of models by area or type, and the units without, "unlocalizable".

    Parameters
    ----------
    ranked : what `rank_concepts` gave, by the model's name.
    by : "area" or "type". A unit counts once for each of its concepts.
    """
    rows = {}
    for name, result in ranked.items():
        known, kinds = result.interpretable.to_numpy(), result[f"concept_{by}"].to_numpy()
        counts = result.is_concept.to_numpy()[known].sum(0)
        rows[name] = {kind: int(counts[kinds == kind].sum()) for kind in dict.fromkeys(kinds)}
        rows[name]["unlocalizable"] = int((~known).sum())
    return _counted(rows, "unlocalizable")


def count_biased(biases: Mapping[str, xr.Dataset], attribute: str) -> pd.DataFrame:
    """Count the units of models whose probability of a group is at least 0.55 of two groups, 0.3 of four (`BIASED`).

    Returns
    -------
    table, one row a model, one column a group, and "unbiased", the units of no group. A unit may count for two groups.
    """
    rows = {}
    for name, bias in biases.items():
        part = of_attribute(bias, attribute)
        high = part.probability.to_numpy() >= BIASED.get(part.sizes["group"], 1.2 / part.sizes["group"])
        rows[name] = dict(zip(map(str, part.group.to_numpy()), high.sum(0).tolist(), strict=True))
        rows[name]["unbiased"] = int((~high.any(1)).sum())
    return _counted(rows, "unbiased")


def _counted(rows: Mapping[str, Mapping[str, int]], last: str) -> pd.DataFrame:
    """Return counts as a table, one row a model, 0 where a model has none; the column `last` is the last one."""
    table = pd.DataFrame.from_dict(rows, "index").fillna(0).astype(int)
    return table[[*table.columns.drop(last), last]]


@drawn
def plot_affinity(ranked: Mapping[str, xr.Dataset]) -> Figure:
    """Draw `count_concepts` by area and by type: a group of bars a model, the last, pale one "unlocalizable"."""
    figure, axes = subplots(1, 2, figsize=(5 + 2.2 * len(ranked), 3.6), width_ratios=(1.5, 1))
    for ax, by in zip(axes, ("area", "type"), strict=True):
        _draw_groups(ax, count_concepts(ranked, by).rename(columns=title_of))
        ax.set(title=f"by {by}", ylabel="concepts of the units; units without")
    none = {model_name(name): (int((~each.interpretable).sum()), each.sizes["unit"]) for name, each in ranked.items()}
    said = ", ".join(f"{without} of {units} units of {name}" for name, (without, units) in none.items())
    figure.suptitle(f"Unlocalizable: {said}", color=INK)
    return figure


@drawn
def plot_biased_units(biases: Mapping[str, xr.Dataset]) -> Figure:
    """Draw `count_biased` of every attribute: a group of bars a model, the last, pale one "unbiased"."""
    attributes = [*dict.fromkeys(str(a) for bias in biases.values() for a in bias.attribute.to_numpy())]
    size = (2.4 + (1.6 + 1.2 * len(biases)) * len(attributes), 3.6)
    figure, axes = subplots(1, len(attributes), figsize=size, squeeze=False)
    said = []
    for ax, attribute in zip(axes[0], attributes, strict=True):
        counts = count_biased({n: bias for n, bias in biases.items() if attribute in bias.attribute}, attribute)
        _draw_groups(ax, counts.rename(columns=lambda group, of=attribute: group_title(of, group)))
        ax.set_title(headed(attribute))
        said.append(f"{headed(attribute)} {', '.join(map(str, counts.unbiased))}")
    axes[0, 0].set_ylabel("units")
    figure.suptitle(f"Unbiased units of {' and '.join(map(model_name, biases))}: {'; '.join(said)}", color=INK)
    return figure


@drawn
def plot_probabilities(bias: xr.Dataset, attribute: str) -> Figure:
    """Draw every unit's probabilities of the groups of an attribute on top of each other, by the first group's."""
    part = of_attribute(bias, attribute)
    shares = part.probability.to_numpy()
    shares = shares[np.argsort(-shares[:, 0], kind="stable")]
    figure, ax = subplots(figsize=(8, 3.4))
    heights = np.cumsum(np.hstack([np.zeros((len(shares), 1)), shares]), 1)
    for place, group in enumerate(part.group.to_numpy()):
        look = {"facecolor": COLOURS[place % len(COLOURS)], "step": "mid", "linewidth": 0}
        mean, spread = shares[:, place].mean(), shares[:, place].std()
        ax.fill_between(range(len(shares)), heights[:, place], heights[:, place + 1], **look,
                        label=f"{group_title(attribute, group)}: {mean:.3f} ± {spread:.3f}")  # fmt: skip
    ax.set(ylim=(0, 1), xlim=(0, max(1, len(shares) - 1)), ylabel="probability")
    ax.set_xlabel(f"units, by the probability of {group_title(attribute, part.group.to_numpy()[0])}")
    ax.legend(loc="center left", bbox_to_anchor=(1, 0.5), title="mean ± standard deviation")
    of = f"{bias.attrs['layer']}{f' of {model_of(bias)}' if 'model' in bias.attrs else ''}"
    ax.set_title(f"{headed(attribute)}: what the {len(shares)} units of {of} lean to", fontweight="bold")
    return figure


def _draw_groups(ax: Axes, table: pd.DataFrame) -> None:
    """Draw a group of bars a row; the last column is pale."""
    width = 0.8 / len(table.columns)
    for place, name in enumerate(table):
        pale = place == len(table.columns) - 1
        at = np.arange(len(table)) + (place - (len(table.columns) - 1) / 2) * width
        bars = ax.bar(at, table[name], 0.9 * width, color=PALE if pale else COLOURS[place % len(COLOURS)], label=name)
        ax.bar_label(bars, fontsize=7, padding=1, color=INK)
    ax.set_xticks(range(len(table)), [model_name(name) for name in table.index])
    ax.legend(fontsize=8, loc="upper left", bbox_to_anchor=(1, 1))
