"""Which units lean to a demographic group, and whether that can be chance (Face Dissect, stage 3)."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.measure.gaps import q_values
from facexkit.measure.groups import group_labels
from facexkit.measure.hierarchy import ranked_strength
from facexkit.measure.recording import UnitSummary
from facexkit.measure.records import provenance
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.progress import Progress, progress_bar
from facexkit.probe.run import run
from facexkit.probe.state import Least

CHUNK_BYTES = 64 << 20


class UnitRange(UnitSummary):
    """Each unit's maximum on every image, and its minimum over all images and places."""

    def __init__(self, layer: str, table: pd.DataFrame) -> None:
        super().__init__(layer, table)
        self.minimum = Least()

    def update(self, batch: ProbedBatch) -> None:
        super().update(batch)
        self.minimum.take(batch.activations[self.layer].amin((0, 2, 3)).cpu().numpy())

    def result(self) -> xr.Dataset:
        """Return maximum (image, unit), minimum (unit)."""
        return super().result()[["maximum"]].assign(minimum=("unit", self.minimum.value))


def global_bias(
    model: FaceModel, faces: FaceSet, layer: str, attributes: Sequence[str] = (), permutations: int | None = None, *,
    alpha: float = 0.05, found: xr.Dataset | None = None, seed: int = 0, **how: object,
) -> xr.Dataset:  # fmt: skip
    """Find the units of a layer that lean to a group of an image-level attribute (Face Dissect, stage 3).

    With r·s of `ranked_strength` over the images labelled with the attribute: strength(g) = mean of r·s over group g,
    probability(g) = strength(g) / Σ strengths. A unit that answers to all groups alike has 1 / groups everywhere.

    effect = η² = Σ n(g)·(strength(g) − mean)² / Σ (r·s − mean)², the share of the variance of r·s that lies between the
    groups: .01 is small, .06 medium, .14 large (Cohen 1988), for any number and size of groups. p_value = (1 + how
    many of `permutations` shufflings of the labels have an η² as high) / (1 + permutations) (Phipson & Smyth 2010);
    q_value = p after Benjamini & Hochberg (1995) over the units of the attribute.

    Parameters
    ----------
    attributes : label columns with two or more groups; the face set's protected columns by default. Images without a
        label are left out of their attribute.
    permutations : no p lies below 1 / (permutations + 1). None takes 1000, or units / alpha where that is more, so that
        one unit alone can come out as leaning.
    alpha : units with q below it lean.
    found : what `dissect` gave for the same model, faces and layer; saves the pass.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    Dataset with a leading dimension attribute: probability, strength (unit, group), NaN at groups of other attributes;
    p_value, q_value, effect (unit); leans_to (unit), the group with the highest probability, "" where q ≥ alpha;
    images (group). A dead unit has equal probabilities, p 1 and effect 0.

    Raises
    ------
    FacexkitError for an unknown column, or one that makes no groups.
    """
    if (permutations is not None and permutations < 1) or not 0 < alpha < 1:
        raise FacexkitError(f"permutations {permutations} must be at least 1, and alpha {alpha} between 0 and 1")
    how = PassOptions(**how)
    asked = [attributes] if isinstance(attributes, str) else attributes or faces.protected
    if not asked:
        raise FacexkitError("global_bias needs attributes=['gender'], or a face set that was loaded with protected=")
    every_label = {name: group_labels(faces.table, name) for name in asked}
    if found is None:
        skipped = run(model, faces, [ranges := UnitRange(layer, faces.table)], how)
        found = ranges.result().assign_attrs(skipped=skipped)
    _check_found(found, model, layer, faces)
    rows = pd.Index(faces.table.path).get_indexer(found.image.to_numpy())
    maximum, minimum = found.maximum.to_numpy(), found.minimum.to_numpy()
    permutations = permutations or max(1000, -int(-len(minimum) // alpha))
    parts = []
    for name, labels in every_label.items():
        labels = labels[rows]
        strength = ranked_strength(maximum, minimum, labels != "")
        part = _lean(strength, labels[labels != ""], permutations, seed, name, how.progress)
        best = part.group.to_numpy()[part.probability.argmax("group").to_numpy()]
        parts.append(part.assign(leans_to=("unit", np.where(part.q_value < alpha, best, "").astype(object))))
    about = {"layer": layer, "permutations": permutations, "seed": seed, "alpha": alpha}
    made_by = provenance(model, faces, **about, skipped=list(found.attrs.get("skipped", ())))
    names = pd.Index(every_label, dtype=object, name="attribute")
    joined = xr.concat(parts, names, join="outer", fill_value={"images": 0})
    return joined.assign_coords(unit=found.unit.to_numpy()).assign_attrs(made_by)


def _check_found(found: xr.Dataset, model: FaceModel, layer: str, faces: FaceSet) -> None:
    asked = {"layer": layer, "model_fingerprint": model.fingerprint()}
    wrong = any(found.attrs.get(name, own) != own for name, own in asked.items())
    if wrong or not set(found.image.to_numpy()) <= set(faces.table.path):
        raise FacexkitError(
            f"found= is not of layer {layer!r} of the model {model.name!r} on {faces.name!r}; leave it out, or dissect these"
        )


def _lean(
    strength: np.ndarray, labels: np.ndarray, permutations: int, seed: int, title: str, progress: Progress
) -> xr.Dataset:
    groups, codes = np.unique(labels.astype(str), return_inverse=True)
    sizes = np.bincount(codes)
    mean = np.eye(len(groups))[codes].T @ strength / sizes[:, None]
    total = mean.sum(0)
    centred = strength - strength.mean(0)
    variation = (centred**2).sum(0)
    alive = variation > 1e-12
    effect = between(codes[None], centred, sizes)[0] / np.where(alive, variation, 1)

    rng = np.random.default_rng(seed)
    chunk = max(1, CHUNK_BYTES // (8 * strength.size // strength.shape[1] * len(groups)))
    as_high = np.zeros(strength.shape[1])
    with progress_bar(progress, total=permutations, desc=f"shuffling {title}", unit="shuffling") as bar:
        for start in range(0, permutations, chunk):
            shuffled = rng.permuted(np.tile(codes, (min(chunk, permutations - start), 1)), axis=1)
            as_high += (between(shuffled, centred, sizes) >= effect * variation * (1 - 1e-9)).sum(0)
            bar.update(len(shuffled))
    p = np.where(alive, (1 + as_high) / (1 + permutations), 1.0)
    pair = ("unit", "group")
    return xr.Dataset(
        {
            "probability": (pair, np.where(total > 0, mean / np.where(total > 0, total, 1), 1 / len(groups)).T),
            "strength": (pair, mean.T),
            "p_value": ("unit", p),
            "q_value": ("unit", q_values(p)[0]),
            "effect": ("unit", np.where(alive, effect, 0.0)),
            "images": ("group", sizes),
        },
        {"group": groups.astype(object)},
    )


def between(codes: np.ndarray, centred: np.ndarray, sizes: np.ndarray) -> np.ndarray:
    """Return Σ n(g)·(mean of group g)² for labellings (P, N) of values (N, U) whose mean is 0: (P, U)."""
    belongs = codes[:, None, :] == np.arange(len(sizes))[:, None]
    sums = belongs.reshape(-1, codes.shape[1]).astype(float) @ centred
    return (sums.reshape(len(codes), len(sizes), -1) ** 2 / sizes[:, None]).sum(1)
