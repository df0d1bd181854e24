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
from facexkit.faces.faceset import FaceSet, MaskView
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.active_area import ActiveArea
from facexkit.measure.facex import named
from facexkit.measure.records import provenance
from facexkit.measure.saved import save_result, saved_result
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.measure.top import TopK
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.stream import stream

INTERPRETABLE = 0.04
UNION_RULES = ("labelled", "active")
CROPS = (None, "mtcnn")


class IoUTally(Accumulator):
    """Intersection and union of every unit's active area with every concept's masks, summed over images.

    intersection[u,c] = Σ |active[n,u] ∩ mask[n,c]| and union[u,c] = Σ |active[n,u] ∪ mask[n,c]| over the images n
    labelled with c, in pixels; active = upsampled map > T[u].

    Parameters
    ----------
    thresholds : float32 (U,), T.
    view : the concepts and the size at which pixels are counted.
    paths : the face set's paths, by row.
    union : "labelled", all images labelled with c; "active", those of them on which the unit has an active pixel, as
        the authors' released code counts the union.
    top_images : how many images with the highest IoU to keep of each unit and concept.
    """

    def __init__(
        self, layer: str, thresholds: np.ndarray, view: MaskView, paths: np.ndarray, union: str, top_images: int
    ) -> None:
        self.layer, self.layers, self.view, self.masks = layer, (layer,), view, (view,)
        self.thresholds, self.paths, self.union_rule = torch.from_numpy(thresholds), paths, union
        units, concepts = len(thresholds), len(view.names)
        self.intersection = np.zeros((units, concepts), np.int64)
        self.union = np.zeros((units, concepts), np.int64)
        self.top = TopK(units * concepts, top_images)
        self.strongest = TopK(units, top_images)
        self.area: ActiveArea | None = None

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        image, unit = (maps.amax((2, 3)) > self.thresholds.to(maps.device)).nonzero(as_tuple=True)
        self.tally(batch.rows, image, unit, maps[image, unit], batch.masks[self.view], batch.present[self.view])

    def tally(
        self, rows: np.ndarray, image: Tensor, unit: Tensor, maps: Tensor, masks: Tensor, present: Tensor
    ) -> None:
        """Count one batch of B images, of which only the maps that may be active are given.

        Parameters
        ----------
        rows : int64 (B,).
        image, unit : int64 (n,), whose map each is; those left out have no place above the threshold.
        maps : float32 (n, h, w).
        masks : bool (B, C, size, size).
        present : bool (B, C), which images are labelled with which concept.
        """
        if self.area is None:
            self.area = ActiveArea(*maps.shape[1:], self.view.size)
        thresholds, masks = self.thresholds.to(maps.device), masks.to(maps.device)
        counted, overlaps = self.area.count(maps, thresholds[unit], image, masks)
        image, unit = image.cpu().numpy(), unit.cpu().numpy()
        active = np.zeros((len(rows), len(self.thresholds)))
        active[image, unit] = counted.cpu().numpy()
        inside = np.zeros((*active.shape, masks.shape[1]))
        inside[image, unit] = overlaps.cpu().numpy()

        labelled, size = present.numpy().astype(float), masks.sum((2, 3)).cpu().numpy().astype(float)
        mask_part = size.sum(0) if self.union_rule == "labelled" else (active > 0).T.astype(float) @ size
        overlap = inside.sum(0)
        self.intersection += overlap.astype(np.int64)
        self.union += (active.T @ labelled + mask_part - overlap).astype(np.int64)

        pair = np.zeros(active.shape, int)
        pair[image, unit] = np.arange(len(image))
        coarse = maps.cpu().numpy()
        iou = inside / np.maximum(active[:, :, None] + size[:, None] - inside, 1)
        by_subject = np.where(inside > 0, iou, -np.inf).transpose(1, 2, 0).reshape(-1, len(rows))
        concepts = masks.shape[1]
        self.top.update(by_subject, rows, lambda subject, b: coarse[pair[b, subject // concepts]])
        peak = np.full(active.shape, -np.inf)
        peak[image, unit] = coarse.max((1, 2))
        self.strongest.update(peak.T, rows, lambda subject, b: coarse[pair[b, subject]])

    def merge(self, other: IoUTally) -> None:
        self.intersection += other.intersection
        self.union += other.union
        self.top.merge(other.top)
        self.strongest.merge(other.strongest)

    def result(self) -> xr.Dataset:
        """Return intersection, union, iou (unit, concept), the unit's best concept, and the top images.

        top_image, top_iou (unit, concept, top) and, of the best concept, top_map (unit, top, y, x); strongest_image
        (unit, top) and strongest_map, by activation. "" and −inf where there are fewer.
        """
        units, concepts = self.intersection.shape
        iou = self.intersection / np.maximum(self.union, 1)
        best = iou.argmax(1)
        by_pair = (units, concepts, self.top.k)
        maps = self.top.payload.reshape(*by_pair, *self.top.payload.shape[2:])
        pair, top = ("unit", "concept"), ("unit", "concept", "top")
        return xr.Dataset(
            {
                "intersection": (pair, self.intersection),
                "union": (pair, self.union),
                "iou": (pair, iou),
                "best_concept": ("unit", np.array(self.view.names, object)[best]),
                "best_iou": ("unit", iou.max(1)),
                "interpretable": ("unit", iou.max(1) > INTERPRETABLE),
                "top_image": (top, named(self.paths, self.top.rows).reshape(by_pair)),
                "top_iou": (top, self.top.values.reshape(by_pair)),
                "top_map": (("unit", "top", "y", "x"), maps[np.arange(units), best]),
                "strongest_image": (("unit", "top"), named(self.paths, self.strongest.rows)),
                "strongest_map": (("unit", "top", "y", "x"), self.strongest.payload),
            },
            coords={"unit": np.arange(units), "concept": list(self.view.names)},
        )


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
        masks = batch.masks[self.view].numpy()
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
