"""What a model makes of one face: prediction, attribution map, region scores, and how strongly its units answer."""

from __future__ import annotations

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.measure.facex import RegionScores, scaled
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Attributed
from facexkit.probe.attribution import attribute
from facexkit.probe.hooks import capture
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
    one = faces[(faces.table.path == path).to_numpy()]
    batch = next(one.batches(model.preprocess, 1)) if len(one) else None
    if batch is None or batch.skipped:
        raise FacexkitError(f"{path}: {batch.skipped[0][2] if batch else f'there is no such face in {faces.name}'}")
    with capture(model, [layer]) as taken:
        maps, outputs = attribute(model, layer, model.prepare(batch.images), [target])
    peaks = taken[layer].detach().float().amax((2, 3))[0].cpu().numpy()
    low, high = (found.minimum.to_numpy(), found.maximum.to_numpy().max(0)) if found is not None else (0, peaks.max())
    seen = xr.Dataset({
        "probability": ("class", model.meaning.probabilities(outputs.double())[0].cpu().numpy()),
        "attribution": (("y", "x"), scaled(maps[target])[0].cpu().numpy()),
        "answer": ("unit", (peaks - low) / np.where(high > low, high - low, np.inf)),
    })  # fmt: skip
    if one.masks is not None and REGIONS[1] in one.masks.read(path):
        scores = RegionScores(Attributed(layer, target), one.table.path.to_numpy(object), model.image_size)
        run(model, one, [scores], PassOptions(progress=False, workers=0))
        seen["score"] = scores.result().per_image[0].drop_vars(["image", "row"])
    return seen
