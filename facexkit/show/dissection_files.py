"""A dissection, its hierarchy and the leaning of units as files that other programs read."""

from __future__ import annotations

from pathlib import Path

import pandas as pd
import xarray as xr

from facexkit.faces.faceset import FaceSet
from facexkit.measure.hierarchy import rank_concepts
from facexkit.measure.saved import save_result, write_table
from facexkit.models.face_model import FaceModel
from facexkit.registry import Registry

EXPORTS: Registry = Registry("export", "facexkit.exports", "facexkit.systems.face_dissect_files")
"""Functions (found, model, faces, folder, ranked, bias) → the paths of what they wrote for another program."""


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
        pairs = found[["intersection", "union", "iou", "images"]].to_dataframe().reset_index()
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
    """Return a row a unit, best first: what it detects, how well, its area, its concepts there, its strongest images.

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
    table = found[["best_concept", "best_iou", "interpretable", "threshold"]].to_dataframe()
    table.insert(3, "area", ranked.area.to_numpy())
    table.insert(4, "concepts", concepts)
    for place, name in enumerate(found.strongest_image.to_numpy().T[:4], 1):
        table[f"strongest_image_{place}"] = name
    return table.sort_values("best_iou", ascending=False, kind="stable")
