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
    """Gives the region scores of one class, the same each time.

    Parameters
    ----------
    folder : where results are kept; the cache if None.
    run : a run's folder, whose `regions/scores.csv` has decision shares of all faces.
    """

    def __init__(self, faces: FaceSet, folder: Path | None = None, run: Path | None = None) -> None:
        self.faces, self.folder = faces, folder or cache_folder() / "explore"
        table = run / "regions" / "scores.csv" if run else None
        self.table = pd.read_csv(table) if table and table.is_file() else None
        self.known: dict[tuple, xr.Dataset] = {}

    def __call__(
        self, model: FaceModel, method: str, layer: str, target: int, group: str = "", watched: Callable = lambda f: f
    ) -> xr.Dataset:
        """Return the scores of a `group` ("COLUMN: VALUE", "" for all), measured on `watched` faces."""
        key = (model.name, method, "" if method == "share" else layer, target, group)
        if key not in self.known:
            found = self._of_run(model, target) if method == "share" and not group and self.table is not None else None
            self.known[key] = self._measured(model, key, watched) if found is None else found
        return self.known[key]

    def _of_run(self, model: FaceModel, target: int) -> xr.Dataset | None:
        own = self.table.query("model == @model.name and method == 'share' and target_class == @target")
        if own.empty:
            return None
        made = {"model": model.name, "faces": self.faces.name, "method": "share", "layer": "", "target_class": target}
        found = own.set_index("region")[["score", "score_low", "score_high", "images"]]
        unions = pd.DataFrame({u: found.loc[[*parts]].sum(min_count=1) for u, parts in UNIONS.items()}).T.rename_axis(
            "union"
        )
        unions["images"] = [int(found.images.loc[[*parts]].max()) for parts in UNIONS.values()]
        unions["score_high"] = np.nan  # a sum of ends is no interval: it is not shown
        both = found.to_xarray().merge(unions.add_prefix("union_").to_xarray())
        return both.assign_attrs(made, class_name=model.class_names[target])

    def _measured(self, model: FaceModel, key: tuple, watched: Callable) -> xr.Dataset:
        _, method, layer, target, group = key
        made = provenance(model, self.of(group), method=method, layer=layer, seed=0, target_class=target)
        path = self.folder / f"{hashlib.sha256(json.dumps(made).encode()).hexdigest()[:16]}.zarr"
        found = saved_result(path, made)
        if found is None:
            options = {"progress": False, **QUICK.get(method, {})}
            found = score_regions(model, watched(self.of(group)), layer, target, method, **options)
            save_result(found, path)
        return found

    def of(self, group: str) -> FaceSet:
        """Return the faces of a group."""
        column, _, value = group.partition(": ")
        return self.faces[group_labels(self.faces.table, column) == value] if group else self.faces
