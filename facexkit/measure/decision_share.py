"""Decision share: of the way from one face's decision to another's, how far each region carries it."""

from __future__ import annotations

import time
from dataclasses import dataclass

import numpy as np
import torch
import xarray as xr
from torch import Tensor

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.bootstrap import with_interval
from facexkit.measure.interactions import interactions_of, largest_parts, turned_by
from facexkit.measure.per_image import PerImage
from facexkit.measure.share_interval import known_well, placebo, share_interval
from facexkit.models.face_model import FaceModel
from facexkit.models.outputs import Meaning
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.exchange import FacePairs
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

ROUNDING = 1e-6
"""Margins that differ by a smaller share than this differ by float32 rounding alone."""
SHARD = 64
"""Pairs in a shard: each costs the model as much as a dozen faces."""
LEAST, QUICK = 128, 96
"""Pairs before it may stop; pairs and faces of a quick answer."""


def decision_shares(
    model: FaceModel, faces: FaceSet, layer: str | None, targets: list[int], *, images: int = 1024, partners: int = 4,
    walks: int = 1024, half_width: float = 0.02, quick: bool = False, seam: int = 0, interactions: int = 0,
    seed: int = 0, **how: object,
) -> list[xr.Dataset]:  # fmt: skip
    """Measure how much of the decision each region carries, by exchanging faces region by region.

    The regions of a pair (i, j) are exchanged one after another in a random order π: x_0 = x_i, x_k = x_{k−1} with the
    pixels of π(k) taken from x_j, until x_R = x_j. With f = the target's margin, c(i, j, r) = f(x_k) − f(x_{k−1}) for
    r = π(k), and d = f(x_j) − f(x_i): share(r) = Σ c·d / Σ d², both sums over all pairs. The shares add up to 1, as each
    pair's changes add up to d; the expectation of c is the region's Shapley value in the exchange (Shapley 1953). The
    mirror of a pair, walked from the other end, has its order and so goes the same way backwards (antithetic orders).

    Of the two regions that the masks of i and j have at a pixel, the upper one owns it, so the regions partition the
    image. Faces must be aligned. Where a row asks its own question (a pair of faces), all of a walk answer that of its
    first face: its reference stays.

    Pairs come shard by shard, first such as share no face, until the three largest shares (a union's, such as the lips',
    in the place of its regions') are known to ± `half_width`, or the pairs are used up. The interval is that of
    `share_interval`.

    Parameters
    ----------
    images : how many faces to draw from the set at most.
    partners : with how many others each of them is paired at most; each pair is there from both ends.
    walks : how many walks from one face to another there are at most.
    half_width : half the width of the 95 % interval with which a share is known well enough; 0 takes all pairs.
    quick : whether 96 pairs of 96 faces are all: an answer within a minute, with a wider interval.
    seam : pixels over which the edge of what is exchanged is blended, on either side.
    interactions : of how many of the largest parts to measure what two do only together, see `interactions_of`.
    how : options of the pass, see `PassOptions`; `max_skipped` is a share of the drawn faces.

    Returns
    -------
    one Dataset a target, see `score_regions`. `per_image` (image, region) is the part of each face that came in a pair,
    half of each of its pairs', scaled so that its mean over the images is the share. `union_score` (union) is the sum
    over the regions of brows, eyes, ears and lips. `placebo`, with its interval: see `share_interval.placebo`.
    `turned_…` (turn): see `turned_by`. `interaction`, `interaction_low`, `interaction_high` (together): see `interactions_of`.
    attrs["walks"] is how many pairs were walked.

    Raises
    ------
    FacexkitError for fewer than two faces with masks, a model whose decision is the same for all or not finite, or too
    many undecodable images.
    """
    if images < 2 or partners < 1:
        raise FacexkitError(f"decision share compares pairs of faces: images={images}, partners={partners} give none")
    images, walks = (min(images, QUICK), min(walks, QUICK)) if quick else (images, walks)
    sample = draw_sample(model, faces, targets, images, seed, PassOptions(**how), seam)
    drawn, orders = (part[:walks] for part in draw_pairs(len(sample.rows), partners, seed))
    way = sample.walks(drawn)

    def enough() -> bool:
        pairs, _, moved, _ = way.result()
        return len(pairs) >= LEAST and known_well(drawn[: len(pairs)], moved, half_width)

    walked, *seen = sample.show(way, drawn, orders=orders, shard=SHARD, enough=enough, note=sample.longest(len(drawn)))
    attrs = {"partners": partners, "walks": len(walked), "skipped": sample.skipped}
    found = (_result(sample, drawn[: len(walked)], *seen, k, interactions) for k in range(len(targets)))
    return [one.assign_attrs(attrs) for one in found]


