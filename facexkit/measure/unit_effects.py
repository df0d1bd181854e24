"""What switching units off does to accuracy, and to the gap between groups."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.measure.bootstrap import percentile_interval, resamples
from facexkit.measure.groups import group_labels
from facexkit.measure.predictions import true_classes
from facexkit.measure.records import provenance
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.edits import ablation, run_changes
from facexkit.probe.stream import stream


class AblatedPredictions(Accumulator):
    """The predicted class of every image, of the model as it is and with each set of units switched off.

    Parameters
    ----------
    sets : the units that are switched off together, set by set.
    value : what their maps hold instead, see `ablate`.
    """

    def __init__(self, model: FaceModel, layer: str, sets: Sequence[Sequence[int]], value: float | str) -> None:
        self.model, self.layer = model, layer
        self.changes = [ablation(model, layer, units, value) for units in sets]
        self.rows: list[np.ndarray] = []
        self.predicted: list[np.ndarray] = []

    def update(self, batch: ProbedBatch) -> None:
        outputs, changed = run_changes(self.model, self.layer, self.model.prepare(batch.images), self.changes)
        self.rows.append(batch.rows)
        self.predicted.append(np.vstack([outputs.argmax(1)[None].cpu(), changed.argmax(2).cpu()]).T)

    def merge(self, other: AblatedPredictions) -> None:
        self.rows += other.rows
        self.predicted += other.predicted

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, ascending, and their predicted classes, int64 (N, 1 + sets), the unchanged model's first."""
        order = np.argsort(rows := np.concatenate(self.rows))
        return rows[order], np.concatenate(self.predicted)[order]


def unit_effects(
    model: FaceModel,
    faces: FaceSet,
    layer: str,
    by: str,
    units: Sequence[int] | Mapping[str, Sequence[int]] | None = None,
    value: float | str = 0,
    seed: int = 0,
    **how: object,
) -> xr.Dataset:
    """Switch units of a layer off, and see what it does to accuracy and to the gap between groups.

    What lies below the layer runs once an image, what lies above it once more for each unit; see `run_changes`.

    Parameters
    ----------
    by : label column whose groups are compared; gap = the best group's accuracy − the worst's.
    units : which, one at a time; or {name: units} for sets switched off together; None for every unit of the layer.
    value : what the units' maps hold instead: a number, or "mean" for each map's own mean.
    seed : of the bootstrap over images.
    how : `batch_size`, `workers`, `max_skipped`, `progress`, see `stream`.

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
    truth, labels = true_classes(faces, model), group_labels(faces.table, by)
    if not sets:
        model.layer(layer)
        raise FacexkitError("unit_effects needs units: numbers, {name: numbers}, or None for all of the layer")
    passed = AblatedPredictions(model, layer, list(sets.values()), value)
    skipped = stream(model, faces, [passed], **how)
    rows, predicted = passed.result()
    known = (truth[rows] >= 0) & (labels[rows] != "")
    groups, codes = np.unique(labels[rows][known].astype(str), return_inverse=True)
    if len(groups) < 2:
        raise FacexkitError(f"column {by!r} has one group on the images with a label; a gap needs two")
    right = (predicted == truth[rows][:, None])[known].astype(float)
    found = _effects(right, np.eye(len(groups))[codes], seed).assign_coords(unit=list(sets), group=groups.astype(object))
    found = found.isel(unit=np.argsort(found.gap_change.to_numpy(), kind="stable"))
    made_by = provenance(model, faces, layer=layer, by=by, value=value, seed=seed, skipped=skipped)
    made_by["left_out"] = int((~known).sum())
    return found.assign_attrs(made_by, sets={str(name): [int(unit) for unit in own] for name, own in sets.items()})


def _effects(right: np.ndarray, belongs: np.ndarray, seed: int) -> xr.Dataset:
    """Compare each column of `right` (N, 1 + sets) with the first; `belongs` (N, groups) is 1 in an image's group."""

    def rates(weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        weighted = belongs * weights[:, None]
        with np.errstate(invalid="ignore"):
            by_group = weighted.T @ right / weighted.sum(0)[:, None]
        return weights @ right / weights.sum(), np.ptp(by_group, axis=0), by_group

    accuracy, gap, by_group = rates(np.ones(len(right)))
    drawn = np.array([rates(weights)[:2] for weights in resamples(len(right), seed)])
    low, high = percentile_interval(drawn[:, :, 1:] - drawn[:, :, :1])
    values: dict[str, object] = {
        "group_accuracy": (("unit", "group"), by_group[:, 1:].T),
        "group_accuracy_before": ("group", by_group[:, 0]),
        "images": ("group", belongs.sum(0).astype(int)),
    }
    for place, (name, value) in enumerate((("accuracy", accuracy), ("gap", gap))):
        values |= {name: ("unit", value[1:]), f"{name}_before": value[0]}
        values |= {f"{name}_change": ("unit", value[1:] - value[0])}
        values |= {f"{name}_change_low": ("unit", low[place]), f"{name}_change_high": ("unit", high[place])}
    return xr.Dataset(values)
