"""The units of a layer as small pictures: what each detects, to whom it leans, and what happens without it."""

from __future__ import annotations

from collections.abc import Mapping
from functools import lru_cache
from html import escape

import numpy as np
import traitlets as t
import xarray as xr

from facexkit.faces.faceset import FaceSet
from facexkit.measure.hierarchy import rank_concepts
from facexkit.measure.iou_tally import INTERPRETABLE
from facexkit.measure.unit_effects import chances_without, class_changes, unit_effects
from facexkit.models.face_model import FaceModel
from facexkit.show.pictures import lit_face, picture_uri, seen_faces
from facexkit.show.readings import percent, points_between
from facexkit.show.widgets.base import (
    SESSION,
    Paged,
    among,
    count,
    flag,
    number,
    rows,
    script,
    share,
    table,
    text,
    whole,
    yes_or_no,
)  # fmt: skip
from facexkit.show.words import group_title, headed, title_of, words

SAMPLE, TOPS = 256, 4
SORTS = [("iou", "supported, then highest IoU first"), ("lean", "strongest lean first"), ("unit", "by number")]


def _a_unit(browser: UnitBrowser, value: object) -> bool:
    return count(browser, value) and browser.found is not None and -1 <= value < browser.found.sizes["unit"]


class UnitBrowser(Paged):
    """Units by `sort`, `concept`, `area`, `least_iou` and `leans` ("ATTRIBUTE: GROUP"); `unit` is the selected one.

    With `ablated` the unit is switched off and `effect` says what changes, on its faces and on a sample of the set.

    Parameters
    ----------
    found, bias : what `dissect` and `global_bias` gave for a layer; `show` takes others.
    """

    _esm = script("units")
    sort = text("iou", fits=among("sorts"))
    concept, area, leans = (text(fits=among(offers)) for offers in ("concepts", "areas", "groups"))
    least_iou = number(fits=share)
    sorts, concepts, areas, groups = rows(), rows(), rows(), rows()
    unit, ablated, detail, effect = whole(-1, fits=_a_unit), flag(fits=yes_or_no), table(), table()
    found: xr.Dataset | None = None

    def __init__(
        self, found: xr.Dataset | None, faces: FaceSet, model: FaceModel, bias: xr.Dataset | None = None,
        target_class: int | str = 1, how: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        super().__init__(title="Units", sorts=SORTS)
        self.faces, self.model, self.target = faces, model, model.class_index(target_class)
        self.how = {**(how or {}), "folder": None}  # a sample is soon shown again
        if found is not None:
            self.show(found, bias)

    def show(self, found: xr.Dataset, bias: xr.Dataset | None = None) -> None:
        """Show the units of another layer."""
        self.unit, self.page, self.ablated, self.concept, self.area, self.leans = -1, 0, False, "", "", ""
        self.found, self.bias, self.ranked = found, bias, rank_concepts(found)
        self.title = f"Units of {found.attrs['layer']}"
        self.best, self.iou = found.best_concept.to_numpy().astype(str), found.best_iou.to_numpy()
        self.detects = (found.interpretable & found.supported).to_numpy()
        self.attributes = [] if bias is None else [str(attribute) for attribute in bias.attribute.values]
        self.seen, self.lit = seen_faces(found, self.faces, np.arange(len(self.iou))), lru_cache(4096)(self._lit)
        leaning = {a: sorted({*bias.leans_to.sel(attribute=a).values} - {""}) for a in self.attributes}
        self.concepts = [("", "any"), *((c, title_of(c)) for c in sorted({*self.best[self.iou > 0].tolist()}))]
        self.areas = [("", "any"), *((a, a) for a in sorted({*self.ranked.area.values} - {""}))]
        groups = [(f"{a}: {g}", f"{words(a)}: {group_title(a, g)}") for a in leaning for g in leaning[a]]
        self.groups = [("", "anybody or nobody"), *groups]
        self._list()

    @t.observe("sort", "concept", "area", "least_iou", "leans", "page")
    def _list(self, _change: object = None) -> None:
        if self.found is None:
            return
        keep, effect = self.iou >= self.least_iou, np.zeros(len(self.iou))
        keep &= (self.best == self.concept) | (not self.concept)
        keep &= (self.ranked.area.to_numpy() == self.area) | (not self.area)
        if self.bias is not None:
            attribute, _, group = self.leans.partition(": ")
            own = self.bias.sel(attribute=[attribute] if attribute else self.attributes)
            effect = own.effect.max("attribute").to_numpy()
            keep &= (own.leans_to == group).any("attribute").to_numpy() | (not attribute)
        unsure = ~self.found.supported.to_numpy()
        order = np.lexsort({"iou": (-self.iou, unsure), "lean": (-effect,), "unit": (np.arange(len(keep)),)}[self.sort])
        units = order[keep[order]].tolist()
        said = f"{len(units)} of {len(keep)} units, {int(unsure[units].sum())} of them without a supported label"
        self.turn(units, self._card, said)

    def _card(self, unit: int) -> dict:
        meets = f"{title_of(self.best[unit])}, IoU {self.iou[unit]:.2f}" if self.iou[unit] > 0 else "meets no concept"
        meets += "" if self.found.supported[unit] or not self.iou[unit] else ", not supported"
        lean = max(self.attributes, key=lambda a: float(self.bias.effect.sel(attribute=a)[unit]), default="")
        group = str(self.bias.leans_to.sel(attribute=lean).values[unit]) if lean else ""
        told = meets + (f" · leans: {words(lean)}, {group_title(lean, group)}" if group else "")
        return {"key": unit, "picture": self.lit(unit, 0), "title": f"unit {unit}", "text": told}

    def _tops(self, unit: int) -> list[tuple[str, np.ndarray, str]]:
        """Return path, map and what to say of the images that meet the unit's best concept best, or excite it most."""
        one = self.found.isel(unit=unit)
        top = one.sel(concept=self.best[unit])
        meets = zip(top.top_image.values, top.top_map.values, [f"IoU {v:.2f}" for v in top.top_iou.values], strict=True)
        excite = (
            (path, grid, "strongest")
            for path, grid in zip(one.strongest_image.values, one.strongest_map.values, strict=True)
        )
        return [found for found in (meets if self.iou[unit] > 0 else excite) if found[0]][:TOPS]

    def _lit(self, unit: int, place: int) -> str:
        for path, grid, _ in self._tops(unit)[place : place + 1]:
            return picture_uri(lit_face(self.seen(path), grid, float(self.found.threshold[unit])))
        return "data:,"

    @t.observe("unit", "ablated")
    def _select(self, _change: object) -> None:
        with self.in_words():
            self.detail, self.effect = (self._detail(self.unit) if self.unit >= 0 else {}), {}
            if self.ablated and self.unit >= 0:
                self._ablate(self.unit, self.found.attrs["layer"])

    def _detail(self, unit: int) -> dict:
        own, tables = self.ranked.isel(unit=unit), []
        what, pair = "detects" if self.detects[unit] else "is no detector; it meets", own.sel(concept=self.best[unit])
        said = f"It {what} {title_of(self.best[unit])} best (IoU {self.iou[unit]:.3f}; a detector has more than "
        said += f"{INTERPRETABLE:g}, and more than by its place alone, here {pair.position_iou:.3f}: q {pair.q_value:.3f})."
        chance, chosen = own.probability.to_series().sort_values(ascending=False), own.is_concept.to_series()
        if self.iou[unit] > 0:
            concepts = [[title_of(c), v, f"{v:.2f}", bool(chosen[c])] for c, v in chance[chance > 0][:8].items()]
            tables.append((f"Concepts of its area ({own.area.item()})", concepts))
        for name in self.attributes:
            part = self.bias.sel(attribute=name).isel(unit=unit)
            to, groups = str(part.leans_to.item()), part.probability.to_series().dropna()
            sure = f"leans to {group_title(name, to)}" if to else "may be chance"
            title = f"{headed(name)}: {sure} (q {float(part.q_value):.3f}, η² {float(part.effect):.2f})"
            tables.append((title, [[group_title(name, g), v, f"{v:.2f}", g == to] for g, v in groups.items()]))
        tops = [
            {"picture": self.lit(unit, k), "name": path, "text": told, "after": ""}
            for k, (path, _, told) in enumerate(self._tops(unit))
        ]
        return {
            "title": f"Unit {unit}",
            "said": said if self.iou[unit] > 0 else "It meets no concept.",
            "tops": tops,
            "tables": tables,
        }

    def _ablate(self, unit: int, layer: str) -> None:
        few = self.faces[self.faces.table.path.isin([top["name"] for top in self.detail["tops"]])]
        chances = SESSION.now(chances_without, self.model, few, layer, [unit], self.target) if len(few) else {}
        name = self.model.class_names[self.target]
        told = {path: f"{name} {before:.0%} → {after:.0%}" for path, (before, after) in chances.items()}
        tops = [{**top, "after": told.get(top["name"], "")} for top in self.detail["tops"]]
        self.detail = {**self.detail, "tops": tops}
        self.work(f"Switching unit {unit} off …", lambda: self._measure(unit, layer))

    def _measure(self, unit: int, layer: str) -> None:
        """Say what the unit's absence does to predictions on a sample of the set, and by group where there are groups."""
        faces = self.faces[np.unique(np.linspace(0, len(self.faces) - 1, SAMPLE).astype(int))]
        by = next(iter([*self.attributes, *faces.protected]), faces.target)
        if by is None or faces.target is None:
            changed, images = class_changes(self.model, faces, layer, [unit], **{**self.how, "progress": self.bar})
            self.effect = {"said": f"Without unit {unit}, {changed} of {images} faces get another class.", "rows": []}
            return
        found = unit_effects(self.model, faces, layer, by, [unit], **{**self.how, "progress": self.bar}).isel(unit=0)
        change = points_between(found.accuracy_change_low, found.accuracy_change_high)
        said = f"Without unit {unit}, accuracy on {len(faces)} faces goes from {percent(found.accuracy_before)} to "
        said += f"{percent(found.accuracy)} (change: {change}); by {words(by)}:"
        groups = zip(found.group.values, found.group_accuracy_before.values, found.group_accuracy.values, strict=True)
        shown = [[group_title(by, g), float(a), f"{percent(b)} → {percent(a)}", True] for g, b, a in groups]
        self.effect = {"said": said, "rows": shown}

    def still(self) -> str:
        return super().still() + (f"<p>{escape(self.detail['title'] + ': ' + self.detail['said'])}</p>" if self.detail else "")
