"""Face verification: which regions of a probe make it like its reference, and who is matched wrongly how often."""

from __future__ import annotations

from collections.abc import Sequence
from copy import copy

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from facexkit.errors import FacexkitError, unknown
from facexkit.faces.faceset import FaceSet
from facexkit.faces.pairs import references
from facexkit.measure.bootstrap import ratio_interval
from facexkit.measure.predictions import Outputs
from facexkit.measure.region_scores import score_regions
from facexkit.models.face_model import FaceModel
from facexkit.probe.stream import stream

TARGETS = {"difference": 0, "similarity": 1}
"""What is explained of a pair → the output column of a `PairModel`."""


class PairModel(FaceModel):
    """An embedding model that compares each probe with its own reference.

    Its output is (1 − c, c) with c = the cosine between the embeddings of probe and reference (FaceX in feature space).

    Parameters
    ----------
    model : gives an embedding (B, D).
    references : embeddings (rows, D), one for each row of the face set; `at` takes the rows of a batch.
    """

    def __init__(self, model: FaceModel, references: Tensor) -> None:
        vars(self).update(vars(model), layers=model.layers, _class_names=["different", "same"])
        self.references = references.to(self.device, torch.float32)

    def at(self, rows: np.ndarray) -> PairModel:
        """Return the model that compares with the references of these rows."""
        bound = copy(self)
        bound.references = self.references[torch.as_tensor(rows, device=self.device)]
        return bound

    def pick(self, returned: object) -> Tensor:
        cosine = F.cosine_similarity(super().pick(returned).float(), self.references)
        return torch.stack([1 - cosine, cosine], 1)


def embed(model: FaceModel, faces: FaceSet, **how: object) -> xr.DataArray:
    """Return the model's output for every face as its embedding.

    Parameters
    ----------
    how : `batch_size`, `workers`, `autocast`, `max_skipped`, `progress`, see `stream`.

    Returns
    -------
    float32 (image, feature), with the coordinate `row` (image), the position in `faces.table`; attrs["skipped"] lists
    the images that cannot be decoded.

    Raises
    ------
    FacexkitError where the model gives one number a face, whose cosine says nothing.
    """
    skipped = stream(model, faces, [outputs := Outputs()], **how)
    rows, values = outputs.result()
    if values.shape[1] < 2:
        raise FacexkitError(f"model {model.name!r} gives one number a face, no embedding; choose one with output=")
    coords = {"image": faces.table.path.to_numpy(object)[rows], "row": ("image", rows)}
    return xr.DataArray(values.astype(np.float32), coords, ("image", "feature"), attrs={"skipped": skipped})


def verify(
    model: FaceModel,
    pairs: FaceSet,
    layer: str | None = None,
    target: str | Sequence[str] = "similarity",
    method: str = "facex",
    **options: object,
) -> xr.Dataset:
    """Score how much each region of the probes drives their similarity to the references, or the difference.

    With c = cosine of the two embeddings: "similarity" explains y = c (class 1), "difference" y = 1 − c (class 0). Every
    distinct reference is embedded once.

    Parameters
    ----------
    model : gives an embedding.
    pairs : of the format `pairs`, with masks of the probes.
    target : "similarity", "difference", or a list of both.
    method, options : see `score_regions`. With "share" a region of the probe is exchanged with another pair's probe,
        and the reference stays.

    Returns
    -------
    what `score_regions` gives, an image for every pair's probe, with further coordinates of the images: `reference`,
    `similarity`, `same`, and the protected columns. Pairs whose reference cannot be decoded are in attrs["skipped"].
    """
    targets = [target] if isinstance(target, str) else list(target)
    for name in targets:
        if name not in TARGETS:
            raise unknown("target of a verification", name, TARGETS)
    classes = [TARGETS[name] for name in targets]
    how = {name: options[name] for name in ("batch_size", "workers", "max_skipped", "progress") if name in options}
    bound, kept, skipped = _bind(model, pairs, **how)
    found = score_regions(bound, kept, layer, classes[0] if isinstance(target, str) else classes, method, **options)
    output = found.output if isinstance(target, str) else found.output[0]
    columns = [name for name in dict.fromkeys(("reference", "same", *pairs.protected)) if name in kept.table]
    coords = {name: ("image", kept.table[name].to_numpy()[found.row]) for name in columns}
    coords["similarity"] = ("image", output.values if classes[0] else 1 - output.values)
    found = found.assign_coords(coords)
    return found.assign_attrs(
        skipped=[*skipped, *found.attrs["skipped"]], references_fingerprint=references(pairs).fingerprint()
    )


def similarities(model: FaceModel, pairs: FaceSet, **how: object) -> pd.DataFrame:
    """Return the table of the pairs with `similarity`, the cosine of the two embeddings; masks are not needed.

    Parameters
    ----------
    how : see `embed`.
    """
    bound, kept, _ = _bind(model, pairs, **how)
    stream(bound, kept, [outputs := Outputs()], **how)
    rows, values = outputs.result()
    return kept.table.iloc[rows].assign(similarity=values[:, 1]).reset_index(drop=True)


