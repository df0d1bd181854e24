"""A dissection, its hierarchy and the leaning of units: in words, as pictures, and as files."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from textwrap import shorten

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.patches import Rectangle
from PIL import Image

from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import TITLES
from facexkit.measure.hierarchy import count_units, rank_concepts
from facexkit.measure.iou_tally import INTERPRETABLE, detectors
from facexkit.measure.mask_exchange import ALPHA
from facexkit.measure.saved import save_result, write_table
from facexkit.models.face_model import FaceModel
from facexkit.registry import Registry
from facexkit.show.face_map import INK, SOFT
from facexkit.show.figures import MARKS, Picture, drawn, subplots
from facexkit.show.pictures import lit_face, of_best, seen_faces
from facexkit.show.readings import percent
from facexkit.show.words import group_title, headed, model_name, model_of, title_of, words

PAIRS = ("intersection", "union", "iou", "position_iou", "gain", "gain_low", "gain_high", "q_value", "could_be_best")
BAR_WIDTH = 0.6
BAR, PALE = MARKS[0][0], "#a9b4c2"
ROW, WIDTH = 1.2, 8.27  # inches
RULE = (
    f"To detect a concept is to overlap its masks with an IoU above {INTERPRETABLE:g}, and by more than the unit's place "
    f"alone explains (q < {ALPHA:g})."
)


EXPORTS: Registry = Registry("export", "facexkit.exports", "facexkit.systems.face_dissect_files")
"""Functions (found, model, faces, folder, ranked, bias) → the paths of what they wrote for another program."""


def dissection_findings(found: Mapping[str, xr.Dataset], concepts: Sequence[str] = ()) -> list[str]:
    """Say of each dissection how many units detect what.

    Parameters
    ----------
    found : what `dissect` gave, by the model's name; "" where there is one only.
    concepts : concepts whose detectors to count and name, as one: ("u_lip", "l_lip", "lips").
    """
    said = []
    for name, result in found.items():
        known, best = detectors(result), result.best_concept.to_numpy()
        unsure = int((result.interpretable & ~result.supported).sum())
        of = f" of {model_name(name)}" if name else ""
        verb = "detects" if known.sum() == 1 else "detect"
        values, counts = np.unique(best[known].astype(str), return_counts=True)
        most = [f"{title_of(values[k])} ({counts[k]})" for k in np.argsort(-counts, kind="stable")[:4]]
        sentence = f"{known.sum()} of {len(known)} units of {result.attrs['layer']}{of} {verb} {one_of_concepts(result)}"
        sentence += f": {', '.join(most)}" if most else ""
        said.append(f"{sentence}; {unsure} more may know a place only." if unsure else f"{sentence}.")
        if concepts:
            own = np.flatnonzero(known & np.isin(best, concepts))
            listed = ", ".join(map(str, result.unit.to_numpy()[own][:12])) + (", …" if len(own) > 12 else "")
            what = " or ".join(title_of(concept) for concept in concepts)
            said.append(f"Units{of} that detect {what}: {len(own)}" + (f" (unit {listed})." if len(own) else "."))
    return [*said, RULE]


def one_of_concepts(found: xr.Dataset) -> str:
    """Return in words what was looked for: "one of 22 face regions", "one of 24 concepts"."""
    kind = "face regions" if {*found.concept.to_numpy()} <= TITLES.keys() else "concepts"
    return f"one of {found.sizes['concept']} {kind}"


def bias_findings(biases: Mapping[str, xr.Dataset]) -> list[str]:
    """Say of each attribute and model how many units lean, to whom, how strongly, with the images behind it.

    Parameters
    ----------
    biases : what `global_bias` gave, by the model's name; "" where there is one only.
    """
    said = []
    for attribute, (name, bias) in product(_attributes(biases), biases.items()):
        part = bias.sel(attribute=attribute)
        leans, effect = part.leans_to.to_numpy(), part.effect.to_numpy()
        titles = {g: group_title(attribute, g) for g in part.group.to_numpy()[part.images.to_numpy() > 0]}
        images = ", ".join(f"{title} ({int(part.images.sel(group=group)):,})" for group, title in titles.items())
        to = ", ".join(f"{own} to {title}" for group, title in titles.items() if (own := (leans == group).sum()))
        sentence = f"{headed(attribute)}: {(leans != '').sum()} of {len(leans)} units{f' of {model_name(name)}' if name else ''} "
        sentence += "lean to a group, answering to it more strongly than chance explains"
        if to:
            first = int(np.argmax(np.where(leans != "", effect, -1)))
            unit, probability = part.unit.to_numpy()[first], float(part.probability[first].max())
            sentence += (
                f" ({to}); the strongest is unit {unit}, to {titles[leans[first]]}: probability {probability:.2f}, "
                f"and {percent(effect[first])} of the variance of its response"
            )
        said.append(f"{sentence}. Images: {images}.")
    return said


def _attributes(biases: Mapping[str, xr.Dataset]) -> list[str]:
    return [*dict.fromkeys(str(attribute) for bias in biases.values() for attribute in bias.attribute.to_numpy())]


@drawn
def plot_units(
    found: xr.Dataset, faces: FaceSet, units: Sequence[int] | int = 6, ranked: xr.Dataset | None = None
) -> Figure:
    """Draw units with their best images, the active area lit and the rest dimmed, and the concepts of their area.

    Parameters
    ----------
    found : what `dissect` gave.
    units : positions of units, or how many of those with the highest IoU, supported ones first.
    ranked : what `rank_concepts` gave; made from `found` if None.
    """
    ranked = rank_concepts(found) if ranked is None else ranked
    order = by_iou(found)[:units] if isinstance(units, int) else np.asarray(units)
    figure = Picture(figsize=(WIDTH, ROW * len(order) + 0.6))
    if not len(order):
        figure.suptitle(f"{model_of(found)}, {found.attrs['layer']}: no unit meets any concept", color=INK)
        return figure
    seen = seen_faces(found, faces, order)
    best = found.isel(unit=order[0])
    figure.suptitle(
        f"{model_of(found)}, {found.attrs['layer']}, on {found.sizes['image']:,} faces: unit {best.unit.item()} "
        f"{'detects' if detectors(best) else 'is no detector; it meets'} "
        f"{title_of(best.best_concept.item())} best ({_iou_of(ranked.isel(unit=order[0]))})",
        color=INK, fontsize=10, y=1 - 0.12 / figure.get_figheight(), wrap=True,
    )  # fmt: skip
    draw_units(page_axes(figure), found, ranked, seen, order, top=figure.get_figheight() - 0.5)
    return figure


def by_iou(found: xr.Dataset) -> np.ndarray:
    """Return the positions of the units that meet a concept, supported ones first, then the highest IoU."""
    best = found.best_iou.to_numpy()
    order = np.lexsort((-best, ~found.supported.to_numpy()))
    return order[best[order] > 0]


def _iou_of(unit: xr.Dataset) -> str:
    place = float(unit.position_iou.sel(concept=unit.best_concept.item()))
    return f"IoU {unit.best_iou.item():.3f}, by place {place:.3f}"


def page_axes(figure: Figure) -> Axes:
    """Return axes over the whole figure, in inches from its lower left corner."""
    ax = figure.add_axes((0, 0, 1, 1))
    ax.set(xlim=(0, figure.get_figwidth()), ylim=(0, figure.get_figheight()), aspect="auto")
    ax.axis("off")
    return ax


def draw_units(
    ax: Axes, found: xr.Dataset, ranked: xr.Dataset, seen: Callable[[str], Image.Image], units: np.ndarray, top: float
) -> None:
    """Draw a row a unit from `top` inches downwards, with the pictures that `seen` gives by path."""
    chosen, side = found.isel(unit=units), ROW - 0.15
    names, scores = of_best(chosen, "top_image"), of_best(chosen, "top_iou")
    maps, thresholds = chosen.top_map.to_numpy(), chosen.threshold.to_numpy()
    for row, (unit, paths) in enumerate(zip(units, names[:, :4], strict=True)):
        y = top - ROW * (row + 1)
        _draw_words(ax, ranked.isel(unit=unit), y + side)
        for place, path in enumerate(paths):
            x = 1.95 + place * (side - 0.02)
            if path:
                picture = lit_face(seen(path), maps[row, place], thresholds[row])
                ax.imshow(picture, extent=(x, x + side - 0.08, y + 0.08, y + side), interpolation="none")
                ax.text(x + 0.04, y + 0.12, f"{scores[row, place]:.2f}", color="white", fontsize=6.5)
        _draw_bars(ax, ranked.isel(unit=unit), x=6.4, y=y + side)
    ax.set(xlim=(0, ax.figure.get_figwidth()), ylim=(0, ax.figure.get_figheight()), aspect="auto")


def _draw_words(ax: Axes, unit: xr.Dataset, y: float) -> None:
    known = bool(detectors(unit))
    ax.text(0.3, y - 0.02, f"unit {unit.unit.item()}", va="top", fontweight="bold", fontsize=10, color=INK)
    said = [shorten(title_of(unit.best_concept.item()), 26, placeholder="…"), _iou_of(unit)]
    said += [f"area: {unit.area.item() or 'none'}"]
    said += [] if known else ["not supported" if unit.interpretable else "not interpretable"]
    ax.text(0.3, y - 0.24, "\n".join(said), va="top", fontsize=8, color=INK if known else SOFT, linespacing=1.35)


def _draw_bars(ax: Axes, unit: xr.Dataset, x: float, y: float, most: int = 6) -> None:
    probability = unit.probability.to_numpy()
    order = np.argsort(-probability, kind="stable")[:most]
    for row, concept in enumerate(order[probability[order] > 0]):
        at, chosen = y - 0.06 - 0.18 * row, bool(unit.is_concept[concept])
        ax.add_artist(Rectangle((x, at - 0.065), BAR_WIDTH * probability[concept], 0.13, color=BAR if chosen else PALE))
        text = f"{probability[concept]:.2f} {title_of(str(unit.concept.to_numpy()[concept]))}"
        ax.text(x + BAR_WIDTH * probability[concept] + 0.04, at, shorten(text, 25, placeholder="…"), va="center",
                fontsize=6.5, color=INK, fontweight="bold" if chosen else "normal")  # fmt: skip


@drawn
def plot_counts(ranked: Mapping[str, xr.Dataset]) -> Figure:
    """Plot how many detectors each concept, area and type has, for models or layers side by side; see `count_units`.

    Parameters
    ----------
    ranked : what `rank_concepts` gave, by the name in the legend.
    """
    counts = [f"{detectors(r).sum()} of {r.sizes['unit']} ({model_name(name)})" for name, r in ranked.items()]
    figure = Picture(figsize=(10.5, 1.3 + 0.3 * max(3, len(count_units(ranked)[:15]))), layout="constrained")
    axes = figure.subplots(1, 3, width_ratios=(1.5, 1, 1))
    draw_counts(axes, ranked, most=15)
    if len(ranked) > 1 and axes[0].patches:
        figure.legend(*axes[0].get_legend_handles_labels(), loc="outside lower center", ncols=len(ranked))
    figure.suptitle(f"Units that detect {one_of_concepts(next(iter(ranked.values())))}: {', '.join(counts)}", color=INK)
    return figure


def draw_counts(axes: Sequence[Axes], ranked: Mapping[str, xr.Dataset], most: int) -> None:
    """Draw how many detectors each concept, area and type has, on axes of their own."""
    for ax, by in zip(axes, ("concept", "area", "type"), strict=True):
        table = count_units(ranked, by)[:most]
        for place, name in enumerate(table):
            at = np.arange(len(table)) + (place - (len(table.columns) - 1) / 2) * 0.8 / len(table.columns)
            look = {"color": MARKS[place % 4][0], "hatch": ("", "///")[place % 2], "edgecolor": "white", "linewidth": 0.5}
            bars = ax.barh(at, table[name], height=0.7 / len(table.columns), label=model_name(name), **look)
            ax.bar_label(bars, fontsize=8, padding=2, color=INK)
        ax.set_yticks(range(len(table)), [title_of(value) for value in table.index], fontsize=9)
        ax.set_ylim(max(len(table), most // 4) - 0.4, -0.6)
        ax.set(xlabel="units that detect it", title=f"by {by}")
        ax.xaxis.get_major_locator().set_params(integer=True)
        if table.empty:
            ax.set_xlim(0, 1)
            ax.text(0.5, 0.5, "none", transform=ax.transAxes, ha="center", va="center", color=SOFT)


def of_attribute(bias: xr.Dataset, attribute: str) -> xr.Dataset:
    """Return the part of a result of `global_bias` that is about an attribute, with the groups that have images."""
    part = bias.sel(attribute=attribute)
    return part.isel(group=np.flatnonzero(part.images > 0))


@drawn
def plot_bias(biases: Mapping[str, xr.Dataset], attribute: str | Sequence[str] | None = None) -> Figure:
    """Plot every unit's effect size against the probability of the group that it leans to, models side by side.

    Parameters
    ----------
    biases : what `global_bias` gave, by the title of its panel.
    attribute : one, or several, a row each; None for those to whose groups units lean, or the first where none leans.
    """
    every = _attributes(biases)
    leaning = [name for name in every if any((bias.leans_to.sel(attribute=name) != "").any() for bias in biases.values())]
    asked = [attribute] if isinstance(attribute, str) else list(attribute or leaning or every[:1])
    size = (1 + 4.4 * len(biases), 0.5 + 3.7 * len(asked))
    figure, axes = subplots(len(asked), len(biases), figsize=size, sharex=True, sharey=True, squeeze=False)
    for ax, (name, (model, bias)) in zip(axes.flat, product(asked, biases.items()), strict=True):
        _draw_bias(ax, bias, name, model_name(model))
    for ax in axes[:, 0]:
        ax.set_ylabel("effect size η²")
    for ax in axes[-1]:
        ax.set_xlabel("probability of the group\n(dotted: all groups alike)")
    told = " or ".join(words(name) for name in asked if name in leaning)
    title = f"Units that lean to a group of {told}" if told else f"No unit leans to a group of {' or '.join(map(words, asked))}"
    figure.suptitle(title, color=INK, wrap=True)
    return figure


def _draw_bias(ax: Axes, bias: xr.Dataset, attribute: str, model: str) -> None:
    part = of_attribute(bias, attribute)
    best, highest = part.probability.to_numpy().argmax(1), part.probability.to_numpy().max(1)
    effect, leans = part.effect.to_numpy(), part.leans_to.to_numpy() != ""
    ax.plot(highest[~leans], effect[~leans], ".", color=PALE, markersize=7, label=f"no group ({(~leans).sum()})")
    for place, group in enumerate(part.group.to_numpy()):
        own = leans & (best == place)
        colour, mark = MARKS[place % 4]
        look = {"markersize": 6, "alpha": 0.8, "fillstyle": "full" if place < 4 else "none"}
        ax.plot(highest[own], effect[own], mark, color=colour, label=f"{group_title(attribute, group)} ({own.sum()})", **look)
    ax.axvline(1 / part.sizes["group"], color=SOFT, linewidth=0.8, linestyle=":")
    ax.set_title(f"{words(attribute)}: {leans.sum()} of {len(leans)} units of {model}")
    ax.legend(title="leans to (units)")


def write_dissection(
    folder: str | Path,
    found: xr.Dataset | None = None,
    ranked: xr.Dataset | None = None,
    bias: xr.Dataset | None = None,
    export: str | None = None,
    model: FaceModel | None = None,
    faces: FaceSet | None = None,
) -> list[Path]:
    """Write results of a layer into a folder, each as tables (CSV and Parquet) and as labelled arrays (zarr).

    Parameters
    ----------
    found : what `dissect` gave: `units`, a row a unit; `concepts`, a row a unit and concept; `dissection.zarr`.
    ranked : what `rank_concepts` gave: `hierarchy`, a row a unit and concept of its area; `hierarchy.zarr`.
    bias : what `global_bias` gave: `bias`, a row an attribute, unit and group; `bias.zarr`.
    export : "face_dissect" writes the files of `write_face_dissect` too; it needs `found`, `model` and `faces`.

    Returns
    -------
    the paths, the CSV file of a table first.
    """
    write_export = EXPORTS.find(export) if export is not None else None
    folder, files = Path(folder), []
    if found is not None:
        pairs = found[[*PAIRS, "images"]].to_dataframe().reset_index()
        files += write_table(unit_table(found, ranked).reset_index(), folder / "units")
        files += write_table(pairs, folder / "concepts")
        files.append(save_result(found, folder / "dissection.zarr"))
    if ranked is not None:
        table = ranked[["probability", "is_concept", "iou", "area"]].to_dataframe().reset_index()
        files += write_table(table[table.area == table.concept_area], folder / "hierarchy")
        files.append(save_result(ranked, folder / "hierarchy.zarr"))
    if bias is not None:
        table = bias.to_dataframe().reset_index()
        files += write_table(table[table.images > 0], folder / "bias")
        files.append(save_result(bias, folder / "bias.zarr"))
    if write_export is not None:
        files += write_export(found, model, faces, folder, ranked, bias)
    return files


def unit_table(found: xr.Dataset, ranked: xr.Dataset | None = None) -> pd.DataFrame:
    """Return a row a unit, supported ones first, then by IoU: what it detects, how well and whether that is more than by
    place alone, its area, its concepts there, those that could be its best one, its strongest images.

    Parameters
    ----------
    found : what `dissect` gave.
    ranked : what `rank_concepts` gave; made from `found` if None.
    """
    ranked = rank_concepts(found) if ranked is None else ranked
    names = ranked.concept.to_numpy()
    concepts = [
        ", ".join(f"{names[c]} {p[c]:.2f}" for c in (-p).argsort(kind="stable") if own[c])
        for p, own in zip(ranked.probability.to_numpy(), ranked.is_concept.to_numpy(), strict=True)
    ]
    table = found[["best_concept", "best_iou", "interpretable", "supported"]].to_dataframe()
    table = table.assign(
        area=ranked.area.to_numpy(), concepts=concepts,
        **{name: of_best(found, name) for name in ("position_iou", "gain_low", "gain_high", "q_value")},
        could_be_best=[", ".join(names[own]) for own in found.could_be_best.to_numpy()], threshold=found.threshold.to_numpy(),
        **{f"strongest_image_{place}": own for place, own in enumerate(found.strongest_image.to_numpy().T[:4], 1)},
    )  # fmt: skip
    return table.sort_values(["supported", "best_iou"], ascending=False, kind="stable")
