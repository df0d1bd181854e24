"""Which face regions drive a class: one call for every method."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from functools import partial
from numbers import Integral

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.masks import untold
from facexkit.measure.decision_share import decision_shares
from facexkit.measure.facex import facex_scores
from facexkit.measure.records import provenance
from facexkit.measure.region_methods import METHODS, RegionMethod
from facexkit.models.face_model import FaceModel
from facexkit.probe.attribution import ATTRIBUTIONS

NO_MASK = ": it has no region mask"
"""How `decision_shares` says of a skipped image that it has none."""

METHODS.register("share")(
    RegionMethod(
        "Decision share",
        "% of the way to the other face's decision",
        "Two faces are exchanged region by region, in random order, and the share says how far on the way from one "
        "face's decision to the other's this region carries the model; all shares add up to 100 %. It changes what the "
        "model sees, so a finding rests on it.",
        decision_shares,
        percent=True,
    )
)
METHODS.register("facex")(
    RegionMethod(
        "FaceX score",
        "share of the region's pixels above the threshold",
        "An attribution map is drawn for each face, and the score is the part of the region that lies above the map's "
        "own threshold. It says where the map is high, which need not be what moves the decision.",
        facex_scores,
        needs_layer=True,
    )
)

for _name in ATTRIBUTIONS:  # so that an attribution of another package can be chosen wherever methods can
    _own = {"title": f"FaceX score by {_name}", "scores": partial(facex_scores, attribution=_name)}
    METHODS.register(f"facex_{_name}")(replace(METHODS["facex"], **_own))


def register_region_method(name: str, method: RegionMethod | Callable[..., list[xr.Dataset]]) -> None:
    """Make `score_regions(..., method=name)` call `method`: a `RegionMethod`, or only its `scores`."""
    if not isinstance(method, RegionMethod):
        method = RegionMethod(name, "score", f"Scores of the method “{name}”.", method)
    METHODS.register(name)(method)


def score_regions(
    model: FaceModel, faces: FaceSet, layer: str | None = None, target_class: int | str | Sequence[int | str] = 1,
    method: str = "facex", *, seed: int = 0, **options: object,
) -> xr.Dataset:  # fmt: skip
    """Score how much each of the 19 face regions drives a class of a model.

    Parameters
    ----------
    layer : whose attribution map "facex" takes; "share" needs none.
    target_class : output column or class name; or a list of them, all from one pass.
    method : "facex", how much of the region the attribution map lies on (Sarridis et al., ICMR 2024): option
        `attribution`, and `explain_on`, the faces: "all", or as in FaceX's code those labelled as the "class"; "share",
        how far a region carries the decision when faces are exchanged region by region: options `half_width`, `quick`,
        `images`, `partners`, `walks`, `seam`, `interactions`, see `decision_shares`; "facex_NAME" with the attribution NAME
        of another package; or a registered one. All take the
        options of `PassOptions`.
    seed : of bootstrap and sampling.

    Returns
    -------
    Dataset, each variable with the leading dimension target_class (the output column), whose names are the coordinate
    class_name: score, score_low, score_high (95 % bootstrap interval over images), images (region), NaN where no image has
    the region; per_image (image, region); output (image), the model's output at the class; row (image), the position in
    `faces.table`. "facex" adds patch_value, patch_image, patch_y, patch_x (region, patch) and example_image,
    example_score (region, example), example_map (region, example, y, x). Both add the unions that are asked for together,
    such as the lips: union_score, union_score_low, union_score_high, union_images (union), and "facex" what it adds.
    attrs: `untold`, the regions that the masks cannot tell from the background; `unmasked`, the images without a mask of any region but the background, which count nowhere; `unmasked_groups`,
    how many of each group they are, by protected column.

    Raises
    ------
    FacexkitError for an unknown method, layer or class, an empty face set, one without masks, or too many images that
    cannot be decoded.
    """
    known = METHODS.find(method)
    if known.needs_layer and layer is None:
        raise FacexkitError(f'method "{method}" needs a layer; list them with fx.list_layers(model)')
    if known.needs_layer:
        model.layer(layer, places=True)
    asked = [target_class] if isinstance(target_class, (str, Integral)) else target_class
    targets = [model.class_index(target) for target in asked]
    if not targets or len(set(targets)) < len(targets):
        raise FacexkitError(f"target_class {target_class!r} must name at least one class, and each once")
    results = known.scores(model, faces, layer, targets, seed=seed, **options)
    if not (results[0].images > 0).any():
        raise FacexkitError(f"no face of {faces.name!r} has a mask of any of the 19 regions; check masks=")
    made_by = provenance(model, faces, method=method, layer="" if method == "share" else layer or "", seed=seed)
    made_by |= _left_out(results[0], faces) | {"untold": untold(faces.masks)}
    if method == "share" and "scatter" in faces.source:
        made_by["scatter"] = faces.source["scatter"]
    joined = xr.concat(results, dim=xr.Variable("target_class", targets), combine_attrs="override")
    names = np.array([model.class_names[target] for target in targets], object)
    return joined.assign_coords(class_name=("target_class", names)).assign_attrs(made_by)


def _left_out(scores: xr.Dataset, faces: FaceSet) -> dict[str, object]:
    bare = [line.removesuffix(NO_MASK) for line in scores.attrs.get("skipped", ()) if line.endswith(NO_MASK)]
    if "per_image" in scores:
        counted = scores.counts.to_numpy() if "counts" in scores else True
        bare += scores.image.to_numpy()[np.isnan(scores.per_image.to_numpy()).all(1) & counted].tolist()
    table = faces.table[faces.table.path.isin(bare)]
    groups = {name: {str(k): int(n) for k, n in table[name].value_counts().items()} for name in faces.protected}
    return {"unmasked": bare, "unmasked_groups": groups if bare else {}}
