"""Face verification: which regions of a probe make it like its reference, and how often pairs are matched wrongly."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, fields
from importlib.metadata import version
from itertools import product

import numpy as np
import pandas as pd
import torch
import torch.nn.functional as F
import xarray as xr
from torch import Tensor

from facexkit.arguments import renamed
from facexkit.errors import FacexkitError, check_known, unknown
from facexkit.faces.faceset import FaceSet
from facexkit.faces.pairs import references
from facexkit.measure.bootstrap import ENDS, REPLICATES, mean_scores, wilson_interval
from facexkit.measure.gaps import GAPS, gap_interval, gap_sizes, q_values
from facexkit.measure.per_image import Outputs
from facexkit.measure.records import provenance
from facexkit.measure.region_scores import score_regions
from facexkit.models.face_model import FaceModel
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.tail import place_of

TARGETS = {"difference": 0, "similarity": 1}
"""What is explained of a pair → the column of a `Comparison`."""


@dataclass
class Comparison:
    """The question whether a probe is like its row's reference: (1 − c, c), c = the cosine of the two embeddings.

    Attributes
    ----------
    references : float32 (rows of the face set, D).
    """

    references: np.ndarray

    def __call__(self, outputs: Tensor, rows: np.ndarray) -> Tensor:
        cosine = F.cosine_similarity(outputs.float(), torch.from_numpy(self.references[rows]).to(outputs.device))
        return torch.stack([1 - cosine, cosine], 1)

    def fingerprint(self) -> str:
        """Return a text that changes with any reference."""
        return hashlib.sha256(self.references.tobytes()).hexdigest()


def embed(model: FaceModel, faces: FaceSet, **how: object) -> xr.DataArray:
    """Return the model's output for every face, float32 (image, feature); options as of `PassOptions`.

    attrs["skipped"] lists the images that cannot be decoded. A model that gives one number a face is a FacexkitError.
    """
    skipped = run(model, faces, [outputs := Outputs()], PassOptions(**how))
    rows, values = outputs.result()
    if values.shape[1] < 2 or model.meaning.kind == "binary":
        raise FacexkitError(f"model {model.name!r} gives one number a face, no embedding; choose one with output=")
    image = {"image": faces.table.path.to_numpy(object)[rows]}
    return xr.DataArray(values.astype(np.float32), image, ("image", "feature"), attrs={"skipped": skipped})


def explain_verification(
    model: FaceModel, pairs: FaceSet, layer: str | None = None, target: str | Sequence[str] = "similarity",
    method: str = "facex", **options: object,
) -> xr.Dataset:  # fmt: skip
    """Score how much each region of the probes drives their similarity to the references, or the difference.

    With c = cosine of the two embeddings: "similarity" explains y = c (class 1), "difference" y = 1 − c (class 0).

    Parameters
    ----------
    model : gives an embedding. Every distinct reference is embedded once.
    pairs : of the format `pairs`, with masks of the probes.
    target : "similarity", "difference", or a list of both.
    method, options : see `score_regions`. With "share" regions are exchanged between probes, and the reference stays.

    Returns
    -------
    what `score_regions` gives, an image for every pair's probe, with further coordinates of the images: `reference`,
    `similarity`, `same`, and the protected columns. A reference that cannot be decoded is in attrs["skipped"].
    """
    targets = [target] if isinstance(target, str) else list(target)
    check_known("target of a verification", targets, TARGETS)
    classes = [TARGETS[name] for name in targets]
    how = {field.name: options[field.name] for field in fields(PassOptions) if field.name in options}
    bound, kept, skipped = _bind(model, pairs, **how)
    found = score_regions(bound, kept, layer, classes, method, **options)
    output = found.output[0].values
    shown = kept.table.iloc[found.row.values].assign(similarity=output if classes[0] else 1 - output)
    columns = dict.fromkeys(("reference", "similarity", "same", *pairs.protected))
    found = found.assign_coords({name: ("image", shown[name].to_numpy()) for name in columns if name in shown})
    attrs = {"references_fingerprint": references(pairs).fingerprint(), "skipped": skipped + found.attrs["skipped"]}
    return found.assign_attrs(attrs)


def similarities(model: FaceModel, pairs: FaceSet, **how: object) -> pd.DataFrame:
    """Return the pairs' table with `similarity`, the cosine of the two embeddings; needs no masks. See `embed`.

    attrs["made_by"]: model and face set with their fingerprints, version, skipped.
    """
    bound, kept, skipped = _bind(model, pairs, **how)
    skipped = skipped + run(bound, kept, [outputs := Outputs()], PassOptions(**how))
    rows, values = outputs.result()
    table = kept.table.iloc[rows].assign(similarity=values[:, 1]).reset_index(drop=True)
    made_by = provenance(model, pairs, references_fingerprint=references(pairs).fingerprint(), skipped=skipped)
    table.attrs["made_by"] = made_by
    return table


def _bind(model: FaceModel, pairs: FaceSet, **how: object) -> tuple[FaceModel, FaceSet, list[str]]:
    """Embed the references; return the model bound to them, the pairs that have one, and what was skipped."""
    embedded = embed(model, references(pairs), **how)
    place = pd.Index(embedded.image.values).get_indexer(pairs.table.reference)
    bound = model.asked(Comparison(embedded.values[place[place >= 0]]), ("different", "same"))
    return bound, pairs[place >= 0], embedded.attrs["skipped"]


@renamed(by="protected")
def split_scores(scores: xr.Dataset, protected: str) -> dict[object, xr.Dataset]:
    """Return a result of "facex" for each value of a coordinate of its images, such as `same` or a group."""
    if protected not in scores.coords or scores[protected].dims != ("image",):
        raise unknown("column of the images", protected, [n for n, c in scores.coords.items() if c.dims == ("image",)])
    if scores.attrs["method"] == "share":
        raise FacexkitError("decision shares of groups are no means over images; call fx.explain_verification on each group's pairs")
    parts = {}
    for value in pd.unique(scores[protected].to_series().dropna()):
        part = scores[["per_image", "output"]].isel(image=np.flatnonzero(scores[protected].values == value))
        by_face = part.per_image.transpose("image", *(dims := ("target_class", "region"))).to_numpy()
        part = part.assign(mean_scores(by_face, dims, scores.attrs["seed"]))
        names = ("target_class", [f"{name}, {protected} {value}" for name in part.class_name.values])
        parts[value] = part.assign_coords(class_name=names).assign_attrs(scores.attrs)
    return parts


@renamed(by="protected")
def group_scores(scores: xr.Dataset, protected: Sequence[str]) -> pd.DataFrame:
    """Return region scores by group: a row a column, value, class and region, with score, its 95 % interval and images."""
    parts = {(column, value): part for column in protected for value, part in split_scores(scores, column).items()}
    columns = ["score", "score_low", "score_high", "images"]
    return pd.concat({k: s[columns].to_dataframe()[columns] for k, s in parts.items()}, names=["column", "value"])


@renamed(groups="protected")
def error_rates(
    similarity: Sequence[float], same: Sequence[int], protected: pd.DataFrame | pd.Series | None = None,
    threshold: float | None = None, false_match_rate: float | None = None, seed: int = 0,
) -> pd.DataFrame:  # fmt: skip
    """Return how often pairs are matched wrongly, overall and in every group.

    A pair is accepted if similarity ≥ t. FMR (false matches) = accepted different pairs / different pairs; FNMR (false
    non-matches) = rejected same pairs / same pairs.

    Parameters
    ----------
    similarity, same : (N,), of the pairs; `same` is 1 or 0. protected : N rows, a column an attribute.
    threshold : t; None for that of `false_match_rate`, or else of the equal error rate: the similarity at which
        |FMR − FNMR| over all pairs is least.
    false_match_rate : t is the least that accepts no larger share of all different pairs.

    Returns
    -------
    table indexed by `column` and `value` ("all" first): numbers of pairs different, same; fmr, fmr_low, fmr_high, fnmr,
    fnmr_low, fnmr_high (95 % by Wilson 1927, t fixed); NaN where there are fewer than two such pairs. attrs: threshold,
    false_match_rate, version, and what made the similarities where these, or `protected`, are of `similarities`.
    """
    attrs = {**getattr(similarity, "attrs", {}), **getattr(protected, "attrs", {})}
    similarity, same = np.asarray(similarity, float), np.asarray(same)
    groups = pd.DataFrame(protected, index=range(len(same)) if protected is None else None)
    fits = len(similarity) == len(same) == len(groups) and np.isfinite(similarity).all()
    if not fits or set(np.unique(same)) != {0, 1}:
        raise FacexkitError("error rates need per pair a finite similarity, 1 or 0, groups; and both kinds of pairs")
    if false_match_rate is not None and (threshold is not None or not 0 <= false_match_rate <= 1):
        raise FacexkitError(f"false_match_rate {false_match_rate} must lie in 0–1, and threshold must be None beside it")
    if false_match_rate is not None:
        others = np.sort(similarity[same == 0])[::-1]
        allowed = place_of(false_match_rate, len(others))
        threshold = float(np.nextafter(others[allowed], np.inf) if allowed < len(others) else others[-1])
    elif threshold is None:
        candidates = np.unique(similarity)
        fmr = 1 - np.searchsorted(np.sort(similarity[same == 0]), candidates) / (same == 0).sum()
        fnmr = np.searchsorted(np.sort(similarity[same == 1]), candidates) / (same == 1).sum()
        threshold = float(candidates[np.abs(fmr - fnmr).argmin()])
    accepted = similarity >= threshold
    kinds = {"different": same == 0, "same": same == 1, "fmr": (same == 0) & accepted, "fnmr": (same == 1) & ~accepted}
    every, columns = pd.DataFrame(kinds), {"all": np.full(len(same), "all")} | {c: groups[c].to_numpy() for c in groups}
    parts = {column: every.groupby(own, observed=True).sum() for column, own in columns.items()}
    sums = pd.concat(parts, names=["column", "value"])
    table = sums[["different", "same"]].copy()
    for name, kind in (("fmr", "different"), ("fnmr", "same")):
        failed, pairs = sums[name].to_numpy(), sums[kind].to_numpy()
        table[name] = failed / np.where(pairs > 0, pairs, np.nan)
        table[f"{name}_low"], table[f"{name}_high"] = wilson_interval(failed, pairs)
    table.attrs |= attrs | {
        "threshold": threshold, "false_match_rate": false_match_rate, "seed": seed, "version": version("facexkit")
    }
    return table


def error_rate_gaps(rates: pd.DataFrame, min_pairs: int = 30, replicates: int = REPLICATES) -> pd.DataFrame:
    """Return how far the error rates of the groups of each column lie apart, with 95 % intervals and q values.

    The measures of `audit`: difference, ratio, deviation, over_geomean (ISO/IEC 19795-10). q_value: how often as many
    errors, handed out among all pairs at random, lie as far apart, after Benjamini & Hochberg (1995) over all rows.

    Parameters
    ----------
    rates : what `error_rates` gave.
    min_pairs : groups with fewer pairs of the kind are no part of a gap; `too_small` lists them.
    """
    parts, p, seed = {}, [], rates.attrs["seed"]
    columns = rates.drop(index="all", level="column").groupby(level="column", sort=False)
    for (column, rows), (rate, kind) in product(columns, (("fmr", "different"), ("fnmr", "same"))):
        own = rows[rows[kind] >= min_pairs]
        small = (f"{value} ({n:.0f})" for (_, value), n in rows[kind].items() if n < min_pairs)
        parts[column, rate] = {"too_small": ", ".join(small)}
        if len(own) < 2:
            p.append(np.nan)
            continue
        values, pairs, rng = own[rate].to_numpy(), own[kind].to_numpy(int), np.random.default_rng(seed)
        least = ((own[f"{rate}_high"] - own[f"{rate}_low"]) / (2 * 1.96)).to_numpy()
        drawn, size = rng.binomial(pairs, values, (replicates, len(own))) / pairs, gap_sizes(values)
        ends = size, *gap_interval(values, drawn, least, seed)
        errors = rng.multivariate_hypergeometric(pairs, round((values * pairs).sum()), 9 * replicates)
        chance = gap_sizes(errors / pairs)[:, 0]
        p.append((1 + (chance >= size[0] - 1e-9).sum()) / (1 + 9 * replicates))
        for end, each in zip(ENDS, ends, strict=True):
            parts[column, rate] |= {f"{gap}{end}": number for gap, number in zip(GAPS, each, strict=True)}
        parts[column, rate]["by_chance"] = chance.mean()
    table = pd.DataFrame.from_dict(parts, orient="index")
    if len(table):
        table = table.assign(q_value=q_values(np.array(p))[0]).rename_axis(["column", "rate"])
    table.attrs |= rates.attrs
    return table