def _bind(model: FaceModel, pairs: FaceSet, **how: object) -> tuple[PairModel, FaceSet, list[str]]:
    """Embed the references; return the model bound to them, the pairs that have one, and what was skipped."""
    embedded = embed(model, references(pairs), **how)
    place = pd.Index(embedded.image.values).get_indexer(pairs.table.reference)
    kept = pairs[place >= 0]
    return PairModel(model, torch.from_numpy(embedded.values[place[place >= 0]])), kept, embedded.attrs["skipped"]


def split_scores(scores: xr.Dataset, by: str) -> dict[object, xr.Dataset]:
    """Return a one-class result once for each value of a coordinate of its images, such as `same` or a group.

    Returns
    -------
    by value: score, score_low, score_high, images (region) and per_image, output of that value's images alone.
    """
    if by not in scores.coords or scores[by].dims != ("image",):
        raise unknown("column of the images", by, [n for n, c in scores.coords.items() if c.dims == ("image",)])
    parts = {}
    for value in pd.unique(scores[by].to_series().dropna()):
        part = scores[["per_image", "output"]].isel(image=np.flatnonzero(scores[by].values == value))
        share = part.per_image.values
        has = np.isfinite(share)
        low, high = ratio_interval(np.where(has, share, 0.0), has.astype(float), scores.attrs["seed"])
        numbers = {"score": part.per_image.mean("image").values, "score_low": low, "score_high": high, "images": has.sum(0)}
        part = part.assign({name: ("region", values) for name, values in numbers.items()})
        parts[value] = part.assign_attrs(scores.attrs, class_name=f"{scores.attrs['class_name']}, {by} {value}")
    return parts


def group_scores(scores: xr.Dataset, by: Sequence[str]) -> pd.DataFrame:
    """Return region scores by group: a row a column, value and region, with score, its 95 % interval and images."""
    columns = ["score", "score_low", "score_high", "images"]
    tables = {(c, v): s[columns].to_dataframe()[columns] for c in by for v, s in split_scores(scores, c).items()}
    return pd.concat(tables, names=["column", "value"])


def error_rates(
    similarity: Sequence[float],
    same: Sequence[int],
    groups: pd.DataFrame | None = None,
    threshold: float | None = None,
    seed: int = 0,
) -> pd.DataFrame:
    """Return how often pairs are matched wrongly, overall and in every group.

    A pair is accepted if similarity ≥ t. FMR (false matches) = accepted different pairs / different pairs; FNMR (false
    non-matches) = rejected same pairs / same pairs.

    Parameters
    ----------
    similarity, same : (N,), of the pairs; `same` is 1 or 0.
    groups : N rows, a column an attribute.
    threshold : t; None for that of the equal error rate: the similarity at which |FMR − FNMR| over all pairs is least.

    Returns
    -------
    table indexed by `column` and `value` ("all" first): different, same (numbers of pairs), fmr, fmr_low, fmr_high,
    fnmr, fnmr_low, fnmr_high (95 % bootstrap over the pairs at the given t); NaN where there is no such pair.
    attrs["threshold"].
    """
    similarity, same = np.asarray(similarity, float), np.asarray(same)
    if len(similarity) != len(same) or (groups is not None and len(groups) != len(same)):
        raise FacexkitError("similarity, same and groups must have one value a pair")
    if set(np.unique(same)) != {0, 1} or not np.isfinite(similarity).all():
        raise FacexkitError("error rates need finite similarities, and pairs of the same person (1) and of two (0)")
    t = equal_error_threshold(similarity, same) if threshold is None else float(threshold)
    members = {("all", "all"): np.ones(len(same), bool)}
    for column in [] if groups is None else groups:
        values = groups[column].to_numpy()
        members |= {(column, value): values == value for value in sorted(groups[column].dropna().unique())}
    inside = np.stack([*members.values()], 1)
    rates: dict[str, np.ndarray] = {}
    for name, kind, wrong in (("fmr", same == 0, similarity >= t), ("fnmr", same == 1, similarity < t)):
        counted = (inside & kind[:, None]).astype(float)
        failed = counted * wrong[:, None]
        with np.errstate(invalid="ignore"):
            rates[name] = failed.sum(0) / counted.sum(0)
        rates[f"{name}_low"], rates[f"{name}_high"] = ratio_interval(failed, counted, seed)
    counts = {name: (inside & (same == k)[:, None]).sum(0) for k, name in enumerate(("different", "same"))}
    table = pd.DataFrame(counts | rates, pd.MultiIndex.from_tuples(members, names=["column", "value"]))
    table.attrs["threshold"] = t
    return table


def equal_error_threshold(similarity: np.ndarray, same: np.ndarray) -> float:
    """Return the similarity at which, taken as the threshold, FMR and FNMR differ least; the lowest of several."""
    candidates = np.unique(similarity)
    fmr = 1 - np.searchsorted(np.sort(similarity[same == 0]), candidates) / (same == 0).sum()
    fnmr = np.searchsorted(np.sort(similarity[same == 1]), candidates) / (same == 1).sum()
    return float(candidates[np.abs(fmr - fnmr).argmin()])
