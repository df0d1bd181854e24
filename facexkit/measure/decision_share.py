"""Decision share: how far exchanging one region between two faces moves the decision."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS, TOP_TO_BOTTOM, UNIONS, index_map
from facexkit.measure.bootstrap import ratio_interval
from facexkit.models.face_model import FaceModel
from facexkit.probe.progress import Progress, progress_bar
from facexkit.probe.stream import check_skipped, skips

HEIGHT = np.array([TOP_TO_BOTTOM.index(name) for name in REGIONS], np.uint8)
"""Place of each region from the top, 0 uppermost."""

ROUNDING = 1e-6
"""Margins that differ by a smaller share than this differ by float32 rounding alone."""


@dataclass
class _Sample:
    """Faces in memory: uint8 images (n, 3, S, S), and uint8 heights (n, S, S), the place of each pixel's region."""

    rows: np.ndarray
    paths: np.ndarray
    images: Tensor
    heights: Tensor
    skipped: list[str]


def decision_shares(
    model: FaceModel,
    faces: FaceSet,
    layer: str | None,
    targets: list[int],
    *,
    seed: int = 0,
    images: int = 256,
    partners: int = 4,
    batch_size: int = 32,
    workers: int | None = None,
    max_skipped: float = 0.01,
    progress: Progress = True,
) -> list[xr.Dataset]:
    """Measure how much of the decision each region carries, by exchanging only that region between two faces.

    With f = the target's margin and x_i ← r x_j = x_i with the pixels of r taken from x_j, over pairs (i, j):
    c(i, j, r) = f(x_i ← r x_j) − f(x_i);
    share(r) = Σ c(i, j, r)·(f(x_j) − f(x_i)) / Σ (f(x_j) − f(x_i))².
    Of the two regions that the masks of i and j have at a pixel, the upper one owns it, so the regions partition the
    image and the shares add up to 1 but for interactions. Faces must be aligned. Where a row asks its own question (a
    pair of faces), f(x_j) and the exchanges answer that of row i: its reference stays.

    Parameters
    ----------
    images : how many faces to draw from the set.
    partners : how many others each of them is paired with.
    max_skipped : largest share of the drawn faces that may be undecodable.

    Returns
    -------
    one Dataset a target, see `score_regions`. `per_image` (image, region) is the part of each sampled image, scaled
    so that its mean over the images is the share. `union_score` (union) is the sum over the regions of brows, eyes,
    ears and lips, exchanged one at a time.

    Raises
    ------
    FacexkitError for fewer than two faces with masks, a model whose decision is the same for all or not finite, or too
    many undecodable images.
    """
    if images < 2 or partners < 1:
        raise FacexkitError(f"decision share compares pairs of faces: images={images}, partners={partners} give none")
    sample = _draw_sample(model, faces, images, seed, batch_size, workers, max_skipped)
    first, second = _pairs(len(sample.paths), partners, seed)
    outputs = _outputs(model, sample.images, sample.rows, batch_size)
    by_row = model.at(sample.rows) is not model
    likely = are_probabilities(outputs) and not by_row

    def margins_of(outputs: Tensor) -> Tensor:
        return torch.stack([margin(outputs, target, likely) for target in targets], 1)

    margins = margins_of(outputs)
    far = _outputs(model, sample.images[second], sample.rows[first], batch_size) if by_row else outputs[second]
    away = margins_of(far) - margins[first]
    if bool((away.abs().amax(0) <= ROUNDING * margins.abs().amax(0)).any()):
        raise FacexkitError(f"{model.name!r} decides alike for all drawn faces; there is no difference to share out")

    with progress_bar(progress, total=len(first), unit="pair", desc=f"{model.name}: regions exchanged") as bar:
        moved, exchanged = _exchange_all(model, sample, first, second, margins, margins_of, batch_size, bar)
    toward = moved * away[:, None]
    return [
        _shares(sample, first, toward[..., k].numpy(), away[:, k].numpy() ** 2, exchanged, seed)
        .assign(output=("image", outputs[:, target].numpy()))
        .assign_attrs(partners=partners, skipped=sample.skipped)
        for k, target in enumerate(targets)
    ]


