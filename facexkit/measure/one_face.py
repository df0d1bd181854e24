"""What a model makes of one face: prediction, attribution map, region scores, and how strongly its units answer."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.measure.attribution_maps import AttributionMaps
from facexkit.measure.facex import RegionScores
from facexkit.measure.global_bias import UnitRange
from facexkit.measure.per_image import Outputs
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Attributed
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run


def measure_face(
    model: FaceModel, faces: FaceSet, path: str, layer: str, target: int, found: xr.Dataset | None = None
) -> xr.Dataset:
    """Measure one face of a set.

    Parameters
    ----------
    found : what `dissect` gave for the layer; a unit's answer is then a share of its range over the set.

    Returns
    -------
    Dataset: probability (class); attribution (y, x) of the target, in 0–1; answer (unit), of the first unit's
    where nothing was found; score (region), of regions and unions such as the lips, where the set has masks of the face.

    Raises
    ------
    FacexkitError for a face that is not in the set, or cannot be decoded.
    """
    rows, key = np.flatnonzero(faces.table.path == path)[:1], Attributed(layer, target)
    if not len(rows):
        raise FacexkitError(f"{path}: there is no such face in {faces.name}")
    maps, units, said = AttributionMaps(key), UnitRange(layer, faces.table), Outputs()
    masked = faces.masks is not None and REGIONS[1] in faces.masks.read(path)
    scores = [RegionScores(key, faces.table.path.to_numpy(object), model.image_size)] if masked else []
    run(model, faces, [maps, units, said, *scores], PassOptions(progress=False, workers=0), rows=rows)
    peaks = units.result().maximum.to_numpy()[0]
    low, high = (found.minimum.to_numpy(), found.maximum.to_numpy().max(0)) if found is not None else (0, peaks.max())
    seen = xr.Dataset({
        "probability": ("class", model.meaning.probabilities(torch.from_numpy(said.result()[1]))[0].numpy()),
        "attribution": (("y", "x"), maps.result()[1][0]),
        "answer": ("unit", (peaks - low) / np.where(high > low, high - low, np.inf)),
    })  # fmt: skip
    for own in scores:
        seen["score"] = own.result().per_image[0].drop_vars(["image", "row"])
    return seen
