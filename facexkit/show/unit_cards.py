"""What is told of each unit of a layer: what it detects, to whom it leans, on which faces, and its concepts."""

from __future__ import annotations

from collections.abc import Callable
from functools import lru_cache

import numpy as np
import xarray as xr
from PIL import Image

from facexkit.faces.faceset import FaceSet
from facexkit.measure.hierarchy import rank_concepts
from facexkit.measure.iou_tally import INTERPRETABLE, detectors
from facexkit.show.pictures import seen_faces
from facexkit.show.words import group_title, headed, title_of, words

TOPS = 4
ANY = ("", "any")
Picture = Callable[[Image.Image, np.ndarray, float], dict[str, object]]
"""Gives what a page shows of a face, a unit's map (h, w) on it and its threshold: `picture`, and what lies over it."""


class UnitCards:
    """The units of a layer in words and pictures, for Explore and for the page that stands alone.

    Parameters
    ----------
    found, bias : what `dissect` and `global_bias` gave for a layer.
    faces : the dissected faces.
    picture : what is shown of a face on which a unit is active.
    """

    def __init__(self, found: xr.Dataset, bias: xr.Dataset | None, faces: FaceSet, picture: Picture) -> None:
        self.found, self.bias, self.picture, self.ranked = found, bias, picture, rank_concepts(found)
        self.best, self.iou = found.best_concept.to_numpy().astype(str), found.best_iou.to_numpy()
        self.detects, self.unsure = detectors(found), ~found.supported.to_numpy()
        self.attributes = [] if bias is None else [str(attribute) for attribute in bias.attribute.values]
        self.seen, self.tops = seen_faces(found, faces, np.arange(len(self.iou))), lru_cache(4096)(self._tops)

    def offers(self) -> dict[str, list[tuple[str, str]]]:
        """Return what units can be chosen by, each as [value, text] pairs: `concepts`, `areas` and `groups`."""
        leaning = {a: sorted({*self.bias.leans_to.sel(attribute=a).values} - {""}) for a in self.attributes}
        groups = [(f"{a}: {g}", f"{words(a)}: {group_title(a, g)}") for a in leaning for g in leaning[a]]
        return {
            "concepts": [ANY, *((c, title_of(c)) for c in sorted({*self.best[self.iou > 0].tolist()}))],
            "areas": [ANY, *((a, a) for a in sorted({*self.ranked.area.values} - {""}))],
            "groups": [("", "anybody or nobody"), *groups],
        }

    def card(self, unit: int) -> dict:
        """Return the unit's small picture, title and text, by its number as the key."""
        meets = f"{title_of(self.best[unit])}, IoU {self.iou[unit]:.2f}" if self.iou[unit] > 0 else "meets no concept"
        meets += ", not supported" if self.unsure[unit] and self.iou[unit] else ""
        lean = max(self.attributes, key=lambda a: float(self.bias.effect.sel(attribute=a)[unit]), default="")
        group = str(self.bias.leans_to.sel(attribute=lean).values[unit]) if lean else ""
        told = meets + (f" · leans: {words(lean)}, {group_title(lean, group)}" if group else "")
        pictures = [one for _, _, one in self.tops(unit, 1)] or [{"picture": "data:,"}]
        return {"key": unit, "title": f"unit {unit}", "text": told, **pictures[0]}

    def _tops(self, unit: int, most: int) -> list[tuple[str, str, dict]]:
        """Return path, words and picture of the images that meet the unit's best concept best, or excite it most."""
        one = self.found.isel(unit=unit)
        top, threshold = one.sel(concept=self.best[unit]), float(one.threshold)
        meets = zip(top.top_image.values, [f"IoU {v:.2f}" for v in top.top_iou.values], top.top_map.values, strict=True)
        strongest = one.strongest_image.values
        excite = zip(strongest, ["strongest"] * len(strongest), one.strongest_map.values, strict=True)
        shown = [row for row in (meets if self.iou[unit] > 0 else excite) if row[0]][:most]
        return [(path, told, self.picture(self.seen(path), grid, threshold)) for path, told, grid in shown]

    def detail(self, unit: int) -> dict:
        """Return all that is told of a unit: `title`, `said`, `tops` (its faces) and `tables` of bars."""
        own, tables = self.ranked.isel(unit=unit), []
        what, pair = "detects" if self.detects[unit] else "is no detector; it meets", own.sel(concept=self.best[unit])
        said = f"It {what} {title_of(self.best[unit])} best (IoU {self.iou[unit]:.3f}; a detector has more than "
        said += f"{INTERPRETABLE:g}, and more than by its place alone, here {pair.position_iou:.3f}: "
        said += f"q {pair.q_value:.3f})."
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
        return {
            "title": f"Unit {unit}",
            "said": said if self.iou[unit] > 0 else "It meets no concept.",
            "tops": [{**one, "name": path, "text": told, "after": ""} for path, told, one in self.tops(unit, TOPS)],
            "tables": tables,
        }
