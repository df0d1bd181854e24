"""Region scores that are measured once: kept in memory and in a folder, or read from a run's table."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.faces.cache import cache_folder
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import UNIONS
from facexkit.measure.groups import group_labels
from facexkit.measure.records import provenance
from facexkit.measure.region_scores import score_regions
from facexkit.measure.saved import save_result, saved_result
from facexkit.models.face_model import FaceModel

QUICK = {"facex": {}, "share": {"images": 96, "partners": 2}}
"""Options of each method while somebody waits."""


class Scores:
    """Gives the region scores of one class, by the same numbers each time.

    Parameters
    ----------
    faces : the set; a group is "COLUMN: VALUE" of its table, "" for all.
    folder : where results are kept; the cache if None.
    run : a run's folder, whose `regions/scores.csv` has decision shares of all faces.
    """

    def __init__(self, faces: FaceSet, folder: Path | None = None, run: Path | None = None) -> None:
        self.faces, self.folder, self.table = faces, folder or cache_folder() / "explore", None
        if run is not None and (run / "regions" / "scores.csv").is_file():
            self.table = pd.read_csv(run / "regions" / "scores.csv")
        self.known: dict[tuple, xr.Dataset] = {}

    def __call__(
        self, model: FaceModel, method: str, layer: str, target: int, group: str = "", watched: Callable = lambda f: f
    ) -> xr.Dataset:
        """Return the scores, measured on what `watched` makes of the faces unless they are known."""
        key = (model.name, method, "" if method == "share" else layer, target, group)
        if key not in self.known:
            found = self._from_run(model, method, target) if not group else None
            self.known[key] = self._measured(model, key, watched) if found is None else found
        return self.known[key]

    def _from_run(self, model: FaceModel, method: str, target: int) -> xr.Dataset | None:
        if self.table is None or method != "share":
            return None
        own = self.table[(self.table.model == model.name) & (self.table.method == method) & (self.table.target_class == target)]
        if own.empty:
            return None
        made = {"model": model.name, "faces": self.faces.name, "method": method, "layer": "", "target_class": target}
        numbers = own.set_index("region")[["score", "score_low", "score_high", "images"]]
        pairs = pd.DataFrame({u: numbers.loc[[*parts]].sum(min_count=1) for u, parts in UNIONS.items()}).T.rename_axis("union")
        pairs["images"] = [int(numbers.images.loc[[*parts]].max()) for parts in UNIONS.values()]
        pairs = pairs.add_prefix("union_").assign(union_score_high=np.nan)  # a sum of ends is no interval: it is not shown
        both = xr.Dataset.from_dataframe(numbers).merge(xr.Dataset.from_dataframe(pairs))
        return both.assign_attrs(made, class_name=model.class_names[target])

    def _measured(self, model: FaceModel, key: tuple, watched: Callable) -> xr.Dataset:
        _, method, layer, target, group = key
        faces = self.of(group)
        made = provenance(model, faces, method=method, layer=layer, seed=0, target_class=target)
        name = hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]
        found = saved_result(self.folder / f"{name}.zarr", made)
        if found is None:
            found = score_regions(model, watched(faces), layer, target, method, progress=False, **QUICK.get(method, {}))
            save_result(found, self.folder / f"{name}.zarr")
        return found

    def of(self, group: str) -> FaceSet:
        """Return the faces of a group."""
        if not group:
            return self.faces
        column, _, value = group.partition(": ")
        return self.faces[group_labels(self.faces.table, column) == value]