def _result(
    sample: Sample, walked: np.ndarray, has: np.ndarray, moved: np.ndarray, off: np.ndarray, k: int, interactions: int
) -> xr.Dataset:
    """Return what the walks say of the sample's k-th target; for `interactions` more is shown to the model."""
    found = _shares(walked, moved[..., k], has, sample, k)
    found = found.assign(placebo(walked, moved[..., k], off[:, k], sample.margins[:, k]))
    parts = largest_parts(found, max(1, interactions))
    found = found.merge(turned_by(parts[0], sample, walked, moved[..., k], k))
    if interactions > 1:
        _, once = np.unique(np.sort(walked, 1), axis=0, return_index=True)
        found = found.merge(interactions_of(parts, sample, walked[np.sort(once)], k))
    return found


@dataclass
class Sample:
    """The drawn faces that have a mask, and what the model says of each.

    Attributes
    ----------
    rows, outputs, margins : (N,), (N, classes) and (N, targets).
    meaning, own_question : what the outputs mean, and whether each row asks the model its own question.
    view : the regions' masks at the model's input size.
    """

    model: FaceModel
    faces: FaceSet
    rows: np.ndarray
    outputs: Tensor
    targets: list[int]
    how: PassOptions
    skipped: list[str]
    seam: int

    def __post_init__(self) -> None:
        self.view = MaskView(REGIONS, self.model.image_size)
        self.own_question = self.model.at(self.rows) is not self.model
        self.meaning = self.model.meaning.settled(self.outputs)
        self.margins = np.stack([self.meaning.margin(self.outputs, target).numpy() for target in self.targets], 1)

    def show(
        self, seen: Accumulator, pairs: np.ndarray, orders: np.ndarray | None = None, sets: np.ndarray | None = None,
        **about: object,
    ) -> tuple[np.ndarray, ...]:  # fmt: skip
        """Exchange regions between pairs (P, 2) of the sample, see `FacePairs`, and return what `seen` kept of that."""
        asked = FacePairs(self.rows[pairs], orders, sets, self.seam)
        run(self.model, self.faces, [seen], self.how, pairs=asked, **about)
        return seen.result()

    def walks(self, pairs: np.ndarray) -> Walks:
        """Return what counts the walks of pairs (P, 2); second faces answer the first ones' questions, where these have some."""
        first, second = self.margins[pairs.T]
        return Walks(self.view, self.targets, self.meaning, first, None if self.own_question else second)

    def longest(self, pairs: int) -> str:
        """Return in words how long so many walks take at most, where the model runs here; it is tried with noise."""
        if self.how.client:
            return ""
        noise = self.model.test_images().repeat(max(1, self.how.batch_size // 2), 1, 1, 1)
        start = time.perf_counter()
        with torch.no_grad():
            self.model.at(None)(noise).cpu()
        seconds = pairs * (len(REGIONS) - 4) * (time.perf_counter() - start) / len(noise)  # a face has about 15 regions
        longest = f"{seconds / 60:.0f} min" if seconds > 90 else f"{max(seconds, 1):.0f} s"
        return f", about {longest} at most"


def draw_sample(
    model: FaceModel, faces: FaceSet, targets: list[int], images: int, seed: int, how: PassOptions, seam: int = 0
) -> Sample:
    """Draw faces and ask the model about each."""
    chosen = np.sort(np.random.default_rng(seed).permutation(len(faces))[:images])
    skipped = run(model, faces, [said := MaskedOutputs(MaskView(REGIONS, model.image_size))], how, rows=chosen)
    rows, has, outputs = said.result()
    skipped += [f"{path}: it has no region mask" for path in faces.table.path.to_numpy(object)[rows[~has]]]
    rows, outputs = rows[has], torch.from_numpy(outputs[has])
    if len(rows) < 2:
        lacking = f"{faces.name!r} has {len(rows)} of {len(chosen)}"
        raise FacexkitError(f"decision share needs two faces with masks at least; {lacking}")
    sample = Sample(model, faces, rows, outputs, targets, how, skipped, seam)
    if (np.ptp(sample.margins, axis=0) <= ROUNDING * abs(sample.margins).max(0)).any():
        raise FacexkitError(f"{model.name!r} decides alike for all drawn faces; there is no difference to share out")
    return sample


class MaskedOutputs(PerImage):
    """The model's outputs (N, classes), and which images have a mask of a region that is not the background."""

    outputs = True

    def __init__(self, view: MaskView) -> None:
        super().__init__()
        self.view, self.masks = view, (view,)

    def update(self, batch: ProbedBatch) -> None:
        has = batch.present[self.view][:, 1:].any(1).numpy()
        self.kept.take(batch.rows, has=has, outputs=batch.outputs.double().cpu().numpy())


class Walks(PerImage):
    """How far each region moves the margins of the targets on the way from one face to another.

    It ends in the pairs' numbers; which pairs have which region, `has` (P, regions); c, `moved` (P, regions, targets), 0
    where a pair lacks the region; and how far the margins between the two faces lie off the middle of the two, on average,
    `off` (P, targets).

    Parameters
    ----------
    view : the regions' masks at the model's input size.
    targets, meaning : whose margins, and what the outputs mean.
    first, second : margins (P, targets) of both faces of each pair; no `second` where the walk's last output has them.
    """

    def __init__(
        self, view: MaskView, targets: list[int], meaning: Meaning, first: np.ndarray, second: np.ndarray | None
    ) -> None:
        super().__init__()
        self.exchanges, self.masks = view, (view,)
        self.targets, self.meaning, self.first, self.second = targets, meaning, first, second

    def update(self, batch: ProbedBatch) -> None:
        regions, outputs = batch.walk.regions.numpy(), batch.walk.outputs
        reached = np.stack([self.meaning.margin(outputs, target).numpy() for target in self.targets], 2)
        first, last, every = self.first[batch.rows], (regions >= 0).sum(1) - 1, np.arange(len(regions))
        if self.second is not None:
            reached[every, last] = self.second[batch.rows]
        changes = np.diff(reached, axis=1, prepend=first[:, None])
        pair, step = np.nonzero(regions >= 0)
        moved, has = np.zeros(changes.shape), np.zeros(regions.shape, bool)
        moved[pair, regions[pair, step]], has[pair, regions[pair, step]] = changes[pair, step], True
        between = np.arange(regions.shape[1]) < last[:, None]
        middle = np.where(between[..., None], reached, 0).sum(1) / np.maximum(last, 1)[:, None]
        off = np.where(last[:, None] > 0, middle - (first + reached[every, last]) / 2, 0)
        self.kept.take(batch.rows, moved=moved, has=has, off=off)


def draw_pairs(count: int, partners: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """Pair each of `count` faces with others, again and again.

    Returns
    -------
    pairs : int64 (P, 2): all faces two by two, in random order (of an odd number one is left out); the same pairs from
        the other end; then others, as often as each has `partners`.
    orders : int64 (P, regions), random permutations, the same for both ends.
    """
    rng, pairs, orders = np.random.default_rng([seed, 1]), [], []
    for _ in range(min(partners, count - 1)):
        two = rng.permutation(count)[: count // 2 * 2].reshape(-1, 2)
        order = rng.permuted(np.tile(np.arange(len(REGIONS)), (len(two), 1)), axis=1)
        pairs += [two, two[:, ::-1]]
        orders += [order, order]
    return np.concatenate(pairs), np.concatenate(orders)


def _shares(pairs: np.ndarray, moved: np.ndarray, exchanged: np.ndarray, sample: Sample, k: int) -> xr.Dataset:
    """Sum up pairs: `moved` (P, regions) = c of the k-th target, and which of them have which region."""
    used, ends = np.unique(pairs, return_inverse=True)
    count, ends = len(used), ends.reshape(pairs.shape)
    toward, square, known = moved * moved.sum(1)[:, None], moved.sum(1) ** 2, exchanged.any(0)
    members = np.array([[region in parts for parts in UNIONS.values()] for region in REGIONS])
    shares = np.stack(share_interval(ends, np.column_stack([toward, toward @ members]), square))
    part, has = np.zeros((count, len(REGIONS))), np.zeros((count, len(REGIONS)), bool)
    for end in ends.T:
        np.add.at(part, end, toward / 2)
        np.logical_or.at(has, end, exchanged)
    own, union = np.split(shares, [len(REGIONS)], axis=1)
    rows = sample.rows[used]
    return xr.Dataset({
        "images": ("region", has.sum(0)),
        "union_images": ("union", [has[:, parts].any(1).sum() for parts in members.T]),
        "per_image": (("image", "region"), np.where(known, part * count / square.sum(), np.nan)),
        "output": ("image", sample.outputs[used, sample.targets[k]].numpy()),
        **with_interval("score", "region", np.where(known, own, np.nan)),
        **with_interval("union_score", "union", np.where(known @ members, union, np.nan)),
    }, {
        "region": list(REGIONS), "union": list(UNIONS), "image": sample.faces.table.path.to_numpy(object)[rows],
        "row": ("image", rows),
    })  # fmt: skip
