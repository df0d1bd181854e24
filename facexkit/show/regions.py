"""Region numbers: in words, as a plot, and as tables."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from facexkit.errors import FacexkitError
from facexkit.faces.regions import REGIONS, TITLES, UNIONS
from facexkit.faces.spreadsheet import write_csv
from facexkit.measure.groups import CROSS
from facexkit.measure.share_interval import accused
from facexkit.show.face_map import INK, SOFT, short_titles
from facexkit.show.figures import draw_dots, drawn, subplots
from facexkit.show.readings import (
    ELSE,
    METHODS,
    Reading,
    Subject,
    each_class,
    method_of,
    mirrored,
    one_class,
    ranked,
    read_parts,
    read_regions,
    subjects,
)  # fmt: skip
from facexkit.show.words import NotMeasured, group_title, words

TOGETHER, DAMAGED = 0.2, 0.1
"""Of the way to the other face's decision: what two parts do together that is worth a sentence; what a placebo may do."""


def region_findings(results: xr.Dataset | Iterable[xr.Dataset]) -> list[str]:
    """Say what results show, most important first.

    A finding rests on the decision share where there is one; FaceX's score stands beside it, and a sentence says so
    where the two disagree on the first place.

    Parameters
    ----------
    results : what `fx.score_regions` gave: one Dataset or several, of one or several methods, classes and models.
    """
    return [sentence for group in grouped_findings(subjects(results)) for sentence in group]


def grouped_findings(people: list[Subject]) -> list[list[str]]:
    """Return the sentences on each class of a model, then those on their differences, last what was left out, if any."""
    groups, contrasts = [], []
    for place, subject in enumerate(people):
        twin = next((other for other in people[:place] if mirrored(other.by("share"), subject.by("share"))), None)
        if twin is None:
            groups.append(_on_share(subject) + _on_facex(subject))
        else:
            same = f"{_named(subject)} has the same decision shares as “{twin.class_name}”: "
            groups.append([f"{same}of two classes, one is the other's opposite.", *_on_facex(subject)])
        contrasts += [sentence for other in people[:place] if (sentence := _contrast(other, subject))]
    made = [scores.attrs for subject in people for scores in subject.results]
    return [group for group in (*groups, contrasts, _on_left_out(made), _on_masks(made), _on_scatter(made)) if group]


def _on_scatter(made: list[dict]) -> list[NotMeasured]:
    """Say where faces that are not aligned were exchanged region by region."""
    found = [attrs["scatter"] for attrs in made if "scatter" in attrs]
    return [NotMeasured(
        f"The faces are not aligned: their eyes and lips scatter by {max(found):.0%} of the way between them, and decision "
        "shares exchange regions in one place. Do not rely on them; find=largest aligns the faces."
    )] if found else []  # fmt: skip


def _on_masks(made: list[dict]) -> list[NotMeasured]:
    """Say which regions the masks cannot tell from the background."""
    titles = dict.fromkeys(TITLES[region] for attrs in made for region in attrs.get("untold", ()))
    told = f"The masks cannot tell {', '.join(titles)}: all of that counts as {ELSE}. Masks by hand or by a face parser can."
    return [NotMeasured(told)] if titles else []


def _on_left_out(made: list[dict]) -> list[NotMeasured]:
    """Say how many images have no face mask, of the result that lacks most, and whose they are."""
    most = max(made, key=lambda attrs: len(attrs.get("unmasked", ())))
    if not (images := len(most.get("unmasked", ()))):
        return []
    groups = [
        f"{words(name)}: {', '.join(f'{n} {group_title(name, group)}' for group, n in own.items())}"
        for name, own in most["unmasked_groups"].items()
    ]
    behind = f" ({'; '.join(groups)})" if groups else ""
    return [NotMeasured(f"Left out of all regions: {images} image{'s' * (images > 1)} without a face mask{behind}.")]


def _on_share(subject: Subject) -> list[str]:
    share, method = subject.by("share"), METHODS["share"]
    if share is None:
        return []
    best, sure = ranked(share), accused(share)
    if not best or best[0].region not in sure:
        largest = f": the largest share is that of {best[0].the}, {best[0].sentence}" if best else ""
        return [f"No single region can be shown to carry the decision {_named(subject)}{largest}."]
    first, rest = best[0], [reading for reading in best[1:3] if reading.region in sure]
    behind = f" ({first.behind})" if first.behind else ""
    said = [
        f"The decision {_named(subject)} rests most on {first.the}: of the way from one face's decision to "
        f"another's, {first.verb('it carries', 'they carry')} {first.text}{behind}."
    ]
    if rest:
        named = " and ".join(f"{reading.the} ({reading.text})" for reading in rest)
        together = method.say(sum(reading.value for reading in (first, *rest)))
        come = "comes" if len(rest) == 1 else "come"
        said.append(f"Next {come} {named}; with the first, their shares add up to {together}.")
    return said + _on_pairs(share) + _on_placebo(share)


