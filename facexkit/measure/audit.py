"""Whom a model treats worse: metrics by group and intersection, the gaps between them, and their intervals."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.errors import FacexkitError, check_known, told
from facexkit.faces.faceset import FaceSet
from facexkit.faces.label_files import read_table
from facexkit.measure.bootstrap import REPLICATES, percentile_interval, resamples
from facexkit.measure.groups import CROSS, as_labels, group_labels
from facexkit.measure.predictions import matched, predictions_of
from facexkit.models.face_model import FaceModel, apart

METRICS = (
    "accuracy", "balanced_accuracy", "selection_rate", "true_positive_rate", "false_positive_rate", "calibration_error",
)  # fmt: skip
GAPS = ("difference", "ratio", "deviation")
CRITERIA = ("demographic_parity_difference", "equalized_odds_difference")
BINS = 10
GIVEN = ("path", "truth", "prediction", "confidence")


def audit(
    models: object,
    faces: FaceSet | None = None,
    target: str | None = None,
    protected: Sequence[str] = (),
    *,
    positive: str | None = None,
    min_images: int = 30,
    seed: int = 0,
    replicates: int = REPLICATES,
    **how: object,
) -> xr.Dataset:
    """Compare how a model treats groups, and several models with each other.

    accuracy; balanced accuracy, the mean of the classes' recalls; of the positive class selection rate, true and false
    positive rate; calibration error Σ n(b)/n·|accuracy(b) − confidence(b)| over ten bins b of the confidence (Guo et al.
    2017). Gaps over the groups of an attribute: difference max − min, ratio max / min, and deviation, their population
    standard deviation (the degree of bias, DoB, of the face-fairness literature). Demographic parity difference = that
    of the selection rate; equalized odds difference = the larger of those of the true and the false positive rate.

    Parameters
    ----------
    models : a FaceModel, or predictions: a table or CSV file with the columns `truth` and `prediction`, group columns
        and, if known, `confidence`, the probability of the prediction. Several, on the same images in the same order,
        in a list or by name; the first is what the others are compared with.
    faces, target : the face set for FaceModels, and the label that they predict; the set's own by default.
    protected : group columns; the set's own, or all others of a predictions table, by default. Of two or more the
        intersections, as in "female × dark", are groups too.
    positive : the class that is "selected"; the second one of two by default, none of more.
    min_images : smaller groups are shown, and do not count in gaps.
    seed, replicates : of the bootstrap over images, the same images for all models.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    Dataset: value (model, group, metric); gap_size (model, attribute, metric, gap); criterion (model, attribute, rule);
    each with _low and _high, a 95 % interval, and with several models _change, _change_low, _change_high: minus the
    first model's. confusion (model, group, truth, prediction), in images; images, ranked, attribute_of, label (group).
    NaN where a group has no image to count, or an attribute fewer than two groups that are ranked; an interval too where
    nothing varies. attrs: what each label was taken for (`labels`: [value, class, faces]); how many images lack a true
    class and are left out (`without_truth`), or a group (`without_group`, by attribute); how many are of the split "train"
    (`training`).

    Raises
    ------
    FacexkitError for unknown columns or classes, confidences outside 0–1, and tables of different images.
    """
    tables, classes = _tables(models, faces, target, how)
    first = next(iter(tables.values()))
    check_known("positive class", [] if positive is None else [positive], classes)
    positive = classes[1] if positive is None and len(classes) == 2 else positive
    own = faces.protected if faces is not None else [name for name in first if name not in GIVEN]
    groups = _Groups.of(first, [protected] if isinstance(protected, str) else list(protected or own), min_images)
    tallies = [_Tally(table, groups, classes, positive) for table in tables.values()]
    drawn = [np.ones(len(first)), *resamples(len(first), seed, replicates)]
    numbers = [[tally.numbers(weights) for tally in tallies] for weights in drawn]
    arrays = {name: np.array([[n[place] for n in row] for row in numbers]) for place, name in enumerate(DIMENSIONS)}
    found = _labelled(arrays).assign(confusion=(CONFUSION, [tally.confusion() for tally in tallies]))
    return found.assign(images=("group", groups.images), ranked=("group", groups.ranked)).assign_coords(
        model=list(tables), group=groups.names, attribute=groups.attributes, metric=list(METRICS), gap=list(GAPS),
        rule=list(CRITERIA), truth=classes, prediction=classes,
        attribute_of=("group", groups.attribute_of), label=("group", groups.labels),
    ).assign_attrs(
        positive=positive or "", min_images=min_images, seed=seed, replicates=replicates,
        faces=faces.name if faces is not None else "predictions",
        without_truth=first.attrs["without_truth"], without_group=groups.unlabelled, labels=first.attrs["labels"],
        training=first.attrs["training"],
    )  # fmt: skip


DIMENSIONS = {"value": ("group", "metric"), "gap_size": ("attribute", "metric", "gap"), "criterion": ("attribute", "rule")}
CONFUSION = ("model", "group", "truth", "prediction")


def _labelled(arrays: dict[str, np.ndarray]) -> xr.Dataset:
    """Name what was computed on all images (first) and on every replicate: (1 + replicates, models, …)."""
    values: dict[str, object] = {}
    for name, array in arrays.items():
        for end, numbers in (("", array), ("_change", array - array[:, :1])):
            if end == "" or array.shape[1] > 1:
                low, high = percentile_interval(numbers[1:])
                for suffix, part in (("", numbers[0]), ("_low", low), ("_high", high)):
                    values[f"{name}{end}{suffix}"] = (("model", *DIMENSIONS[name]), part)
    return xr.Dataset(values)


def _tables(models: object, faces: FaceSet | None, target: str | None, how: Mapping) -> tuple[dict, list[str]]:
    """Return the predictions by model, of the images that have a truth, and the classes in order."""
    if not isinstance(models, Mapping):
        several = models if isinstance(models, (list, tuple)) else [models]
        models = {_name_of(one, place): one for place, one in enumerate(apart(several))}
        if len(models) < len(several):
            raise FacexkitError(f"two models have one name ({', '.join(models)}); name each: audit({{NAME: MODEL, …}}, …)")
    tables, classes = {}, []
    if target is not None and not any(isinstance(one, FaceModel) for one in models.values()):
        raise FacexkitError(f"target={target!r} is what a model predicts of faces; predictions have it in their column truth")
    for name, one in models.items():
        if isinstance(one, FaceModel):
            if faces is None:
                raise FacexkitError(f"auditing the model {name!r} needs the faces to show it: audit(model, faces, …)")
            tables[str(name)] = predictions_of(one, faces, target, **how)
            classes += tables[str(name)].attrs["classes"]
        else:
            tables[str(name)] = _read_predictions(one, str(name))
    first = next(iter(tables.values()), None)
    if first is None or not len(first):
        raise FacexkitError("there is nothing to audit: no model, or no image with a known truth")
    tables = matched(tables)
    for name, table in tables.items():
        if not {*table.truth} & {*classes, *table.prediction}:
            truth, said = (", ".join(sorted({*table[column]})[:5]) for column in ("truth", "prediction"))
            raise FacexkitError(f"the predictions {name!r} share no class with the truth: it says {truth}, they say {said}")
        classes += sorted({*table.truth, *table.prediction} - {*classes})
    return tables, list(dict.fromkeys(classes))


def _name_of(source: object, place: int) -> str:
    if isinstance(source, FaceModel):
        return source.name
    return Path(source).stem if isinstance(source, (str, Path)) else f"model {place + 1}"


def _read_predictions(source: object, name: str) -> pd.DataFrame:
    with told(f"the predictions {name!r} cannot be read", kinds=(OSError, ValueError, TypeError)):
        table = source if isinstance(source, pd.DataFrame) else read_table(Path(source))
    for column in ("truth", "prediction"):
        if column not in table:
            raise FacexkitError(f"the predictions {name!r} have no column {column!r}; their columns: {', '.join(table)}")
    if "path" in table and (twice := table.path.duplicated()).any():
        row = int(twice.argmax())
        raise FacexkitError(f"the predictions {name!r}, row {row + 1}: {table.path[row]} stands above already; keep one")
    every = table.assign(truth=as_labels(table.truth), prediction=as_labels(table.prediction))
    table = every[every.truth != ""].reset_index(drop=True)
    counts = table.truth.value_counts().sort_index()
    training = int((table.split == "train").sum()) if "split" in table else 0
    table.attrs |= {"labels": [[value, value, int(n)] for value, n in counts.items()], "training": training}
    table.attrs["without_truth"] = len(every) - len(table)
    if not (known := table.prediction != "").all():
        raise FacexkitError(f"the predictions {name!r}, row {known.argmin() + 1}: no prediction")
    if "confidence" in table:
        table["confidence"] = pd.to_numeric(table.confidence, errors="coerce")
    if "confidence" in table and not table.confidence.between(0, 1).all():
        row = int((~table.confidence.between(0, 1)).argmax())
        raise FacexkitError(f"the predictions {name!r}, row {row + 1}: confidence {table.confidence[row]} is not in 0–1")
    return table


@dataclass
class _Groups:
    """The groups of every attribute, and of all attributes together; `member` is bool (N, groups)."""

    attributes: list[str]
    attribute_of: list[str]
    labels: list[str]
    member: np.ndarray
    ranked: np.ndarray
    unlabelled: dict[str, int]

    @classmethod
    def of(cls, table: pd.DataFrame, protected: Sequence[str], min_images: int) -> _Groups:
        if not protected:
            raise FacexkitError("audit needs groups: protected=['gender'], or a face set loaded with protected=")
        every = {name: group_labels(table, name) for name in protected}
        unlabelled = {name: n for name, own in every.items() if (n := int((own == "").sum()))}
        if len(every) > 1:
            rows = list(zip(*every.values(), strict=True))
            every[CROSS.join(every)] = np.array([CROSS.join(row) if all(row) else "" for row in rows], object)
        found = [(name, label) for name, own in every.items() for label in sorted({*own} - {""})]
        member = np.stack([every[name] == label for name, label in found], 1)
        return cls(list(every), *map(list, zip(*found, strict=True)), member, member.sum(0) >= min_images, unlabelled)

    @property
    def names(self) -> list[str]:
        return [f"{name}: {label}" for name, label in zip(self.attribute_of, self.labels, strict=True)]

    @property
    def images(self) -> np.ndarray:
        return self.member.sum(0)


class _Tally:
    """The counts that every metric is made from: images by group, truth, prediction and bin of the confidence."""

    def __init__(self, table: pd.DataFrame, groups: _Groups, classes: list[str], positive: str | None) -> None:
        self.groups = groups
        self.positive = None if positive is None else classes.index(positive)
        self.confidence = table.confidence.to_numpy(float) if "confidence" in table else None
        confidence = np.zeros(len(table)) if self.confidence is None else self.confidence
        cells, cell = np.unique(groups.member, axis=0, return_inverse=True)
        self.belongs = cells.T.astype(float)
        self.shape = (len(cells), len(classes), len(classes), BINS)
        at = [pd.Index(classes).get_indexer(table[name]) for name in ("truth", "prediction")]
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        self.code = np.ravel_multi_index((np.ravel(cell), *at, bins), self.shape)

    def _count(self, weights: np.ndarray) -> np.ndarray:
        counted = np.bincount(self.code, weights, int(np.prod(self.shape))).reshape(self.shape)
        return np.tensordot(self.belongs, counted, 1)

    def confusion(self) -> np.ndarray:
        """Return images by group, truth and prediction."""
        return self._count(np.ones(len(self.code))).sum(3).astype(int)

    def numbers(self, weights: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return value (groups, metrics), gap (attributes, metrics, gaps) and criterion (attributes, rules)."""
        counted = self._count(weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            values = self._values(counted, weights)
            gaps = np.stack([self._gaps(values, name) for name in self.groups.attributes])
        selected, hits, alarms = (gaps[:, METRICS.index(name), 0] for name in METRICS[2:5])
        return values, gaps, np.stack([selected, np.maximum(hits, alarms)], 1)

    def _values(self, counted: np.ndarray, weights: np.ndarray) -> np.ndarray:
        joint, total = counted.sum(3), counted.sum((1, 2, 3))
        right = np.einsum("gkkb->gb", counted)
        recall = np.einsum("gkk->gk", joint) / joint.sum(2)
        known = ~np.isnan(recall)
        values = np.full((len(joint), len(METRICS)), np.nan)
        values[:, 0] = right.sum(1) / total
        values[:, 1] = np.where(known, recall, 0).sum(1) / known.sum(1)
        if (p := self.positive) is not None:
            negatives = total - joint[:, p].sum(1)
            values[:, 2] = joint[:, :, p].sum(1) / total
            values[:, 3] = recall[:, p]
            values[:, 4] = (joint[:, :, p].sum(1) - joint[:, p, p]) / negatives
        if self.confidence is not None:
            sure = self._count(weights * self.confidence).sum((1, 2))
            values[:, 5] = abs(right - sure).sum(1) / total
        return values

    def _gaps(self, values: np.ndarray, attribute: str) -> np.ndarray:
        own = values[(np.array(self.groups.attribute_of) == attribute) & self.groups.ranked]
        if len(own) < 2:
            return np.full((len(METRICS), len(GAPS)), np.nan)
        most, least = own.max(0), own.min(0)
        return np.stack([most - least, np.where(least > 0, most / least, np.nan), own.std(0)], 1)
