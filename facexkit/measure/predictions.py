"""What a model says of each face, beside what the labels say."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pandas as pd
import torch

from facexkit.errors import FacexkitError, check_known
from facexkit.faces.faceset import FaceSet
from facexkit.measure.bootstrap import wilson_interval
from facexkit.measure.margins import probabilities
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Rows


class Outputs(Accumulator):
    """The model's outputs, one row an image, float64 (N, classes) in the order of the face set."""

    outputs = True

    def __init__(self) -> None:
        self.kept = Rows()

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, outputs=batch.outputs.double().cpu().numpy())

    def result(self) -> tuple[np.ndarray, np.ndarray]:
        """Return the rows, ascending, and their outputs."""
        return self.kept.by_row("rows", "outputs")


def predict(model: FaceModel, faces: FaceSet, **how: object) -> pd.DataFrame:
    """Return the face set's table with what the model says; options as of `PassOptions`.

    Returns
    -------
    the table with `predicted`, the name of the class with the largest output, `output`, that output, `confidence`, its
    probability, and, where the target's values are the class names or their numbers, `correct`. Images that cannot be
    decoded are left out.
    """
    if len(set(model.class_names)) < len(model.class_names):
        twice = sorted({name for name in model.class_names if model.class_names.count(name) > 1})
        raise FacexkitError(f"{model.name!r} has several classes called {', '.join(map(repr, twice))}; give class_names=")
    outputs = Outputs()
    run(model, faces, [outputs], PassOptions(**how))
    rows, values = outputs.result()
    best = values.argmax(1)
    sure = probabilities(torch.from_numpy(values)).numpy()
    table = faces.table.iloc[rows].assign(
        predicted=np.array(model.class_names)[best], output=values.max(1), confidence=sure.max(1)
    )
    if faces.target is not None:
        classes = _classes(table[faces.target], model.class_names)
        if classes is not None:
            table["correct"] = np.where(classes < 0, np.nan, classes == best)
    return table.reset_index(drop=True)


def predictions_of(model: FaceModel, faces: FaceSet, target: str | None = None, **how: object) -> pd.DataFrame:
    """Return what an audit needs of the faces with a label: the table with truth, prediction and confidence."""
    faces = faces[:]
    faces.target = faces.target if target is None else target
    check_known("label column", [] if faces.target is None else [faces.target], faces.table.columns)
    true_classes(faces, model)  # an error where the labels are no classes, before the faces pass
    table = predict(model, faces, **how).rename(columns={"predicted": "prediction"})
    truth = _classes(table[faces.target], model.class_names)
    known = truth >= 0
    told = table[known].assign(truth=np.array(model.class_names)[truth[known]]).reset_index(drop=True)
    told.attrs["without_truth"] = int((~known).sum())
    return told


def _classes(labels: pd.Series, class_names: Sequence[str]) -> np.ndarray | None:
    """Return the output column that each label means, −1 where there is no label; None where that is not known."""
    known = {name: column for column, name in enumerate(class_names)}
    lower = {name.lower(): column for name, column in known.items()}
    numbers, text = {column: column for column in range(len(class_names))}, labels.astype(str)
    tried = [(known, text), (numbers, pd.to_numeric(labels, errors="coerce"))]
    tried[1:1] = [(lower, text.str.lower())] if len(lower) == len(known) else []
    for meaning, values in tried:
        columns = values.map(meaning)
        if columns[labels.notna()].notna().all() and labels.notna().any():
            return columns.where(labels.notna()).fillna(-1).astype(int).to_numpy()
    return None


def true_classes(faces: FaceSet, model: FaceModel) -> np.ndarray:
    """Return the output column that each face's target means, −1 where it has no label; an error where that is unknown."""
    if faces.target is None:
        raise FacexkitError(f"the face set {faces.name!r} has no target; load it with target=COLUMN")
    classes = _classes(faces.table[faces.target], model.class_names)
    if classes is None:
        values = ", ".join(map(str, faces.table[faces.target].dropna().unique()[:5]))
        raise FacexkitError(
            f"the values of {faces.target!r} ({values}) are neither the classes of {model.name!r} "
            f"({', '.join(model.class_names[:5])}) nor their numbers; name them with class_names="
        )
    return classes


def accuracy_by(predictions: pd.DataFrame, columns: Sequence[str]) -> pd.DataFrame:
    """Return the share of right predictions in each group.

    Parameters
    ----------
    predictions : what `predict` returned.
    columns : label or group columns.

    Returns
    -------
    table indexed by `column` and `value`: `faces`, `accuracy`, and its 95 % interval `low`, `high` (Wilson's).
    """
    if "correct" not in predictions:
        raise FacexkitError("whether a prediction is correct is not known: the target's values are no class names or numbers")
    check_known("label column", columns, predictions.columns)
    parts = {c: predictions.groupby(c, observed=True).correct.agg(["count", "mean"]) for c in columns}
    table = pd.concat(parts, names=["column", "value"]).rename(columns={"count": "faces", "mean": "accuracy"})
    low, high = wilson_interval(table.accuracy * table.faces, table.faces)
    return table.assign(low=low, high=high)
