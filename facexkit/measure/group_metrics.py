"""What a model does in each group: images counted by group, truth and prediction, and the metrics made from the counts."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd

from facexkit.errors import FacexkitError
from facexkit.measure.gaps import GAPS, gap_interval, gap_sizes
from facexkit.measure.groups import CROSS, group_labels

METRICS = (
    "accuracy", "balanced_accuracy", "selection_rate", "true_positive_rate", "false_positive_rate", "calibration_error",
)  # fmt: skip
CRITERIA = ("demographic_parity_difference", "equalized_odds_difference")
APART = len(METRICS) * len(GAPS) + len(CRITERIA)
BINS = 10


@dataclass
class Groups:
    """The groups of every attribute, and of all attributes together; `member` is bool (N, groups)."""

    attributes: list[str]
    attribute_of: list[str]
    labels: list[str]
    member: np.ndarray
    ranked: np.ndarray
    unlabelled: dict[str, int]

    @classmethod
    def of(cls, table: pd.DataFrame, protected: Sequence[str], min_images: int) -> Groups:
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

    def _compared(self) -> dict[int, np.ndarray]:
        """Return of each attribute, by its place, where its groups that are compared stand, if two or more are."""
        own = [np.flatnonzero((np.array(self.attribute_of) == name) & self.ranked) for name in self.attributes]
        return {place: groups for place, groups in enumerate(own) if len(groups) > 1}

    def gaps(self, values: np.ndarray) -> np.ndarray:
        """Return how far groups lie apart, see `apart`, (…, attributes, APART), of values (…, groups, metrics)."""
        found = np.full((*values.shape[:-2], len(self.attributes), APART), np.nan)
        for place, own in self._compared().items():
            found[..., place, :] = apart(np.moveaxis(values[..., own, :], -2, -1))
        return found

    def gap_intervals(self, values: np.ndarray, drawn: np.ndarray, least: np.ndarray, seed: int) -> np.ndarray:
        """Return the ends of the intervals of `gaps`, (2, …, attributes, APART); arguments as of `gap_interval`."""
        ends = np.full((2, *values.shape[:-2], len(self.attributes), APART), np.nan)
        for place, own in self._compared().items():
            parts = (np.moveaxis(part[..., own, :], -2, -1) for part in (values, drawn, least))
            ends[..., place, :] = gap_interval(*parts, seed, apart)
        return ends


def apart(values: np.ndarray) -> np.ndarray:
    """Return of values (…, metrics, groups) every metric's `GAPS`, and behind them the `CRITERIA`: (…, APART)."""
    gaps = gap_sizes(values)
    selected, hits, alarms = (gaps[..., METRICS.index(name), 0] for name in METRICS[2:5])
    criteria = np.stack([selected, np.maximum(hits, alarms)], -1)
    return np.concatenate([gaps.reshape(*gaps.shape[:-2], -1), criteria], -1)


class Tally:
    """The counts that every metric is made from: images by group, truth, prediction and bin of the confidence."""

    def __init__(self, table: pd.DataFrame, groups: Groups, classes: list[str], positive: str | None) -> None:
        self.positive = None if positive is None else classes.index(positive)
        self.confidence = table.confidence.to_numpy(float) if "confidence" in table else None
        confidence = np.zeros(len(table)) if self.confidence is None else self.confidence
        cells, cell = np.unique(groups.member, axis=0, return_inverse=True)
        self.belongs, self.cell = cells.T.astype(float), np.ravel(cell)
        self.truth, said = (pd.Index(classes).get_indexer(table[name]) for name in ("truth", "prediction"))
        self.shape = (len(classes), len(classes), BINS)
        bins = np.minimum((confidence * BINS).astype(int), BINS - 1)
        self.outcome = np.ravel_multi_index((self.truth, said, bins), self.shape)

    def _count(self, weights: np.ndarray, cells: np.ndarray) -> np.ndarray:
        """Return the weights (P, N) of images in cells (N,) or (P, N), by group, truth, prediction and bin."""
        shape = (len(weights), self.belongs.shape[1], int(np.prod(self.shape)))
        code = (np.arange(shape[0])[:, None] * shape[1] + cells) * shape[2] + self.outcome
        counted = self.belongs @ np.bincount(code.ravel(), weights.ravel(), int(np.prod(shape))).reshape(shape)
        return counted.reshape(*counted.shape[:2], *self.shape)

    def confusion(self) -> np.ndarray:
        """Return images by group, truth and prediction."""
        return self._count(np.ones((1, len(self.cell))), self.cell)[0].sum(3).astype(int)

    def values(self, weights: np.ndarray, cells: np.ndarray | None = None) -> tuple[np.ndarray, np.ndarray]:
        """Return the metrics, and of those that are rates of how many images, NaN else: (P, groups, metrics) each.

        Parameters
        ----------
        weights : (P, N), how often each image counts.
        cells : int (P, N), its combination of groups; its own by default.
        """
        cells = self.cell if cells is None else cells
        counted = self._count(weights, cells)
        joint, total, right = counted.sum(4), counted.sum((2, 3, 4)), np.einsum("pgkkb->pgb", counted)
        values, trials = np.full((2, *total.shape, len(METRICS)), np.nan)
        with np.errstate(invalid="ignore", divide="ignore"):
            recall = np.einsum("pgkk->pgk", joint) / joint.sum(3)
            known = ~np.isnan(recall)
            values[..., 0], trials[..., 0] = right.sum(2) / total, total
            values[..., 1] = np.where(known, recall, 0).sum(2) / known.sum(2)
            if (k := self.positive) is not None:
                said, positives = joint[..., k].sum(2), joint[:, :, k].sum(2)
                trials[..., 2:5] = np.stack([total, positives, total - positives], -1)
                values[..., 2:5] = np.stack([said, joint[:, :, k, k], said - joint[:, :, k, k]], -1) / trials[..., 2:5]
            if self.confidence is not None:
                sure = self._count(weights * self.confidence, cells).sum((2, 3))
                values[..., 5] = abs(right - sure).sum(2) / total
        return values, trials
