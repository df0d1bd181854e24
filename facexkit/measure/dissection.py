"""Network dissection: which unit detects which concept (Face Dissect, stage 1)."""

from __future__ import annotations

import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.cropping import crop_faces
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.iou_tally import UNION_RULES, IoUTally
from facexkit.measure.records import provenance
from facexkit.measure.saved import save_result, saved_result
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.stream import stream

CROPS = (None, "mtcnn")


@dataclass
class _KeptBatch:
    """Of one batch, the maps that may still exceed the final threshold, and the packed masks."""

    rows: np.ndarray
    image: Tensor
    unit: Tensor
    maps: Tensor
    masks: bytes
    shape: tuple[int, ...]
    present: Tensor

    @property
    def size(self) -> int:
        return self.maps.nbytes + len(self.masks) + self.image.nbytes + self.unit.nbytes

    def prune(self, bound: Tensor) -> None:
        stays = self.maps.amax((1, 2)) > bound[self.unit]
        self.image, self.unit, self.maps = self.image[stays], self.unit[stays], self.maps[stays]

    def unpacked(self) -> Tensor:
        bits = np.unpackbits(np.frombuffer(zlib.decompress(self.masks), np.uint8), count=int(np.prod(self.shape)))
        return torch.from_numpy(bits.reshape(self.shape).astype(bool))


class Candidates(Accumulator):
    """The first pass: exact thresholds, and the maps that can still lie above them, while memory allows.

    The threshold of what has been seen can only rise, so a map that does not exceed it is dropped for good.

    Parameters
    ----------
    memory : bytes that kept maps and masks may take; beyond it they are given up and a second pass is needed.
    """

    def __init__(self, quantile: TailQuantile, view: MaskView, memory: int) -> None:
        self.quantile, self.view, self.memory = quantile, view, memory
        self.layer, self.layers, self.masks = quantile.layer, quantile.layers, (view,)
        self.kept: list[_KeptBatch] | None = []
        self.held, self.prune_at = 0, memory // 4
        self.rows: list[np.ndarray] = []
        self.maximum: list[np.ndarray] = []
        self.minimum: list[np.ndarray] = []
        self.present: list[np.ndarray] = []

    def update(self, batch: ProbedBatch) -> None:
        self.quantile.update(batch)
        maps, present = batch.activations[self.layer], batch.present[self.view]
        peak = maps.amax((2, 3))
        self.rows.append(batch.rows)
        self.maximum.append(peak.cpu().numpy())
        self.minimum.append(maps.amin((0, 2, 3)).cpu().numpy())
        self.present.append(present.numpy())
        if self.kept is None:
            return
        image, unit = (peak > torch.from_numpy(self.quantile.bound()).to(peak.device)).nonzero(as_tuple=True)
        masks = batch.masks[self.view].cpu().numpy()
        packed = zlib.compress(np.packbits(masks), 1)
        kept = maps[image, unit].cpu()
        self._keep(_KeptBatch(batch.rows, image.cpu(), unit.cpu(), kept, packed, masks.shape, present))

    def _keep(self, batch: _KeptBatch) -> None:
        self.kept.append(batch)
        self.held += batch.size
        if self.held > self.prune_at:
            bound = torch.from_numpy(self.quantile.bound())
            for kept in self.kept:
                kept.prune(bound)
            self.held = sum(kept.size for kept in self.kept)
            self.prune_at = min(self.memory, max(self.prune_at, 2 * self.held))
        if self.held > self.memory:
            self.kept = None

    def merge(self, other: Candidates) -> None:
        self.quantile.merge(other.quantile)
        for name in ("rows", "maximum", "minimum", "present"):
            getattr(self, name).extend(getattr(other, name))
        if other.kept is None:
            self.kept = None
        for batch in other.kept or ():
            if self.kept is not None:
                self._keep(batch)

    def result(self) -> xr.Dataset:
        """Return threshold, minimum (unit), maximum (image, unit), has_concept (image, concept), images (concept)."""
        order = np.argsort(np.concatenate(self.rows))
        rows, maximum, present = (np.concatenate(x)[order] for x in (self.rows, self.maximum, self.present))
        return self.quantile.result().assign(
            minimum=("unit", np.min(self.minimum, 0)),
            maximum=(("image", "unit"), maximum),
            has_concept=(("image", "concept"), present),
            images=("concept", present.sum(0)),
        ).assign_coords(image=self.quantile.paths[rows], concept=list(self.view.names))

    def replay(self, tally: IoUTally) -> None:
        """Hand what was kept to the tally, instead of a second pass."""
        for batch in self.kept:
            batch.prune(tally.thresholds)
            tally.tally(batch.rows, batch.image, batch.unit, batch.maps, batch.unpacked(), batch.present)


