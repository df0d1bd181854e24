"""Decision share: of the way from one face's decision to another's, how far each region carries it."""

from __future__ import annotations

import numpy as np
import torch
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.margins import are_probabilities, margin
from facexkit.measure.predictions import Outputs
from facexkit.measure.share_interval import share_interval
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.exchange import FacePairs
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Rows

ROUNDING = 1e-6
"""Margins that differ by a smaller share than this differ by float32 rounding alone."""
SHARD = 64
"""Pairs in a shard: each costs the model as much as a dozen faces."""


def decision_shares(
    model: FaceModel, faces: FaceSet, layer: str | None, targets: list[int], *, seed: int = 0, images: int = 256,
    partners: int = 4, **how: object,
) -> list[xr.Dataset]:  # fmt: skip
    """Measure how much of the decision each region carries, by exchanging faces region by region.

    The regions of a pair (i, j) are exchanged one after another in a random order π: x_0 = x_i, x_k = x_{k−1} with the
    pixels of π(k) taken from x_j, until x_R = x_j. With f = the target's margin, c(i, j, r) = f(x_k) − f(x_{k−1}) for
    r = π(k), and d = f(x_j) − f(x_i): share(r) = Σ c·d / Σ d², both sums over all pairs. The shares add up to 1, as each
    pair's changes add up to d; the expectation of c is the region's Shapley value in the exchange (Shapley 1953). Every
    pair is walked from both ends in one order, which is one way and its reverse (antithetic orders, less variance).

    Of the two regions that the masks of i and j have at a pixel, the upper one owns it, so the regions partition the
    image. Faces must be aligned. Where a row asks its own question (a pair of faces), all of a walk answer that of its
    first face: its reference stays.

    The interval counts that each face is in several pairs: with e_p = (c·d − share·d²) / Σ d² the influence of the pair p,
    both its walks together, and S_m the change of the share when all pairs that touch face m are left out (the
    jackknife, which for few faces covers better than the sum of their e_p), V = Σ_m S_m² − Σ_p e_p² (dyadic clustering;
    Fafchamps & Gubert 2007), and the quantiles of t for (faces − 1) degrees of freedom.

    Parameters
    ----------
    images : how many faces to draw from the set.
    partners : with how many others each of them is paired, on average half of them drawn for it.
    how : options of the pass, see `PassOptions`; `max_skipped` is a share of the drawn faces.

    Returns
    -------
    one Dataset a target, see `score_regions`. `per_image` (image, region) is the part of each sampled image, scaled
    so that its mean over the images is the share. `union_score` (union) is the sum over the regions of brows, eyes,
    ears and lips.

    Raises
    ------
    FacexkitError for fewer than two faces with masks, a model whose decision is the same for all or not finite, or too
    many undecodable images.
    """
    if images < 2 or partners < 1:
        raise FacexkitError(f"decision share compares pairs of faces: images={images}, partners={partners} give none")
    options, view = PassOptions(**how), MaskView(REGIONS, model.image_size)
    chosen = np.sort(np.random.default_rng(seed).permutation(len(faces))[:images])
    said, masked = Outputs(), MaskedFaces(view)
    skipped = run(model, faces, [said, masked], options, rows=chosen)
    rows, outputs = said.result()
    has = masked.result()
    paths = faces.table.path.to_numpy(object)
    skipped += [f"{paths[row]}: it has no region mask" for row in rows[~has]]
    rows, outputs = rows[has], torch.from_numpy(outputs[has])
    if len(rows) < 2:
        lacking = f"{faces.name!r} has {len(rows)} of {len(chosen)}"
        raise FacexkitError(f"decision share needs two faces with masks at least; {lacking}")
    own_question = model.at(rows) is not model
    likely = are_probabilities(outputs) and not own_question
    margins = np.stack([margin(outputs, target, likely).numpy() for target in targets], 1)
    if (np.ptp(margins, axis=0) <= ROUNDING * abs(margins).max(0)).any():
        raise FacexkitError(f"{model.name!r} decides alike for all drawn faces; there is no difference to share out")

    pairs, orders = draw_pairs(len(rows), partners, seed)
    walks = Walks(view, targets, likely, margins[pairs[:, 0]], None if own_question else margins[pairs[:, 1]])
    run(model, faces, [walks], options, pairs=FacePairs(rows[pairs], orders), shard=SHARD)
    moved, exchanged = walks.result()
    found = {"image": paths[rows], "row": ("image", rows)}
    return [
        _shares(pairs, moved[..., k], exchanged, len(rows))
        .assign(output=("image", outputs[:, target].numpy()))
        .assign_coords(found)
        .assign_attrs(partners=partners, skipped=skipped)
        for k, target in enumerate(targets)
    ]


