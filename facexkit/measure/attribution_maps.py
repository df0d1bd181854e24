"""The attribution map of every face, where the maps themselves are wanted and not what they add up to."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import xarray as xr

from facexkit.faces.faceset import FaceSet
from facexkit.measure.facex import scaled
from facexkit.measure.per_image import PerImage
from facexkit.measure.records import provenance
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Attributed, Attribution, ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run


class AttributionMaps(PerImage):
    """The maps of one class, one row an image, float32 (N, h, w), each from 0 to 1.

    Parameters
    ----------
    key : the attribution map: its layer, the class (output column) that it explains, and by what.
    """

    def __init__(self, key: Attributed) -> None:
        super().__init__()
        self.key, self.attributions = key, (key,)

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, maps=scaled(batch.attributions[self.key]).float().cpu().numpy())


def attribution_maps(
    model: FaceModel, faces: FaceSet, layer: str, target_class: int | str | Sequence[int | str] = 1,
    attribution: str | Attribution = "gradcam", **how: object,
) -> xr.Dataset:  # fmt: skip
    """Return every face's attribution map, h·w numbers an image and class; options as of `PassOptions`.

    Returns
    -------
    Dataset: attribution (target_class, image, y, x), scaled to 0–1 by its least and greatest value; row (image), the position in
    `faces.table`; class_name (target_class).

    Raises
    ------
    FacexkitError for an unknown layer, class or attribution, and too many images that cannot be decoded.
    """
    model.layer(layer, places=True)
    targets = [model.class_index(target) for target in np.atleast_1d(np.asarray(target_class, object))]
    wanted = [AttributionMaps(Attributed(layer, target, attribution)) for target in targets]
    skipped = run(model, faces, wanted, PassOptions(**how))
    (rows, *_), maps = wanted[0].result(), np.stack([each.result()[1] for each in wanted])
    found = xr.Dataset({"attribution": (("target_class", "image", "y", "x"), maps)}).assign_coords(
        target_class=targets, image=faces.table.path.to_numpy(object)[rows], row=("image", rows),
        class_name=("target_class", np.array([model.class_names[target] for target in targets], object)),
    )  # fmt: skip
    return found.assign_attrs(provenance(model, faces, layer=layer, attribution=str(attribution), skipped=skipped))
