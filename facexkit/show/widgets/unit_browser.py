"""The units of a layer as small pictures: what each detects, to whom it leans, and what happens without it."""

from __future__ import annotations

from collections.abc import Mapping
from html import escape

import numpy as np
import traitlets as t
import xarray as xr
from PIL import Image

from facexkit.faces.faceset import FaceSet
from facexkit.measure.unit_effects import chances_without, class_changes, unit_effects
from facexkit.models.face_model import FaceModel
from facexkit.show.pictures import lit_face, picture_uri
from facexkit.show.readings import percent, points_between
from facexkit.show.unit_cards import UnitCards
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
from facexkit.show.words import group_title, words

SAMPLE = 256
SORTS = [("iou", "supported, then highest IoU first"), ("lean", "strongest lean first"), ("unit", "by number")]


def _lit(face: Image.Image, activation: np.ndarray, threshold: float) -> dict[str, str]:
    return {"picture": picture_uri(lit_face(face, activation, threshold))}


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
        self.found, self.bias, self.told_of = found, bias, UnitCards(found, bias, self.faces, _lit)
        self.title = f"Units of {found.attrs['layer']}"
        offers = self.told_of.offers()
        self.concepts, self.areas, self.groups = offers["concepts"], offers["areas"], offers["groups"]
        self._list()

    @t.observe("sort", "concept", "area", "least_iou", "leans", "page")
    def _list(self, _change: object = None) -> None:
        if self.found is None:
            return
        of = self.told_of
        keep, effect = of.iou >= self.least_iou, np.zeros(len(of.iou))
        keep &= (of.best == self.concept) | (not self.concept)
        keep &= (of.ranked.area.to_numpy() == self.area) | (not self.area)
        if self.bias is not None:
            attribute, _, group = self.leans.partition(": ")
            own = self.bias.sel(attribute=[attribute] if attribute else of.attributes)
            effect = own.effect.max("attribute").to_numpy()
            keep &= (own.leans_to == group).any("attribute").to_numpy() | (not attribute)
        order = np.lexsort({"iou": (-of.iou, of.unsure), "lean": (-effect,), "unit": (np.arange(len(keep)),)}[self.sort])
        units = order[keep[order]].tolist()
        said = f"{len(units)} of {len(keep)} units, {int(of.unsure[units].sum())} of them without a supported label"
        self.turn(units, of.card, said)

    @t.observe("unit", "ablated")
    def _select(self, _change: object) -> None:
        with self.in_words():
            self.detail, self.effect = (self.told_of.detail(self.unit) if self.unit >= 0 else {}), {}
            if self.ablated and self.unit >= 0:
                self._ablate(self.unit, self.found.attrs["layer"])

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
        by = next(iter([*self.told_of.attributes, *faces.protected]), faces.target)
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