def _on_pairs(share: xr.Dataset) -> list[str]:
    """Say which two parts decide most together, if any do beyond doubt."""
    if "interaction" not in share:
        return []
    best = share.isel(together=int(np.argmax(share.interaction.to_numpy())))
    if not best.interaction_low > TOGETHER:
        return ["No two of the largest can be shown to do much only together."]
    parts = read_parts(share)
    first, second = (parts[part].the for part in str(best.together.values).split(CROSS))
    say = METHODS["share"].say
    return [
        f"{first[:1].upper()}{first[1:]} and {second} decide together: what they do only together is {say(best.interaction)} of the way from "
        f"one face's decision to another's (95 % interval {METHODS['share'].interval(best.interaction_low, best.interaction_high)})."
    ]


def _on_placebo(share: xr.Dataset) -> list[str]:
    """Warn where exchanges between faces of one decision, which on average should do nothing, move it."""
    if not share.get("placebo_high", 0) < -DAMAGED:
        return []
    lost = METHODS["share"].say(-share.placebo.item())
    return [
        NotMeasured(
            f"Read these shares with care: exchanges between two faces of one decision take {lost} of the way off it, where they "
            "should do nothing on average; to this model exchanged faces look unlike faces. See what seam=2, a softer edge, changes."
        )
    ]


def _on_facex(subject: Subject) -> list[str]:
    facex, share = subject.by("facex"), subject.by("share")
    best = ranked(facex) if facex is not None else []
    if not best:
        return []
    first, own = best[0], facex.attrs.get("explain_on") == "class"
    on = f" on the faces labelled “{subject.class_name}”" if own else ""
    if first.value == 0:
        return [
            NotMeasured(f"FaceX says nothing of {_named(subject)}: no attribution map rises above its threshold anywhere.")
        ]
    if share is None:
        return [
            f"The attribution map of {_named(subject)}{on} lies most on {first.the}: FaceX score {first.sentence}. "
            "It says where the map is high, which need not be what moves the decision."
        ]
    leader = next((reading.region for reading in ranked(share)[:1] if reading.region in accused(share)), None)
    led = [reading for reading in best if reading.region in UNIONS.get(leader, ()) or reading.region == leader]
    if first in led:
        return [f"FaceX agrees on the first place{on}: {first.the} {first.verb('scores', 'score')} {first.sentence}."]
    beside = "".join(f"; {beaten.the} {beaten.verb('has', 'have')} {beaten.text}" for beaten in led[:1])
    return [
        f"The methods disagree: FaceX scores {first.the} highest{on} ({first.text}{beside}). Rely on the decision "
        "share, which changes what the model sees."
    ]


def _contrast(a: Subject, b: Subject) -> str:
    """Return where two classes or models differ most by decision share, if anywhere by a point."""
    if a.by("share") is None or b.by("share") is None:
        return ""
    first, second = read_parts(a.by("share")), read_parts(b.by("share"))
    gaps = {region: np.nan_to_num(abs(first[region].value - second[region].value)) for region in first if region in second}
    region = max(gaps, key=gaps.__getitem__)
    if gaps[region] < 0.01:
        return ""
    one = first[region]
    return (
        f"The largest difference is in {one.the}: of the way from one face's decision to another's, "
        f"{one.verb('it carries', 'they carry')} {_named(a)} {one.text} and {_named(b)} {second[region].text}."
    )


def _named(subject: Subject) -> str:
    return f"“{subject.class_name}” of {subject.model}"


@drawn
def plot_interactions(scores: xr.Dataset) -> Figure:
    """Plot what two parts do only together, the largest on top; `scores` has one class and `interactions=`."""
    scores = one_class(scores)
    if "interaction" not in scores:
        raise FacexkitError('interactions are measured by score_regions(..., method="share", interactions=4)')
    scores = scores.sortby("interaction", ascending=False)
    figure, ax = subplots(figsize=(7, 1.4 + 0.4 * scores.sizes["together"]))
    parts = read_parts(scores)
    names = [CROSS.join(parts[part].label for part in str(two).split(CROSS)) for two in scores.together.values]
    draw_dots(ax, [("", *(scores[f"interaction{end}"].to_numpy() for end in ("", "_low", "_high")))], names, percent=True)
    ax.set_xlim(left=0)
    ax.set_xlabel("what two do only together, beside the way from one face's decision to another's")
    figure.suptitle(_on_pairs(scores)[0].partition(":")[0].rstrip("."), color=INK, fontsize=12)
    return figure