def margin(outputs: Tensor, target: int, likely: bool) -> Tensor:
    """Return how clearly the outputs (B, classes) speak for the target, (B,).

    The logit of the class minus log-sum-exp of the others; log-odds where they are `likely` probabilities; or one logit.
    """
    if likely:
        return torch.logit(outputs[:, target], eps=1e-7)
    if outputs.shape[1] == 1:
        return outputs[:, 0]
    others = torch.arange(outputs.shape[1]) != target
    return outputs[:, target] - outputs[:, others].logsumexp(1)


def are_probabilities(outputs: Tensor) -> bool:
    """Whether outputs (B, classes) are probabilities: within [0, 1], and adding up to 1 where there are several."""
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return within and (outputs.shape[1] == 1 or bool((outputs.sum(1) - 1).abs().max() < 1e-3))


def probabilities(outputs: Tensor) -> Tensor:
    """Return outputs (B, classes) as probabilities: as they are if they are some, else their softmax, or one's sigmoid."""
    if are_probabilities(outputs):
        return outputs
    return outputs.softmax(1) if outputs.shape[1] > 1 else outputs.sigmoid()


def _draw_sample(
    model: FaceModel, faces: FaceSet, images: int, seed: int, batch_size: int, workers: int | None, max_skipped: float
) -> _Sample:
    chosen = np.sort(np.random.default_rng(seed).permutation(len(faces))[:images])
    drawn = faces[chosen]
    view = MaskView(REGIONS, model.image_size)
    sample = _Sample(np.empty(0, int), np.empty(0, object), torch.empty(0), torch.empty(0), [])
    pixels, heights, undecodable = [], [], []
    for batch in drawn.batches(model.image_size, batch_size, [view], workers):
        undecodable += skips(batch)
        check_skipped(undecodable, len(drawn), max_skipped)
        if not len(batch.rows):
            continue
        masks, paths = batch.masks[view].numpy(), drawn.table.path.to_numpy(object)[batch.rows]
        masked = masks.any((1, 2, 3))
        sample.rows = np.append(sample.rows, chosen[batch.rows[masked]])
        sample.paths = np.append(sample.paths, paths[masked])
        sample.skipped += skips(batch) + [f"{path}: it has no region mask" for path in paths[~masked]]
        pixels.append(batch.images[torch.from_numpy(masked)])
        heights.append(torch.from_numpy(HEIGHT[index_map(masks[masked])]))
    if len(sample.paths) < 2:
        raise FacexkitError(
            f"decision share needs two faces with masks at least; {faces.name!r} has {len(sample.paths)} of {len(drawn)}"
        )
    sample.images, sample.heights = torch.cat(pixels), torch.cat(heights)
    return sample


