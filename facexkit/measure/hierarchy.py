"""The concepts of a unit in the face area of its best one (Face Dissect, stage 2)."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.faces.regions import FACE_DICTIONARY, PARTS, REGION_AREAS, REGIONS, UNIONS
from facexkit.measure.iou_tally import detectors

AREAS = {
    area: tuple(dict.fromkeys((*FACE_DICTIONARY.get(area, ()), *REGION_AREAS.get(area, ()))))
    for area in (*FACE_DICTIONARY, *REGION_AREAS)
}
"""The concepts of the Face Dictionary and the regions, by face area."""

OTHER = "other"
KEPT = ("best_concept", "best_iou", "interpretable", "supported", "iou", "position_iou", "q_value", "images")


def rank_concepts(
    found: xr.Dataset, areas: Mapping[str, Sequence[str]] | None = None, types: Mapping[str, str] | None = None
) -> xr.Dataset:
    """Rank the concepts of each unit's face area by how strongly the unit answers to them (Face Dissect, stage 2).

    G = the concepts in the area of the unit's best concept. Over the images with any concept of G, with r·s of
    `ranked_strength`: score(c) = mean of r·s over the images labelled c, times IoU(c); probability = score / Σ scores.
    The unit's concepts are those above 1.5/|G|, and that of an area with one concept.

    Parameters
    ----------
    found : what `dissect` gave.
    areas : area → concepts; the Face Dictionary's and `REGION_AREAS` by default. Only concepts that were dissected and
        that an image has count, in |G| too; those in no area make up the area "other".
    types : concept → type; see `concept_types`.

    Returns
    -------
    Dataset: probability (unit, concept), 0 outside the unit's area; is_concept (unit, concept); area (unit), "" for a
    unit that is dead or meets no concept; and of `found` best_concept, best_iou, interpretable, supported, iou,
    position_iou, q_value, images. Coordinates along concept: concept_area, concept_type.
    """
    concepts = found.concept.to_numpy().astype(str)
    area_of = {concept: area for area, members in (areas or AREAS).items() for concept in members}
    concept_area = np.array([area_of.get(concept, OTHER) for concept in concepts], object)
    has, iou = found.has_concept.to_numpy(), found.iou.to_numpy()
    maximum, minimum = found.maximum.to_numpy(), found.minimum.to_numpy()
    alive = (iou.max(1) > 0) & (maximum.max(0) > minimum)
    area = np.where(alive, concept_area[iou.argmax(1)], "").astype(object)

    probability, is_concept = np.zeros(iou.shape), np.zeros(iou.shape, bool)
    for name in dict.fromkeys(area[alive]):
        units = np.flatnonzero(area == name)
        group = np.flatnonzero((concept_area == name) & has.any(0))
        images = has[:, group].any(1)
        labelled = has[images][:, group].astype(float)
        strength = ranked_strength(maximum[:, units], minimum[units], images)
        score = (strength.T @ labelled) / labelled.sum(0) * iou[np.ix_(units, group)]
        share = score / score.sum(1, keepdims=True)
        probability[np.ix_(units, group)] = share
        is_concept[np.ix_(units, group)] = (share > 1.5 / len(group)) | (len(group) == 1)
    pair = ("unit", "concept")
    return found[list(KEPT)].assign(
        probability=(pair, probability), is_concept=(pair, is_concept), area=("unit", area)
    ).assign_coords(
        concept_area=("concept", concept_area), concept_type=("concept", concept_types(concepts, types))
    )  # fmt: skip


def ranked_strength(maximum: np.ndarray, minimum: np.ndarray, images: np.ndarray) -> np.ndarray:
    """Return r·s, how strongly each unit answers to each image and how high that stands among the images.

    s[n] = (max of A[n,u] − min) / (max − min), min and max over all images and places of the unit; r[n] = place of s[n]
    among the chosen images in ascending order, from 1, over their number. Equal values share the mean of their places.

    Parameters
    ----------
    maximum : (N, U), each image's largest activation.
    minimum : (U,), the smallest of all images and places.
    images : bool (N,), the n chosen.

    Returns
    -------
    float64 (n, U); 0 for a dead unit, whose maximum is its minimum.
    """
    maximum, minimum = maximum.astype(float), minimum.astype(float)
    span = maximum.max(0) - minimum
    s = (maximum[images] - minimum) / np.where(span > 0, span, 1)
    return pd.DataFrame(s).rank().to_numpy() / len(s) * s


def concept_types(concepts: Sequence[str], types: Mapping[str, str] | None = None) -> np.ndarray:
    """Return each concept's type: "action unit", "part", "attribute", or "region" (of CelebAMask-HQ).

    Nose and mouth are regions, but parts beside other concepts of the Face Dictionary.
    """
    dictionary = {concept for members in FACE_DICTIONARY.values() for concept in members} | {*PARTS.values()}
    beside = dictionary.difference(REGIONS) & set(concepts) and not set(PARTS.values()) & set(concepts)
    regions = {*REGIONS, *UNIONS} - (dictionary if beside else set())
    known = {c: "action unit" if c.startswith("AU_") else "part" if c.islower() else "attribute" for c in dictionary}
    known |= dict.fromkeys(regions, "region") | dict(types or {})
    return np.array([known.get(concept, OTHER) for concept in concepts], object)


def count_units(ranked: Mapping[str, xr.Dataset], by: str = "concept") -> pd.DataFrame:
    """Count the detectors of models or layers side by side, interpretable units whose label is supported, by their concept.

    Parameters
    ----------
    ranked : what `rank_concepts` gave, by the name of the column.
    by : "concept", "area" or "type".

    Returns
    -------
    table, one row a concept, area or type that occurs in any, one column each of `ranked`.
    """
    columns = {}
    for name, result in ranked.items():
        kind = result.concept if by == "concept" else result[f"concept_{by}"]
        of_best = dict(zip(result.concept.to_numpy(), kind.to_numpy(), strict=True))
        best = [of_best[c] for c in result.best_concept.to_numpy()[detectors(result)]]
        counts = pd.Series(best, dtype=object).value_counts()
        columns[name] = counts.reindex(dict.fromkeys(kind.to_numpy()), fill_value=0)
    table = pd.DataFrame(columns).fillna(0).astype(int)
    return table[table.any(axis=1)].sort_values(list(columns), ascending=False, kind="stable").rename_axis(by)