def dissect(
    model: FaceModel,
    faces: FaceSet,
    layer: str,
    quantile: float = 0.005,
    mask_size: int = 112,
    *,
    concepts: Sequence[str] | None = None,
    union: str = "labelled",
    top_images: int = 4,
    crop: str | None = None,
    margin: float = 0.2,
    memory: int = 1 << 30,
    saved: str | Path | None = None,
    **how: object,
) -> xr.Dataset:
    """Find which units of a layer detect which concepts (Face Dissect, stage 1).

    A unit's threshold T is the exact upper `quantile` of its activations over all images and places; its active area
    is where the bilinearly upsampled map exceeds T; IoU = Σ intersection / Σ union with the concept's masks.

    Parameters
    ----------
    quantile : share of a unit's values that lie above its threshold.
    mask_size : side length at which pixels are counted, up to the model's input size; masks are resized to nearest.
    concepts : names among the face set's masks and the unions brows, eyes, ears, lips; None for all of them but the
        background. `faces.masks = fx.JoinedMasks(faces.masks, others)` dissects two vocabularies at once.
    union : "labelled" or "active", see `IoUTally`.
    top_images : how many images to name for each unit and concept.
    crop, margin : "mtcnn" cuts out the faces first, see `crop_faces`; attrs["uncropped"] counts those used whole.
    memory : bytes for the maps that may still count; where they do not suffice, the faces pass twice.
    saved : a .zarr folder. Where one lies there that the same model, faces and parameters gave, it is read; else the
        result is written there.
    how : `batch_size`, `workers`, `autocast`, `max_skipped`, `progress`, see `stream`.

    Returns
    -------
    Dataset: threshold, minimum (unit); maximum (image, unit); images (concept); has_concept (image, concept); and all
    of `IoUTally.result`. attrs["forward_passes"] says whether one pass sufficed.

    Raises
    ------
    FacexkitError for an unknown layer or concept, sizes and shares out of range, a face set without masks, and a
    unit whose activation is not a finite number.
    """
    _check(model, mask_size, union, top_images, crop)
    view = MaskView(concept_names(faces, concepts), mask_size)
    faces = crop_faces(faces, margin) if crop else faces
    paths = faces.table.path.to_numpy(object)
    cut = {"crop": crop, "margin": margin, "uncropped": faces.source["uncropped"]} if crop else {}
    made_by = provenance(
        model, faces, layer=layer, quantile=quantile, mask_size=mask_size, union_rule=union, concepts=list(view.names),
        top_images=top_images, **cut,
    )  # fmt: skip
    if saved is not None and (kept := saved_result(saved, made_by)) is not None:
        return kept
    candidates = Candidates(TailQuantile(layer, paths, quantile), view, memory)
    skipped = stream(model, faces, [candidates], **how)
    seen = candidates.result()
    tally = IoUTally(layer, seen.threshold.to_numpy(), view, paths, union, top_images)
    once = candidates.kept is not None
    if once:
        candidates.replay(tally)
    else:
        stream(model, faces, [tally], **how)
    found = seen.merge(tally.result()).assign_attrs(made_by, skipped=skipped, forward_passes=1 if once else 2)
    if saved is not None:
        save_result(found, saved)
    return found


def _check(model: FaceModel, mask_size: int, union: str, top_images: int, crop: str | None) -> None:
    if union not in UNION_RULES:
        raise unknown("union", union, UNION_RULES)
    if not 1 <= mask_size <= model.image_size:
        raise FacexkitError(f"mask_size {mask_size} must lie between 1 and the model's input size {model.image_size}")
    if crop not in CROPS:
        raise unknown("crop", crop, CROPS)
    if top_images < 1:
        raise FacexkitError(f"top_images {top_images} must be at least 1")


def concept_names(faces: FaceSet, concepts: Sequence[str] | None = None) -> tuple[str, ...]:
    """Return the concepts to look for: the asked ones, checked, or all that the face set has masks for."""
    have = faces.masks.names if faces.masks else ()
    known = (*have, *(name for name, parts in UNIONS.items() if set(parts) <= set(have) and name not in have))
    if concepts is None:
        return tuple(name for name in known if name != REGIONS[0])
    for concept in concepts:
        if concept not in known:
            raise unknown("concept", concept, known)
    return tuple(concepts)
