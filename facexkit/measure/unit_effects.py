"""What switching units off does to accuracy, and to the gap between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.arguments import renamed
from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.measure.bootstrap import REPLICATES, percentile_interval, with_interval
from facexkit.measure.groups import group_labels
from facexkit.measure.predictions import answering_of
from facexkit.measure.records import provenance
from facexkit.models.face_model import FaceModel
from facexkit.models.outputs import Meaning
from facexkit.probe.accumulator import Accumulator, Change, Edited, ProbedBatch
from facexkit.probe.edits import ablation, run_changes
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Sum


class UnitEffects(Accumulator):
    """How many images are right, by group, with the model as it is and with each set of units switched off.

    Parameters
    ----------
    layer, changes : what is switched off, set by set, see `ablation`.
    truth, group : int64 (rows of the face set,), each image's class and group; −1 where there is none, which does not count.
    meaning : of the model's outputs.
    """

    def __init__(
        self, layer: str, changes: Sequence[Change], truth: np.ndarray, group: np.ndarray, meaning: Meaning = Meaning()
    ) -> None:
        self.layer, self.edits = layer, (Edited(layer, tuple(changes)),)
        self.truth, self.group, self.meaning = truth, group, meaning
        self.images, self.changed, self.right = Sum(), Sum(), Sum()

    def update(self, batch: ProbedBatch) -> None:
        before, after = (self.meaning.decided(one).cpu().numpy() for one in (batch.outputs, batch.edited[self.layer]))
        truth, group = self.truth[batch.rows], self.group[batch.rows]
        known = (truth >= 0) & (group >= 0)
        place = group * 4 + (before == truth) * 2 + (after == truth)  # (sets, images)
        groups = self.group.max(initial=-1) + 1
        self.right.take(np.stack([np.bincount(own[known], minlength=4 * groups) for own in place]))
        self.changed.take((before != after).sum(1))
        self.images.take(np.array(len(batch.rows)))

    def result(self) -> np.ndarray:
        """Return int64 (sets, groups, 2, 2): images by whether they were right before, and whether they are right after."""
        return self.right.value.reshape(len(self.right.value), -1, 2, 2)


@renamed(by="protected")
def unit_effects(
    model: FaceModel, faces: FaceSet, layer: str, protected: str,
    units: Sequence[int] | Mapping[str, Sequence[int]] | None = None, value: float | str = 0, seed: int = 0, **how: object,
) -> xr.Dataset:  # fmt: skip
    """Switch units of a layer off, and see what it does to accuracy and to the gap between groups.

    What lies below the layer runs once an image, what lies above it once more for each unit; see `run_changes`.

    Parameters
    ----------
    protected : label column whose groups are compared; gap = the best group's accuracy − the worst's.
    units : which, one at a time; or {name: units} for sets switched off together; None for every unit of the layer.
    value : what the units' maps hold instead: a number, or "mean" for each map's own mean.
    seed : of the bootstrap over images.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    Dataset along unit (number or name), the one that shrinks the gap most first: accuracy, accuracy_change, gap,
    gap_change, each change with _low and _high (95 % bootstrap interval), group_accuracy (unit, group); of the unchanged
    model accuracy_before, gap_before and group_accuracy_before (group); images (group). attrs["left_out"]: how many
    images lack a true class or a group.

    Raises
    ------
    FacexkitError for unknown layers, units or columns, and where the target's values are no classes of the model.
    """
    every = range(int(model.layers.units.get(layer, 0))) if units is None else units
    sets = dict(every) if isinstance(every, Mapping) else {unit: [unit] for unit in every}
    (model, truth), labels = answering_of(model, faces), group_labels(faces.table, protected)
    if not sets:
        model.layer(layer)
        raise FacexkitError("unit_effects needs units: numbers, {name: numbers}, or None for all of the layer")
    groups = np.unique(labels[(truth >= 0) & (labels != "")].astype(str))
    if len(groups) < 2:
        raise FacexkitError(f"column {protected!r} has one group on the images with a label; a gap needs two")
    changes = [ablation(model, layer, units, value) for units in sets.values()]
    effects = UnitEffects(layer, changes, truth, pd.Index(groups).get_indexer(labels), model.meaning)
    skipped = run(model, faces, [effects], PassOptions(**how))
    found = _effects(effects.result(), seed).assign_coords(unit=list(sets), group=groups.astype(object))
    found = found.isel(unit=np.argsort(found.gap_change.to_numpy(), kind="stable"))
    made_by = provenance(model, faces, layer=layer, by=protected, value=value, seed=seed, skipped=skipped)
    made_by["left_out"] = int(effects.images.value - effects.result()[0].sum())
    return found.assign_attrs(made_by, sets={str(name): [int(unit) for unit in own] for name, own in sets.items()})


def class_changes(model: FaceModel, faces: FaceSet, layer: str, units: Sequence[int], **how: object) -> tuple[int, int]:
    """Return how many images get another class with the units of a layer switched off, and how many there are."""
    unknown = np.full(len(faces), -1)
    effects = UnitEffects(layer, [ablation(model, layer, units)], unknown, unknown, model.meaning)
    run(model, faces, [effects], PassOptions(**how))
    return int(effects.changed.value[0]), int(effects.images.value)


def chances_without(
    model: FaceModel, faces: FaceSet, layer: str, units: Sequence[int], target: int
) -> dict[str, tuple[float, float]]:
    """Return of a few images, by path, the target's probability as it is and with the units of a layer off."""
    batch = next(faces.batches(model.preprocess, len(faces)))
    before, (after,) = run_changes(model, layer, model.prepare(batch.images), [ablation(model, layer, units)])
    both = (model.meaning.probabilities(outputs.double())[:, target].tolist() for outputs in (before, after))
    return dict(zip(faces.table.path.iloc[batch.rows], zip(*both, strict=True), strict=True))


def _effects(counts: np.ndarray, seed: int) -> xr.Dataset:
    """Compare right answers before and after; `counts` as of `UnitEffects.result`.

    The bootstrap over images draws how many fall into each group and each of the four cases: a multinomial.
    """
    sets, groups = counts.shape[:2]
    images, ends = counts[0].sum((1, 2)), np.empty((2, 2, sets))
    for k, own in enumerate(counts):
        drawn = np.random.default_rng([seed, k]).multinomial(images.sum(), own.ravel() / images.sum(), REPLICATES)
        before, after = _rates(drawn.reshape(-1, groups, 2, 2))[0]
        ends[..., k] = percentile_interval((after - before).T)
    (before, after), by_group = _rates(counts)
    values: dict[str, object] = {
        "group_accuracy": (("unit", "group"), by_group[1]),
        "group_accuracy_before": ("group", by_group[0, 0]),
        "images": ("group", images),
    }
    for what, name in enumerate(("accuracy", "gap")):
        values |= {name: ("unit", after[what]), f"{name}_before": before[what, 0]}
        values |= with_interval(f"{name}_change", "unit", ((after - before)[what], *ends[:, what]))
    return xr.Dataset(values)


def _rates(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return of counts (n, groups, 2, 2) accuracy and gap, before and after, (2, 2, n), and by group (2, n, groups)."""
    images, right = counts.sum((2, 3)), np.stack([counts[:, :, 1].sum(2), counts[..., 1].sum(2)])
    with np.errstate(invalid="ignore"):
        by_group = right / images
    return np.stack([right.sum(2) / images.sum(1), np.nanmax(by_group, 2) - np.nanmin(by_group, 2)], 1), by_group
