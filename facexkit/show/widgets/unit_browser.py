"""The units of a layer as small pictures: what each detects, to whom it leans, and what happens without it."""

from __future__ import annotations

from copy import deepcopy
from functools import lru_cache

import numpy as np
import torch
import traitlets as t
import xarray as xr
from PIL import Image

from facexkit.faces.faceset import FaceSet
from facexkit.measure.hierarchy import rank_concepts
from facexkit.measure.predictions import true_classes
from facexkit.measure.unit_effects import AblatedPredictions, unit_effects
from facexkit.models.face_model import FaceModel
from facexkit.probe.edits import ablation, run_changes
from facexkit.probe.stream import stream
from facexkit.show.dissection_figures import lit_face, seen_faces
from facexkit.show.dissection_findings import group_title, title_of
from facexkit.show.pictures import data_uri
from facexkit.show.readings import METHODS
from facexkit.show.widgets.base import Paged, script, synced
from facexkit.show.widgets.face_view import chances_of

SAMPLE, TOPS = 256, 4
SORTS = [("iou", "highest IoU first"), ("lean", "strongest lean first"), ("unit", "by number")]
_percent = METHODS["share"]


class UnitBrowser(Paged):
    """Units by `sort`, `concept`, `area`, `least_iou` and `leans` ("ATTRIBUTE: GROUP"); `unit` is the selected one.

    With `ablated` the unit is switched off and `effect` says what changes.

    Parameters
    ----------
    found, bias : what `dissect` and `global_bias` gave for a layer; `show` takes others.
    """

    _esm = script("units")
    unit = synced(t.Int(-1))
    sort, concept, area, leans = synced(t.Unicode("iou")), *(synced(t.Unicode()) for _ in range(3))
    least_iou = synced(t.Float(0))
    ablated = synced(t.Bool())
    sorts, concepts, areas, groups = (synced(t.List()) for _ in range(4))
    detail, effect = synced(t.Dict()), synced(t.Dict())
    target = t.Int(1)

    def __init__(
        self, found: xr.Dataset | None, faces: FaceSet, model: FaceModel, bias: xr.Dataset | None = None, target_class: int | str = 1
    ) -> None:
        super().__init__(title="Units", sorts=SORTS, target=model.class_index(target_class))
        self.faces, self.model, self.twin, self.found = faces, model, deepcopy(model), None  # a twin for what cannot wait
        if found is not None:
            self.show(found, bias)

    def show(self, found: xr.Dataset, bias: xr.Dataset | None = None) -> None:
        """Show the units of another layer."""
        self.unit, self.page, self.ablated = -1, 0, False
        self.found, self.bias, self.ranked = found, bias, rank_concepts(found)
        self.best, self.iou = found.best_concept.to_numpy().astype(str), found.best_iou.to_numpy()
        self.seen = seen_faces(found, self.faces, np.arange(found.sizes["unit"]))
        self.lit = lru_cache(4096)(self._lit)
        met, areas = sorted({*self.best[self.iou > 0].tolist()}), sorted({*self.ranked.area.values.tolist()})
        with self.hold_sync():
            self.title = f"Units of {found.attrs['layer']}"
            self.concepts = [("", "any"), *((c, title_of(c)) for c in met)]
            self.areas = [("", "any"), *((a, title_of(a)) for a in areas if a)]
            self.groups = [("", "anybody or nobody"), *self._leanings()]
            self.concept = self.area = self.leans = ""
        self._list()

    def _leanings(self) -> list[tuple[str, str]]:
        if self.bias is None:
            return []
        pairs = [(str(a), str(g)) for a in self.bias.attribute.values for g in np.unique(self.bias.leans_to.sel(attribute=a)) if g]
        return [(f"{a}: {g}", f"{a.replace('_', ' ')}: {group_title(a, g)}") for a, g in pairs]

    @t.observe("sort", "concept", "area", "least_iou", "leans", "page")
    def _list(self, _change: object = None) -> None:
        if getattr(self, "found", None) is None:
            return
        keep = self.iou >= self.least_iou
        keep &= (self.best == self.concept) | (not self.concept)
        keep &= (self.ranked.area.to_numpy() == self.area) | (not self.area)
        effect = np.zeros(len(keep))
        if self.bias is not None:
            attribute, _, group = self.leans.partition(": ")
            own = self.bias.sel(attribute=attribute or self.bias.attribute.values)
            effect = own.effect.to_numpy() if attribute else own.effect.max("attribute").to_numpy()
            keep &= (own.leans_to.to_numpy() == group) if attribute else True
        value = {"iou": -self.iou, "lean": -effect, "unit": np.arange(len(keep))}[self.sort]
        units = [int(u) for u in np.argsort(value, kind="stable") if keep[u]]
        self.turn(units, self._card, f"{len(units)} of {len(keep)} units")

    def _card(self, unit: int) -> dict:
        meets = f"{title_of(self.best[unit])}, IoU {self.iou[unit]:.2f}" if self.iou[unit] > 0 else "meets no concept"
        leans = [f"leans: {text}" for value, text in self._lean_of(unit)]
        return {"key": unit, "picture": self.lit(unit, 0), "title": f"unit {unit}", "text": " · ".join([meets, *leans[:1]])}

    def _lean_of(self, unit: int) -> list[tuple[str, str]]:
        if self.bias is None:
            return []
        own = self.bias.isel(unit=unit)
        order = [str(a) for a in self.bias.attribute.values[np.argsort(-own.effect.to_numpy(), kind="stable")]]
        leaning = [(a, str(own.leans_to.sel(attribute=a).item())) for a in order]
        return [(a, f"{a.replace('_', ' ')}, {group_title(a, g)}") for a, g in leaning if g]

    def _tops(self, unit: int) -> list[tuple[str, np.ndarray, str]]:
        """Return path, map and what to say of the images that meet the unit's best concept best, or excite it most."""
        one = self.found.isel(unit=unit)
        if self.iou[unit] > 0:
            of = one.sel(concept=self.best[unit])
            rows = zip(of.top_image.values, one.top_map.values, (f"IoU {v:.2f}" for v in of.top_iou.values), strict=True)
        else:
            rows = zip(one.strongest_image.values, one.strongest_map.values, ["strongest"] * 99)
        return [(str(path), grid, said) for path, grid, said in rows if path][:TOPS]

    def _lit(self, unit: int, place: int) -> str:
        tops = self._tops(unit)
        if place >= len(tops):
            return data_uri(Image.new("RGB", (8, 8), "#d3dae2"))
        return data_uri(lit_face(self.seen(tops[place][0]), tops[place][1], float(self.found.threshold[unit])))

    @t.observe("unit")
    def _select(self, _change: object = None) -> None:
        with self.in_words():
            self.detail, self.effect = (self._detail(self.unit) if self.unit >= 0 else {}), {}
            if self.ablated:
                self._ablate()

    def _detail(self, unit: int) -> dict:
        own, tops = self.ranked.isel(unit=unit), self._tops(unit)
        chance = own.probability.to_series().sort_values(ascending=False)
        chosen = own.is_concept.to_series()
        concepts = [[title_of(c), v, f"{v:.2f}", bool(chosen[c])] for c, v in chance[chance > 0][:8].items()]
        what = "detects" if own.interpretable else "is no detector; it meets"
        said = f"It {what} {title_of(self.best[unit])} best (IoU {self.iou[unit]:.3f}; a detector has more than 0.04)."
        tables = [(f"Concepts of its area ({own.area.item()})", concepts)] if concepts else []
        for attribute in [] if self.bias is None else map(str, self.bias.attribute.values):
            part = self.bias.sel(attribute=attribute).isel(unit=unit)
            to, q = str(part.leans_to.item()), float(part.q_value)
            sure = f"leans to {group_title(attribute, to)}" if to else "may be chance"
            rows = [[group_title(attribute, g), v, f"{v:.2f}", g == to] for g, v in part.probability.to_series().dropna().items()]
            tables.append((f"{attribute.replace('_', ' ').capitalize()}: {sure} (q {q:.3f}, η² {float(part.effect):.2f})", rows))
        shown = [{"picture": self.lit(unit, k), "name": path, "text": text, "after": ""} for k, (path, _, text) in enumerate(tops)]
        return {"title": f"Unit {unit}", "said": said if self.iou[unit] > 0 else "It meets no concept.", "tops": shown, "tables": tables}

    @t.observe("ablated")
    def _switch(self, _change: object) -> None:
        with self.in_words():
            self._ablate() if self.ablated and self.unit >= 0 else self._select()

    def _ablate(self) -> None:
        layer, change = self.found.attrs["layer"], ablation(self.twin, self.found.attrs["layer"], [self.unit])
        paths = [top["name"] for top in self.detail["tops"]]
        few = self.faces[self.faces.table.path.isin(paths)]
        batch = next(few.batches(self.twin.image_size, len(few)))
        before, (after,) = (torch.stack([o]) if o.ndim == 2 else o for o in run_changes(self.twin, layer, self.twin.prepare(batch.images), [change]))
        name = self.model.class_names[self.target]
        chances = [chances_of(outputs)[:, self.target] for outputs in (before[0], after)]
        words = {few.table.path[r]: f"{name} {a:.0%} → {b:.0%}" for r, a, b in zip(batch.rows, *chances, strict=True)}
        self.detail = {**self.detail, "tops": [{**top, "after": words.get(top["name"], "")} for top in self.detail["tops"]]}
        self.work(f"Switching unit {self.unit} off …", lambda: self._measure(self.unit, layer))

    def _measure(self, unit: int, layer: str) -> None:
        """Say what the unit's absence does to a sample of the set: accuracy by group, or how many answers change."""
        faces = self.faces[np.unique(np.linspace(0, len(self.faces) - 1, SAMPLE).astype(int))]
        by = [str(a) for a in self.bias.attribute.values] if self.bias is not None else list(faces.protected)
        if faces.target is None or not by:
            passed = AblatedPredictions(self.model, layer, [[unit]], 0)
            stream(self.model, self.watched(faces), [passed], progress=False)
            predicted = passed.result()[1]
            changed = int((predicted[:, 0] != predicted[:, 1]).sum())
            self.effect = {"said": f"Without unit {unit}, {changed} of {len(predicted)} faces get another answer.", "rows": []}
            return
        true_classes(faces, self.model)
        found = unit_effects(self.model, self.watched(faces), layer, by[0], [unit], progress=False)
        one, low, high = found.isel(unit=0), *(float(found[f"accuracy_change_{end}"][0]) for end in ("low", "high"))
        rows = [
            [group_title(by[0], g), float(v), f"{_percent.say(b)} → {_percent.say(v)}", True]
            for g, b, v in zip(found.group.values, found.group_accuracy_before.values, one.group_accuracy.values, strict=True)
        ]
        said = (
            f"Without unit {unit}, accuracy on {len(faces)} faces goes from {_percent.say(found.accuracy_before)} to "
            f"{_percent.say(one.accuracy)} (change: 95 % interval {100 * low:.1f} to {100 * high:.1f} points), by {by[0].replace('_', ' ')}:"
        )
        self.effect = {"said": said.replace("-", "−"), "rows": rows}

    def still(self) -> str:
        return super().still() + (f"<p>{self.detail['title']}: {self.detail['said']}</p>" if self.detail else "")
