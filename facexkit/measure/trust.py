"""How far region scores can be relied on for one model: beside random weights, in the order of each method, among methods."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import copy, deepcopy
from itertools import combinations

import numpy as np
import pandas as pd
import torch
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.measure.bootstrap import with_interval
from facexkit.measure.decision_share import draw_pairs, draw_sample
from facexkit.measure.records import provenance
from facexkit.measure.region_methods import one_class
from facexkit.measure.region_scores import score_regions
from facexkit.measure.share_interval import share_interval
from facexkit.models.face_model import FaceModel
from facexkit.probe.options import PassOptions
from facexkit.probe.progress import Progress, progress_bar

DEPTHS = (0.33, 0.67, 1.0)
"""Shares of a model's weights that are made random, from the top."""


def randomized_scores(
    model: FaceModel, faces: FaceSet, layer: str | None = None, target_class: int | str = 1, method: str = "share", *,
    draws: int = 3, images: int = 200, progress: Progress = True, seed: int = 0, **options: object,
) -> xr.Dataset:  # fmt: skip
    """Score regions again with the model's weights made random from the top layer down (Adebayo et al. 2018).

    The values of each weight are shuffled, so that their sizes stay. A score that a model without knowledge has too says
    nothing of what the model learned: what lies within the band is not distinguishable from a random model.

    Parameters
    ----------
    draws : how many models with all weights random make the band.
    images : how many faces to draw from the set at most.
    progress : whether a bar is shown, see `Progress`.
    layer, target_class, method, options : see `score_regions`; decision shares are `quick`.

    Returns
    -------
    Dataset: score (depth, region), by the share of the weights that are random from the top; low, high (region), the least
    and the greatest score of the models that are wholly random. Unions follow the regions, where the method has them.
    """
    options = ({"quick": True} if method == "share" else {}) | options | {"progress": False}
    faces = faces[np.sort(np.random.default_rng(seed).permutation(len(faces))[:images])]
    about = {"total": len(DEPTHS) + draws - 1, "unit": "model", "desc": f"{model.name} with random weights"}

    def scored(depth: float, draw: int) -> xr.DataArray:
        other = shuffled(model, depth, seed + draw)
        found = score_regions(other, faces, layer, model.class_index(target_class), method, seed=seed, **options)
        found = found.isel(target_class=0).reset_coords(drop=True)
        bar.update(1)
        unions = [found.union_score.rename(union="region")] if "union_score" in found else []
        return xr.concat([found.score, *unions], "region")

    with progress_bar(progress, **about) as bar:
        steps = [scored(depth, 0) for depth in DEPTHS]
        wholly = xr.concat([steps[-1], *(scored(1.0, draw) for draw in range(1, draws))], "draw")
    score = xr.concat(steps, xr.Variable("depth", list(DEPTHS)))
    made_by = provenance(model, faces, method=method, layer=layer or "", draws=draws, seed=seed)
    return xr.Dataset({"score": score, "low": wholly.min("draw"), "high": wholly.max("draw")}, attrs=made_by)


def shuffled(model: FaceModel, depth: float, seed: int) -> FaceModel:
    """Return the model with the values of its uppermost weights, a share `depth` of them, shuffled within each."""
    other = copy(model)
    other.network, rng = deepcopy(model.network), torch.Generator().manual_seed(seed)
    weights = [own for own in other.network.parameters() if own.numel() > 1][::-1]
    if not weights:
        raise FacexkitError(f"{model.name!r} has no weights that could be made random")
    for own in weights[: round(depth * len(weights))]:
        own.data = own.data.flatten()[torch.randperm(own.numel(), generator=rng).to(own.device)].view(own.shape)
    return other


def exchange_curves(
    model: FaceModel, faces: FaceSet, orders: Mapping[str, Sequence[str]], target_class: int | str = 1, *,
    walks: int = 128, seed: int = 0, **how: object,
) -> xr.Dataset:  # fmt: skip
    """Follow the decision while regions are exchanged in given orders, and in random ones.

    curve(k) = Σ (f(x_k) − f(x_0))·d / Σ d², the share of the way to the other face's decision after k regions (deletion of
    the first face's, insertion of the other's; from the other end of a pair the same curve runs backwards); area = its mean
    over k. The better an order has what moves the decision first, the larger its area.

    Parameters
    ----------
    orders : by name, regions, the first to be exchanged first; those that are not named follow in the kit's order.

    Returns
    -------
    Dataset: curve (order, step); area, area_low, area_high (order), a 95 % interval; "random" is the last order.
    """
    target = model.class_index(target_class)
    sample = draw_sample(model, faces, [target], min(len(faces), walks), seed, PassOptions(**how))
    pairs, random_orders = (part[:walks] for part in draw_pairs(len(sample.rows), 2, seed))
    found = {}
    for name, first in {**orders, "random": None}.items():
        full = None if first is None else [*first, *(region for region in REGIONS if region not in first)]
        order = random_orders if full is None else np.tile([REGIONS.index(region) for region in full], (len(pairs), 1))
        _, has, moved, _ = sample.show(sample.walks(pairs), pairs, orders=order)
        met = order[has.any(0)[order]].reshape(len(order), -1)  # what no pair has is no step
        along = np.take_along_axis(moved[..., 0], met, 1).cumsum(1)
        d = along[:, -1:]
        found[name] = share_interval(pairs, np.column_stack([along, along.mean(1)]) * d, d[:, 0] ** 2)
    shares = np.stack([*found.values()], 1)
    curve, ends = np.insert(shares[0, :, :-1], 0, 0.0, axis=1), with_interval("area", "order", shares[..., -1])
    made_by = provenance(model, faces, target_class=target, walks=len(pairs), seed=seed)
    return xr.Dataset({"curve": (("order", "step"), curve), **ends}, {"order": list(found)}, made_by)


def rank_agreement(results: Iterable[xr.Dataset]) -> pd.DataFrame:
    """Return how alike methods rank the regions: Spearman's ρ of every two results, over the regions that both have.

    Parameters
    ----------
    results : one-class results of `score_regions`, of several methods, classes or groups.

    Returns
    -------
    table: first, second (method, layer and class), rho, regions; of results of one class alone.
    """
    from scipy.stats import spearmanr  # here, as its import takes a second

    rows = []
    for one, other in combinations(map(one_class, results), 2):
        if one.target_class.item() != other.target_class.item():
            continue
        both = np.isfinite(one.score.to_numpy()) & np.isfinite(other.score.to_numpy())
        rho = spearmanr(one.score.to_numpy()[both], other.score.to_numpy()[both]).statistic if both.sum() > 2 else np.nan
        names = (" ".join(str(each.attrs[k]) for k in ("method", "layer") if each.attrs.get(k)) for each in (one, other))
        rows.append((one.class_name.item(), *names, float(rho), int(both.sum())))
    return pd.DataFrame(rows, columns=["class_name", "first", "second", "rho", "regions"])