def _pairs(count: int, partners: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pair each of `count` faces with `partners` different others (all others, if there are fewer)."""
    rng = np.random.default_rng([seed, 1])
    partners = min(partners, count - 1)
    second = np.stack([rng.permutation(count - 1)[:partners] for _ in range(count)])
    second += second >= np.arange(count)[:, None]
    return np.repeat(np.arange(count), partners), second.ravel()


def _exchange_all(
    model: FaceModel, sample: _Sample, first: np.ndarray, second: np.ndarray, margins: Tensor,
    margins_of: Callable[[Tensor], Tensor], batch_size: int, bar: object,
) -> tuple[Tensor, np.ndarray]:  # fmt: skip
    """Return c (pairs, region, targets), 0 where a pair lacks the region, and which pairs have which region."""
    exchanged, done = np.zeros((len(first), len(REGIONS)), bool), 0
    moved = torch.zeros(*exchanged.shape, margins.shape[1], dtype=margins.dtype)
    for pairs, regions, composites in _full_batches(_exchanges(sample, first, second), batch_size):
        after = margins_of(_outputs(model, composites, sample.rows[first[pairs]], batch_size))
        moved[pairs, regions], exchanged[pairs, regions] = after - margins[first[pairs]], True
        bar.update(int(pairs[-1]) - done)  # the last pair may go on in the next batch
        done = int(pairs[-1])
    bar.update(len(first) - done)
    return moved, exchanged


def _exchanges(sample: _Sample, first: np.ndarray, second: np.ndarray) -> Iterator[tuple[int, int, Tensor]]:
    """Yield (pair, region, image of the first face with that region's pixels from the second)."""
    for pair, (i, j) in enumerate(zip(first, second, strict=True)):
        owner = torch.minimum(sample.heights[i], sample.heights[j])
        for height in owner.unique().tolist():
            region = REGIONS.index(TOP_TO_BOTTOM[height])
            owned = owner == height
            ys, xs = owned.any(1).nonzero()[:, 0], owned.any(0).nonzero()[:, 0]
            box = (slice(None), slice(ys[0], ys[-1] + 1), slice(xs[0], xs[-1] + 1))
            composite = sample.images[i].clone()
            composite[box] = torch.where(owned[box[1:]], sample.images[j][box], composite[box])
            yield pair, region, composite


def _full_batches(
    work: Iterator[tuple[int, int, Tensor]], batch_size: int
) -> Iterator[tuple[np.ndarray, np.ndarray, Tensor]]:
    waiting: list[tuple[int, int, Tensor]] = []
    for item in work:
        waiting.append(item)
        if len(waiting) == batch_size:
            yield _stacked(waiting)
            waiting = []
    if waiting:
        yield _stacked(waiting)


def _stacked(items: list[tuple[int, int, Tensor]]) -> tuple[np.ndarray, np.ndarray, Tensor]:
    pairs, regions, composites = zip(*items, strict=True)
    return np.array(pairs), np.array(regions), torch.stack(composites)


@torch.inference_mode()
def _outputs(model: FaceModel, images: Tensor, rows: np.ndarray, batch_size: int) -> Tensor:
    places = torch.arange(len(images)).split(batch_size)
    asked = (model.at(rows[part])(model.prepare(images[part])) for part in places)
    outputs = torch.cat([output.double().cpu() for output in asked])
    if not bool(outputs.isfinite().all()):
        raise FacexkitError(f"model {model.name!r} gives outputs that are not finite; check weights and normalization")
    return outputs


def _shares(
    sample: _Sample,
    first: np.ndarray,
    toward: np.ndarray,
    square: np.ndarray,
    exchanged: np.ndarray,
    seed: int,
) -> xr.Dataset:
    """Sum up pairs: `toward` (pairs, region) = c·(f(x_j) − f(x_i)), `square` (pairs,) = (f(x_j) − f(x_i))²."""
    count = len(sample.paths)
    part, whole = np.zeros((count, len(REGIONS))), np.zeros((count, 1))
    has = np.zeros((count, len(REGIONS)), bool)
    np.add.at(part, first, toward)
    np.add.at(whole, first, square[:, None])
    np.logical_or.at(has, first, exchanged)
    known = has.any(0)
    members = np.array([[region in parts for parts in UNIONS.values()] for region in REGIONS])
    summed = np.column_stack([part, part @ members, part.sum(1)])
    low, high = ratio_interval(summed, whole, seed)
    shares = np.stack([summed.sum(0) / whole.sum(), low, high])
    shares = np.where(np.concatenate([known, known @ members, [True]]), shares, np.nan)
    ends, cuts = ("", "_low", "_high"), [len(REGIONS), len(REGIONS) + len(UNIONS)]
    values: dict[str, object] = {
        "images": ("region", has.sum(0)),
        "union_images": ("union", np.stack([has[:, own].any(1).sum() for own in members.T])),
        "per_image": (("image", "region"), np.where(known, part / whole.mean(), np.nan)),
    }
    for end, row in zip(ends, shares, strict=True):
        own, union, (total,) = np.split(row, cuts)
        values |= {f"score{end}": ("region", own), f"union_score{end}": ("union", union), f"total{end}": total}
    named = {"region": list(REGIONS), "union": list(UNIONS), "image": sample.paths, "row": ("image", sample.rows)}
    return xr.Dataset(values, named)
