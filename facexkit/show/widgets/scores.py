"""Region scores that are measured once: found in a run's folder or in one of their own, else measured and kept there."""

from __future__ import annotations

import hashlib
import json
import shutil
from collections.abc import Mapping
from pathlib import Path

import xarray as xr

from facexkit.faces.cache import cache_folder
from facexkit.faces.faceset import FaceSet
from facexkit.measure.groups import group_labels
from facexkit.measure.records import provenance
from facexkit.measure.region_scores import score_regions
from facexkit.measure.saved import find_result, save_result
from facexkit.models.face_model import FaceModel
from facexkit.probe.progress import Progress

QUICK = {"facex": {}, "share": {"quick": True}}
"""Options of each method while somebody waits."""


class Scores:
    """Gives the region scores of one class, the same each time.

    Parameters
    ----------
    folder : where results are kept; the cache if None.
    run : a run's folder, whose results in `regions` are taken where they answer what is asked.
    how : the options of the passes; what they write down in `folder` is removed when a result is kept.
    """

    def __init__(
        self, faces: FaceSet, folder: Path | None = None, run: Path | None = None, how: Mapping[str, object] | None = None
    ) -> None:
        self.faces, self.folder, self.how = faces, folder or cache_folder() / "explore", dict(how or {})
        self.places = [run / "regions", self.folder] if run else [self.folder]
        self.known: dict[tuple, xr.Dataset] = {}

    def __call__(
        self, model: FaceModel, method: str, layer: str, target: int, group: str = "", progress: Progress = False
    ) -> xr.Dataset:
        """Return the scores of a `group` ("COLUMN: VALUE", "" for all)."""
        layer = "" if method == "share" else layer
        asked = (model.fingerprint(), method, layer, target, group)
        if asked not in self.known:
            found = self.find(model, method, layer, target, group)
            if found is None:
                options = {**self.how, "progress": progress, **QUICK.get(method, {})}
                found = score_regions(model, self.of(group), layer or None, target, method, **options)
                key = hashlib.sha256(json.dumps([found.attrs, target], default=str).encode()).hexdigest()[:16]
                self.keep(found, self.folder / f"{key}.zarr")
            self.known[asked] = found
        return self.known[asked]

    def keep(self, found: xr.Dataset, path: Path) -> None:
        """Save a result, and remove what its passes wrote down to go on from."""
        save_result(found, path)
        if self.how.get("folder"):
            shutil.rmtree(self.how["folder"], ignore_errors=True)

    def find(self, model: FaceModel, method: str, layer: str, target: int, group: str = "") -> xr.Dataset | None:
        """Return the scores if they were measured before, else None."""
        made = provenance(model, self.of(group), method=method, layer=layer)
        return find_result(self.places, made, target_class=target)

    def of(self, group: str) -> FaceSet:
        """Return the faces of a group."""
        column, _, value = group.partition(": ")
        return self.faces[group_labels(self.faces.table, column) == value] if group else self.faces