class MaskedFaces(Accumulator):
    """Which images have a mask of a region that is not the background."""

    def __init__(self, view: MaskView) -> None:
        self.view, self.masks = view, (view,)
        self.kept = Rows()

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, has=batch.present[self.view][:, 1:].any(1).numpy())

    def result(self) -> np.ndarray:
        """Return bool (N,), by row."""
        return self.kept.by_row("has")[0]


class Walks(Accumulator):
    """How far each region moves the margins of the targets on the way from one face to another.

    Parameters
    ----------
    view : the regions' masks at the model's input size.
    targets, likely : whose margins, and whether the outputs are probabilities.
    first, second : margins (P, targets) of both faces of each pair; no `second` where the walk's last output has them.
    """

    def __init__(
        self, view: MaskView, targets: list[int], likely: bool, first: np.ndarray, second: np.ndarray | None
    ) -> None:
        self.exchanges, self.masks = view, (view,)
        self.targets, self.likely, self.first, self.second = targets, likely, first, second
        self.kept = Rows()

    def update(self, batch: ProbedBatch) -> None:
        regions, outputs = batch.walk.regions.numpy(), batch.walk.outputs
        reached = np.stack([margin(outputs, target, self.likely).numpy() for target in self.targets], 2)
        last = (regions >= 0).sum(1) - 1
        if self.second is not None:
            reached[np.arange(len(last)), last] = self.second[batch.rows]
        changes = np.diff(reached, axis=1, prepend=self.first[batch.rows][:, None])
        moved = np.zeros(changes.shape)
        pair, step = np.nonzero(regions >= 0)
        moved[pair, regions[pair, step]] = changes[pair, step]
        has = np.zeros(regions.shape, bool)
        has[pair, regions[pair, step]] = True
        self.kept.take(batch.rows, moved=moved, has=has)

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return c (P, regions, targets), 0 where a pair lacks the region, and which pairs have which region."""
        return self.kept.by_row("moved", "has")


def draw_pairs(count: int, partners: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pair each of `count` faces with others.

    Returns
    -------
    pairs : int64 (P, 2); half of `partners` are drawn for each face, and each of these pairs is there from both ends; of
        an odd number one more from one end.
    orders : int64 (P, regions), random permutations, the same for both ends.
    """
    rng = np.random.default_rng([seed, 1])
    drawn = min(-(-partners // 2), count - 1)
    second = np.stack([rng.permutation(count - 1)[:drawn] for _ in range(count)])
    second += second >= np.arange(count)[:, None]
    one_way = np.stack([np.repeat(np.arange(count), drawn), second.ravel()], 1)
    orders = rng.permuted(np.tile(np.arange(len(REGIONS)), (len(one_way), 1)), axis=1)
    back = np.arange(len(one_way)) % drawn < min(partners // 2, drawn)
    return np.concatenate([one_way, one_way[back][:, ::-1]]), np.concatenate([orders, orders[back]])


def _shares(pairs: np.ndarray, moved: np.ndarray, exchanged: np.ndarray, count: int) -> xr.Dataset:
    """Sum up pairs of `count` faces: `moved` (P, regions) = c, and which of them have which region."""
    away = moved.sum(1)
    toward, square = moved * away[:, None], away**2
    known = exchanged.any(0)
    members = np.array([[region in parts for parts in UNIONS.values()] for region in REGIONS])
    share, low, high = share_interval(pairs, np.column_stack([toward, toward @ members]), square, count)
    part, has = np.zeros((count, len(REGIONS))), np.zeros((count, len(REGIONS)), bool)
    np.add.at(part, pairs[:, 0], toward)
    np.logical_or.at(has, pairs[:, 0], exchanged)
    values: dict[str, object] = {
        "images": ("region", has.sum(0)),
        "union_images": ("union", np.stack([has[:, own].any(1).sum() for own in members.T])),
        "per_image": (("image", "region"), np.where(known, part * count / square.sum(), np.nan)),
    }
    for end, row in (("", share), ("_low", low), ("_high", high)):
        own, union = np.split(row, [len(REGIONS)])
        values[f"score{end}"] = ("region", np.where(known, own, np.nan))
        values[f"union_score{end}"] = ("union", np.where(known @ members, union, np.nan))
    return xr.Dataset(values, {"region": list(REGIONS), "union": list(UNIONS)})

