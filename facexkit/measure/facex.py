"""FaceX: which share of each region the attribution lies on, and the patches with the highest impact."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.faceset import FaceSet
from facexkit.faces.geometry import Size
from facexkit.faces.mask_view import MaskView, sides
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.bootstrap import mean_scores
from facexkit.measure.predictions import answering_of
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, Attributed, Attribution, ProbedBatch
from facexkit.probe.attribution import unreached
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Rows, TopK

ASKED = (*REGIONS, *UNIONS)
"""What is scored: every region, and unions, such as the lips, as one."""
SIDE = 64
TILE = 16
PATCHES = 20
EXAMPLES = 4


class RegionScores(Accumulator):
    """Share of every region's pixels that the attribution lies on (Sarridis et al., FaceX, ICMR 2024).

    Per image: m = map scaled to [0, 1], upsampled to 64×64; t = mean of the positive m;
    score(r) = |{p in r: m(p) > t}| / |r|, with the region's mask resized to the model's input and from there to 64×64,
    antialiased, > 0.

    Parameters
    ----------
    key : the attribution map: its layer, the class (output column) that it explains, and by what.
    paths : the face set's paths, by row.
    image_size : of the model's input.
    own : bool by row, which faces count; None for all.
    seed : of the bootstrap.
    """

    def __init__(
        self, key: Attributed, paths: np.ndarray, image_size: Size, own: np.ndarray | None = None, seed: int = 0
    ) -> None:
        self.key, self.paths, self.seed, self.own = key, paths, seed, own
        self.view = MaskView(ASKED, SIDE, "antialias", through=image_size)
        self.attributions, self.masks, self.outputs = (key,), (self.view,), True
        self.counted = Rows()
        self.examples = TopK(len(ASKED), EXAMPLES)

    def update(self, batch: ProbedBatch) -> None:
        maps = scaled(batch.attributions[self.key])
        above = above_mean(F.interpolate(maps[:, None], (SIDE, SIDE), mode="bilinear")[:, 0])
        masks = own_masks(batch, self.view, self.own).to(maps.device)
        lit = torch.einsum("brp,bp->br", masks.flatten(2).float(), above.flatten(1).float()).long().cpu().numpy()
        area = masks.flatten(2).sum(2).cpu().numpy()
        output = batch.outputs[:, self.key.target].double().cpu().numpy()
        self.counted.take(batch.rows, lit=lit.astype(np.int32), area=area.astype(np.int32), output=output)
        share = np.where(area > 0, lit / np.maximum(area, 1), -np.inf)
        coarse = maps.cpu().numpy()
        self.examples.take(share.T, batch.rows, lambda _, faces: coarse[faces])

    def result(self) -> xr.Dataset:
        """Return score, score_low, score_high, images (region), per_image (image, region) and the examples, of `ASKED`."""
        rows, lit, area, output = self.counted.by_row("rows", "lit", "area", "output")
        per_image = np.where(area > 0, lit / np.maximum(area, 1), np.nan)
        values = {
            "per_image": (("image", "region"), per_image),
            "output": ("image", output),
            "example_image": (("region", "example"), named(self.paths, self.examples.rows)),
            "example_score": (("region", "example"), self.examples.values),
            "example_map": (("region", "example", "y", "x"), self.examples.payload),
        }
        names = {"region": list(ASKED), "image": self.paths[rows], "row": ("image", rows)}
        counts = {} if self.own is None else {"counts": ("image", self.own[rows])}
        return xr.Dataset(values | mean_scores(per_image, ["region"], self.seed), names | counts)


class HighImpactPatches(Accumulator):
    """The tiles of the input that the attribution weighs most, in every region (FaceX).

    The S×S input in 16×16 tiles; value = sum of the unscaled map, upsampled to S×S, over the tile's pixels in the
    region; per image the best tile, over the set the 20 highest above 0.
    """

    def __init__(self, key: Attributed, paths: np.ndarray, image_size: Size, own: np.ndarray | None = None) -> None:
        self.key, self.paths, self.view, self.own = key, paths, MaskView(ASKED, image_size), own
        self.attributions, self.masks = (key,), (self.view,)
        down, across = (np.arange(side) // TILE for side in sides(image_size))
        self.across = int(across[-1]) + 1
        self.tile_of = (down[:, None] * self.across + across).ravel()
        self.best = TopK(len(ASKED), PATCHES)

    def update(self, batch: ProbedBatch) -> None:
        full = F.interpolate(batch.attributions[self.key][:, None], sides(self.view.size), mode="bilinear")
        full = full.flatten(1).cpu().numpy()
        masks = own_masks(batch, self.view, self.own).flatten(2).cpu().numpy()
        values, tiles = np.full(masks.shape[:2], -np.inf), np.zeros(masks.shape[:2], int)
        for face, region in np.ndindex(values.shape):
            inside = np.flatnonzero(masks[face, region])
            if len(inside):  # a sum over the region's pixels: several times quicker than a product with its mask
                sums = np.bincount(self.tile_of[inside], full[face, inside])
                tiles[face, region] = sums.argmax()
                values[face, region] = sums.max() if sums.max() > 0 else -np.inf
        places = np.stack(np.divmod(tiles, self.across), -1) * TILE
        self.best.take(values.T, batch.rows, lambda regions, faces: places[faces, regions])

    def result(self) -> xr.Dataset:
        """Return patch_value, patch_image, patch_y, patch_x (region, patch); NaN and "" where there are fewer."""
        found = np.isfinite(self.best.values)
        values = {
            "patch_value": np.where(found, self.best.values, np.nan),
            "patch_image": named(self.paths, self.best.rows),
            "patch_y": np.where(found, self.best.payload[..., 0], 0),
            "patch_x": np.where(found, self.best.payload[..., 1], 0),
        }
        return xr.Dataset({name: (("region", "patch"), v) for name, v in values.items()}, {"region": list(ASKED)})


def facex_scores(
    model: FaceModel, faces: FaceSet, layer: str, targets: list[int], *, attribution: str | Attribution = "gradcam",
    explain_on: str = "all", seed: int = 0, **how: object,
) -> list[xr.Dataset]:  # fmt: skip
    """Score regions and find patches for all target classes in one pass; see `score_regions`."""
    if isinstance(attribution, str):
        _check_reaches(model, faces, layer, targets)
    paths = faces.table.path.to_numpy(object)
    check_known("choice of faces for explain_on", [explain_on], ("all", "class"))
    every = []
    for target in targets:
        own = _labelled(model, faces, target) if explain_on == "class" else None
        about = Attributed(layer, target, attribution), paths, model.image_size, own
        every.append((RegionScores(*about, seed), HighImpactPatches(*about)))
    skipped = run(model, faces, [one for own in every for one in own], PassOptions(**how))
    by = getattr(attribution, "__name__", attribution)
    attrs = {"attribution": by, "explain_on": explain_on, "tile": TILE, "skipped": skipped}
    return [_unions_apart(xr.merge([one.result() for one in own])).assign_attrs(attrs) for own in every]


def _unions_apart(found: xr.Dataset) -> xr.Dataset:
    """Return a result with its unions in variables of their own: `union_score` (union) beside `score` (region)."""
    own = {name: f"union_{name}" for name, values in found.items() if "region" in values.dims}
    unions = found[[*own]].sel(region=list(UNIONS)).rename({"region": "union"} | own)
    return found.sel(region=list(REGIONS)).merge(unions)


def _labelled(model: FaceModel, faces: FaceSet, target: int) -> np.ndarray:
    """Return which faces are labelled as a class, bool by row; an error where none is."""
    asked, truth = answering_of(model, faces)
    name = model.class_names[target]
    own = np.array([*asked.class_names, ""])[truth] == name
    if not own.any():
        raise FacexkitError(f"no face of {faces.name!r} is labelled {name!r}; take explain_on='all'")
    return own


def own_masks(batch: ProbedBatch, view: MaskView, own: np.ndarray | None) -> Tensor:
    """Return a batch's masks, empty for the faces that do not count: those outside of `own`, bool by row."""
    masks = batch.masks[view]
    return masks if own is None else masks & torch.from_numpy(own[batch.rows]).to(masks.device)[:, None, None, None]


