"""Network dissection: which unit detects which concept (Face Dissect, stage 1)."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import xarray as xr

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.face_dictionary import ConceptMasks
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.candidates import Candidates
from facexkit.measure.iou_tally import UNION_RULES, IoUTally
from facexkit.measure.mask_exchange import SAMPLE
from facexkit.measure.photographs import crop_faces
from facexkit.measure.records import provenance
from facexkit.measure.saved import find_result, save_result
from facexkit.models.face_model import FaceModel
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

CROPS = (None, "mtcnn")


def dissect(
    model: FaceModel, faces: FaceSet, layer: str, quantile: float = 0.005, mask_size: int = 112, *,
    concepts: Sequence[str] | None = None, union: str = "labelled", top_images: int = 4, crop: str | None = None,
    margin: float = 0.2, memory: int = 4 << 30, saved: str | Path | None = None, seed: int = 0, **how: object,
) -> xr.Dataset:  # fmt: skip
    """Find which units of a layer detect which concepts (Face Dissect, stage 1).

    A unit's threshold T is the exact upper `quantile` of its activations over all images and places; its active area
    is where the bilinearly upsampled map exceeds T; IoU = Σ intersection / Σ union with the concept's masks. Of a
    Face Dictionary only the faces that its label files list count, in thresholds too. Aligned faces have their parts
    in the same place, so beside it stands `position_iou`, the same with the masks of other images, on up to 512 images of
    each concept; the gain over it with its 95 % interval, and a q value (Benjamini & Hochberg 1995, over units and
    concepts) for that there is none. A unit's label is `supported` where q < 0.05.

    Parameters
    ----------
    quantile : share of a unit's values that lie above its threshold.
    mask_size : side length at which pixels are counted, up to the model's input size; masks are resized to nearest.
    concepts : names among the face set's masks and the unions brows, eyes, ears, lips; None for all of them but the
        background. `faces.masks = fx.JoinedMasks(faces.masks, others)` dissects two vocabularies at once.
    union : "labelled" or "active", see `IoUTally`.
    top_images : how many images to name for each unit and concept.
    crop, margin : "mtcnn" cuts out the faces first, see `crop_faces`; attrs["uncropped"] counts those used whole.
    memory : bytes for the maps that may still count, in a file of the cache. Where they do not suffice the faces pass twice,
        and where they do not even for the values in the tails, three times; on a cluster so much may come to the client.
    seed : of the exchange of masks between images, and of the images drawn again.
    saved : a .zarr folder. Where one lies there that the same model, faces and parameters gave, it is read; else the
        result is written there.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    Dataset: threshold, minimum (unit); maximum (image, unit); images (concept); has_concept (image, concept); and all
    of `IoUTally.result`. attrs["forward_passes"] says how many passes it took.

    Raises
    ------
    FacexkitError for an unknown layer or concept, sizes and shares out of range, a face set without masks, and a
    unit whose activation is not a finite number.
    """
    _check(model, mask_size, union, top_images, crop)
    view = MaskView(concept_names(faces, concepts), mask_size)
    if isinstance(faces.masks, ConceptMasks):  # faces by global group are no part of the dictionary of local concepts
        faces = faces[faces.table.path.isin(faces.masks.files)]
    faces = crop_faces(faces, margin, **how) if crop else faces
    cut = {"crop": crop, "margin": margin, "uncropped": faces.source["uncropped"]} if crop else {}
    made_by = provenance(
        model, faces, layer=layer, quantile=quantile, mask_size=mask_size, union_rule=union, concepts=list(view.names),
        top_images=top_images, exchanged=SAMPLE, seed=seed, **cut,
    )  # fmt: skip
    if saved is not None and (kept := find_result([Path(saved).parent], made_by, Path(saved).name)) is not None:
        return kept
    found = _tallied(model, faces, layer, quantile, view, memory, union, top_images, seed, PassOptions(**how))
    found = found.assign_attrs(made_by)
    if saved is not None:
        save_result(found, saved)
    return found


def _tallied(
    model: FaceModel, faces: FaceSet, layer: str, quantile: float, view: MaskView, memory: int, union: str,
    top_images: int, seed: int, how: PassOptions,
) -> xr.Dataset:  # fmt: skip
    """Find the thresholds, then count pixels: in the maps that were kept, or in a pass of its own where they were too many."""
    paths = faces.table.path.to_numpy(object)
    candidates = Candidates(layer, paths, quantile, view, memory, seed)
    skipped = run(model, faces, [candidates], how)
    if second := candidates.second():
        run(model, faces, [second], how)
    seen = candidates.result(second and second.counts)
    tally = IoUTally(layer, seen.threshold.to_numpy(), view, paths, union, top_images, candidates.exchange())
    passes = 3 - candidates.tail.level
    if passes == 1:
        candidates.replay(tally)
    else:
        run(model, faces, [tally], how)
    return seen.merge(tally.result()).assign_attrs(skipped=skipped, forward_passes=passes)


def _check(model: FaceModel, mask_size: int, union: str, top_images: int, crop: str | None) -> None:
    check_known("union", [union], UNION_RULES)
    check_known("crop", [crop], CROPS)
    if not 1 <= mask_size <= model.preprocess.side:
        least = f"must lie between 1 and the model's input size {model.preprocess.side}"
        raise FacexkitError(f"mask_size {mask_size} {least}; give mask_size={model.preprocess.side}")
    if top_images < 1:
        raise FacexkitError(f"top_images {top_images} must be at least 1")


def concept_names(faces: FaceSet, concepts: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the concepts to look for: the asked ones, checked, or all that the face set has masks for."""
    have = faces.masks.names if faces.masks else ()
    known = (*have, *(name for name, parts in UNIONS.items() if set(parts) <= set(have) and name not in have))
    if concepts is None:
        return tuple(name for name in known if name != REGIONS[0])
    check_known("concept", concepts, known)
    return tuple(concepts)