@drawn
def plot_regions(results: xr.Dataset | Iterable[xr.Dataset], *, title: str | None = None) -> Figure:
    """Plot the number of every region, or of two together such as the lips, as a dot with its 95 % interval.

    Parameters
    ----------
    results : what `fx.score_regions` gave. Each method gets a panel, the decision share first; classes and models
        share it, told apart by colour and mark. The first result's largest number is on top.
    title : what the picture shows; the first row if None.
    """
    results = each_class(results)
    methods = sorted({s.attrs.get("method") for s in results}, key=lambda m: [*METHODS, m].index(m))
    panels = [[scores for scores in results if scores.attrs.get("method") == method] for method in methods]
    order = ranked(panels[0][0], missing=True)
    figure, axes = subplots(1, len(panels), figsize=(1.6 + 4.6 * len(panels), 6.2), sharey=True, squeeze=False)
    for ax, panel in zip(axes[0], panels, strict=True):
        _draw_panel(ax, panel, order)
    names = dict(pair[::-1] for ax in axes[0] for pair in zip(*ax.get_legend_handles_labels(), strict=True))
    if len(names) > 1:
        figure.legend(names.values(), names, loc="outside lower center", ncols=len(names))
    best = order[0]
    figure.suptitle(f"{best.title.capitalize()} first: {best.text}" if title is None else title, color=INK, fontsize=12)
    return figure


def _draw_panel(ax: Axes, panel: list[xr.Dataset], order: list[Reading]) -> None:
    method, readings = method_of(panel[0]), [read_regions(scores) for scores in panel]
    ends = ("value", "low", "high")
    numbers = [[np.array([getattr(own.get(one.region), k, np.nan) for one in order]) for k in ends] for own in readings]
    series, names = zip(short_titles(panel), numbers, strict=True), [one.label for one in order]
    draw_dots(ax, [(name, *own) for name, own in series], names, percent=method.percent)
    for y in np.flatnonzero(np.isnan([own[0] for own in numbers]).all(0)):
        beside = ax.get_yaxis_transform()  # at the right edge, where no axis is
        ax.text(1, y, "no data", transform=beside, ha="right", va="center", fontsize=8, color=SOFT, style="italic")
    ax.axvline(0, color=SOFT, linewidth=0.8)
    ax.set_title(method.title, fontsize=11)
    ax.set_xlabel(method.unit.replace(" (", "\n("))


def write_score_tables(results: xr.Dataset | Iterable[xr.Dataset], folder: str | Path) -> list[Path]:
    """Write `scores.csv` and `per_image.csv` into a folder and return their paths.

    Parameters
    ----------
    results : what `fx.score_regions` gave. `scores.csv` has a row a model, method, class and region, or union of regions:
        score, its 95 % interval, number of images, and what people read for it; `per_image.csv` a row a model, method, class and image: the model's
        output at the class, and a column a region, empty where the image lacks it. What a method does not give is empty.
    """
    results = each_class(results)
    tables = {"scores.csv": _numbers, "per_image.csv": _per_image}
    return [write_csv(pd.concat(_labelled(s, of(s)) for s in results), Path(folder, name)) for name, of in tables.items()]


def _numbers(scores: xr.Dataset) -> pd.DataFrame:
    rows = {name: (one.value, one.low, one.high, one.images, one.title) for name, one in read_regions(scores).items()}
    columns = ["score", "score_low", "score_high", "images", "title"]
    return pd.DataFrame.from_dict(rows, "index", columns=columns).rename_axis("region")


def _per_image(scores: xr.Dataset) -> pd.DataFrame:
    empty = pd.DataFrame(index=pd.Index([], name="image"), columns=[*REGIONS], dtype=float)
    table = scores.per_image.to_pandas() if "per_image" in scores else empty
    return table.assign(output=scores.output.to_pandas() if "output" in scores else np.nan)


def _labelled(scores: xr.Dataset, table: pd.DataFrame) -> pd.DataFrame:
    made_by = {name: scores.attrs.get(name, "") for name in ("model", "method", "layer")}
    made_by |= {name: scores[name].item() for name in ("target_class", "class_name")}
    return table.reset_index().assign(**made_by)[[*made_by, *table.index.names, *table]]