def _check_reaches(model: FaceModel, faces: FaceSet, layer: str, targets: Sequence[int]) -> None:
    """Raise where a class does not depend on a layer's maps: with noise, nor with the first faces."""
    rows = np.arange(min(len(faces), model.at_once or 2))
    if not unreached(model.at(rows), layer, model.test_images()[: len(rows)], targets):
        return
    batch = next(faces.batches(model.preprocess, len(rows), rows=[rows], workers=0))
    if len(batch.rows) and (lost := unreached(model.at(batch.rows), layer, model.prepare(batch.images), targets)):
        raise FacexkitError(
            f"class {model.class_names[lost[0]]!r} of {model.name!r} does not depend on the maps of layer {layer!r}: what "
            "comes after them takes something else, as a class token; take a layer before it"
        )


def scaled(maps: Tensor) -> Tensor:
    """Scale every map (B, h, w) to [0, 1] by its own minimum and maximum; a constant one becomes 0."""
    low, high = maps.amin((1, 2), keepdim=True), maps.amax((1, 2), keepdim=True)
    return (maps - low) / torch.where(high > low, high - low, torch.ones_like(high))


def above_mean(maps: Tensor) -> Tensor:
    """Return where each map (B, h, w) exceeds the mean of its positive values; nowhere if it has none."""
    positive = maps > 0
    mean = maps.clamp(min=0).sum((1, 2), dtype=torch.float64) / positive.sum((1, 2)).clamp(min=1)
    return positive & (maps > mean[:, None, None])


def named(paths: np.ndarray, rows: np.ndarray) -> np.ndarray:
    """Return the paths of `rows`, "" where a row is −1."""
    return np.where(rows < 0, "", paths[rows])
