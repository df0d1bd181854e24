"""What a model says of each face, beside what the labels say."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import pandas as pd
import torch

from facexkit.arguments import renamed
from facexkit.errors import FacexkitError, check_known, listed
from facexkit.faces.faceset import FaceSet
from facexkit.measure.bootstrap import wilson_interval
from facexkit.measure.per_image import Outputs
from facexkit.measure.records import provenance
from facexkit.models.face_model import FaceModel
from facexkit.models.labels import answering, distinct_names
from facexkit.models.outputs import Meaning
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run


def predict(model: FaceModel, faces: FaceSet, **how: object) -> pd.DataFrame:
    """Return the face set's table with what the model says; options as of `PassOptions`.

    Returns
    -------
    the table with `predicted`, the name of the class that the model says, `output`, its output, `confidence`, its
    probability, and, where the target's values are classes of the model (see `answering`), `correct`; else attrs["unread"]
    says why not. A model of attributes or of several blocks answers about the target alone, or where there is none with
    all that it says in one text. Images that cannot be decoded are left out. attrs["made_by"]: model and face set with
    their fingerprints, version, skipped.
    """
    return _predicted(model, faces, how)[0]


def _predicted(model: FaceModel, faces: FaceSet, how: Mapping[str, object]) -> tuple[pd.DataFrame, np.ndarray, list[str]]:
    """Return the table of `predict`, the rows of the face set that it has, and the names of the classes."""
    distinct_names(model)
    if model.meaning.kind == "embedding":
        raise FacexkitError(f"model {model.name!r} gives an embedding and no classes; fx.embed and fx.similarities take it")
    truth, unread = None, ""
    try:
        model, truth = answering_of(model, faces) if faces.target is not None else (model, None)
    except FacexkitError as error:
        unread = str(error)
    skipped = run(model, faces, [outputs := Outputs()], PassOptions(**how))
    rows, values = outputs.result()
    table, meaning, names = faces.table.iloc[rows], model.meaning, np.array(model.class_names)
    said = torch.from_numpy(values)
    sure, best = meaning.probabilities(said).numpy(), meaning.decided(said).numpy()
    if meaning.blocks or meaning.kind == "labels":
        table = table.assign(predicted=_all_said(sure, names, meaning))
    else:
        own = np.arange(len(best)), best
        table = table.assign(predicted=names[best], output=values[own], confidence=sure[own])
    if truth is not None:
        table["correct"] = np.where(truth[rows] < 0, np.nan, truth[rows] == best)
    table = table.reset_index(drop=True)
    table.attrs |= {"unread": unread, "made_by": provenance(model, faces, target=faces.target, skipped=skipped)}
    return table, rows, model.class_names


def _all_said(sure: np.ndarray, names: np.ndarray, meaning: Meaning) -> list[str]:
    """Return for each face the attributes that it has, or the class of each block."""
    if meaning.kind == "labels":
        return [", ".join(names[own]) for own in sure >= meaning.threshold]
    parts = [np.array(columns)[sure[:, columns].argmax(1)] for _, columns in meaning.blocks]
    return [", ".join(names[list(row)]) for row in zip(*parts, strict=True)]


def answering_of(model: FaceModel, faces: FaceSet) -> tuple[FaceModel, np.ndarray]:
    """Return the model as it answers the set's target, and each face's class, −1 where it has no label; see `answering`."""
    if faces.target is None:
        raise FacexkitError(f"the face set {faces.name!r} has no target; load it with target=COLUMN")
    return answering(model, faces.table[faces.target])


def predictions_of(model: FaceModel, faces: FaceSet, target: str | None = None, **how: object) -> pd.DataFrame:
    """Return what an audit needs of the faces with a label: the table with truth, prediction and confidence.

    attrs: `classes`; `labels`, [value, class, faces] of each value of the target; `without_truth`, the faces without one;
    `training`, how many of the others are of the split "train".
    """
    faces = faces[:]
    faces.target = faces.target if target is None else target
    check_known("label column", [] if faces.target is None else [faces.target], faces.table.columns)
    _, truth = answering_of(model, faces)  # an error where the labels are no classes, before the faces pass
    table, rows, classes = _predicted(model, faces, how)
    table.attrs["classes"] = classes
    table = table.rename(columns={"predicted": "prediction"}).assign(truth=np.array([*classes, ""])[truth[rows]])
    return with_truth(table, faces.target)


def with_truth(table: pd.DataFrame, label: str) -> pd.DataFrame:
    """Return the rows of predictions whose truth is not "", with the attrs of `predictions_of`; `label` is the target."""
    known = table[table.truth != ""].reset_index(drop=True)
    counts = known.groupby([known[label].rename("value"), "truth"], observed=True).size()
    known.attrs["labels"] = [[str(value), name, int(n)] for (value, name), n in counts.items()]
    known.attrs["without_truth"] = len(table) - len(known)
    known.attrs["training"] = int((known.split == "train").sum()) if "split" in known else 0
    return known


def matched(tables: dict[str, pd.DataFrame]) -> dict[str, pd.DataFrame]:
    """Return tables of predictions with the first one's faces in its order: by `path` where they have one, else by place.

    Raises
    ------
    FacexkitError where faces or their truth differ, with both sides.
    """
    (name, first), *others = tables.items()
    found = {name: first}
    for other, table in others:
        no = f"the predictions of {other!r} are not for the images of the first model, {name!r}"
        if "path" in table and "path" in first:
            sides = [(one, sorted({*a.path} - {*b.path})) for one, a, b in ((name, first, table), (other, table, first))]
            if any(lacking for _, lacking in sides) or table.path.duplicated().any():
                told = "; ".join(f"{len(own)} are in {one!r} alone ({listed(own)})" for one, own in sides if own)
                raise FacexkitError(f"{no}: {told or 'it has some of them twice'}")
            table = table.set_index("path", drop=False).loc[first.path].reset_index(drop=True)
        if len(table) != len(first):
            raise FacexkitError(f"{no}: {len(table)} rows, and {len(first)}; give both a column path")
        differ = np.flatnonzero(table.truth.to_numpy() != first.truth.to_numpy())
        if len(differ):
            row = differ[0]
            truths = f"{first.truth[row]!r} in {name!r}, {table.truth[row]!r} in {other!r}"
            raise FacexkitError(f"{no}: in {len(differ)} rows, row {row + 1} first, the truth is {truths}")
        table.attrs = tables[other].attrs
        found[other] = table
    return found


@renamed(columns="protected")
def accuracy_by(predictions: pd.DataFrame, protected: Sequence[str]) -> pd.DataFrame:
    """Return the share of right predictions in each group.

    Parameters
    ----------
    predictions : what `predict` returned.
    protected : label or group columns.

    Returns
    -------
    table indexed by `column` and `value`: `faces`, `accuracy`, and its 95 % interval `low`, `high` (Wilson's).
    """
    if "correct" not in predictions:
        why = predictions.attrs.get("unread") or "the faces have no target"
        raise FacexkitError(f"whether a prediction is correct is not known: {why}")
    check_known("label column", protected, predictions.columns)
    parts = {c: predictions.groupby(c, observed=True).correct.agg(["count", "mean"]) for c in protected}
    table = pd.concat(parts, names=["column", "value"]).rename(columns={"count": "faces", "mean": "accuracy"})
    low, high = wilson_interval(table.accuracy * table.faces, table.faces)
    return table.assign(low=low, high=high)
