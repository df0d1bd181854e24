"""Whom a model treats worse: metrics by group and intersection, the gaps between them, and their intervals."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from importlib.metadata import version
from itertools import islice
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.errors import FacexkitError, check_known, told
from facexkit.faces.faceset import FaceSet
from facexkit.faces.label_files import read_table
from facexkit.measure.bootstrap import REPLICATES, percentile_interval, resamples, wilson_interval, with_interval
from facexkit.measure.gaps import GAPS, q_values, shuffled
from facexkit.measure.group_metrics import APART, CRITERIA, METRICS, Groups, Tally
from facexkit.measure.groups import as_labels
from facexkit.measure.predictions import matched, predictions_of, with_truth
from facexkit.models.face_model import FaceModel, apart

MISTAKES, AT_ONCE = 4, 64
DIFFERENCES = [*range(0, APART - len(CRITERIA), len(GAPS)), *range(APART - len(CRITERIA), APART)]
"""The places of the differences, and of the criteria, among what `apart` gives."""
WITHIN = np.array([False, True, False, True, True, False, False, True])
"""Of which of them groups are alike where, among the faces of a true class, the prediction does not depend on the group."""
OF_GAP, OF_RULE = ("model", "attribute", "metric"), ("model", "attribute", "rule")
Ends = tuple[np.ndarray, np.ndarray, np.ndarray]
"""A number and the ends of its interval."""
GIVEN = ("path", "truth", "prediction", "confidence")


def audit(
    models: object, faces: FaceSet | None = None, target: str | None = None, protected: Sequence[str] = (), *,
    positive: str | None = None, min_images: int = 30, replicates: int = REPLICATES, seed: int = 0, **how: object,
) -> xr.Dataset:  # fmt: skip
    """Compare how a model treats groups, and several models with each other.

    accuracy; balanced accuracy, the mean of the classes' recalls; of the positive class selection rate, true and false
    positive rate; calibration error Σ n(b)/n·|accuracy(b) − confidence(b)| over ten bins b of the confidence (Guo et al.
    2017). Gaps over the groups of an attribute: difference max − min, ratio max / min, deviation, their population
    standard deviation (the degree of bias, DoB, of the face-fairness literature), and over_geomean, max / geometric mean
    (ISO/IEC 19795-10). Demographic parity difference = that of the selection rate; equalized odds difference = the
    larger of those of the true and the false positive rate.

    Of many small groups the best and the worst lie apart by chance alone: `by_chance` says how far, with the groups
    shuffled (among the faces of a true class for balanced accuracy and the rates), and the intervals take it into
    account, see `gap_interval`. q_value: how often the shuffled groups lie as far apart, after Benjamini & Hochberg (1995)
    over all gaps, criteria and changes of the audit, one family.

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
    replicates, seed : of the bootstrap over images and the shuffling, the same images for all models.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    Dataset: value (model, group, metric); gap_size (model, attribute, metric, gap); criterion (model, attribute, rule);
    each with _low and _high, a 95 % interval (Wilson's where value is a rate, else bootstrap), and with several models
    _change, _change_low, _change_high: minus the first model's. by_chance (model, attribute, metric), q_value,
    q_change (model, attribute, metric) of the differences, q_criterion (model, attribute, rule). confusion (model, group,
    truth, prediction), in images; images, ranked, attribute_of, label (group); of the most confident mistakes of each
    group mistake_path, _truth, _prediction, _confidence (model, group, mistake), "" where paths are not known. NaN where a
    group has no image to count, or an attribute fewer than two groups that are ranked. attrs: what each label was taken
    for (`labels`: [value, class, faces]); how many images lack a true class and are left out (`without_truth`), or a group
    (`without_group`, by attribute); how many are of the split "train" (`training`); what made the predictions (`made_by`).

    Raises
    ------
    FacexkitError for unknown columns or classes, confidences outside 0–1, and tables of different images.
    """
    tables, classes = _tables(models, faces, target, how)
    first = next(iter(tables.values()))
    check_known("positive class", [] if positive is None else [positive], classes)
    positive = classes[1] if positive is None and len(classes) == 2 else positive
    own = faces.protected if faces is not None else [name for name in first if name not in GIVEN]
    groups = Groups.of(first, [protected] if isinstance(protected, str) else list(protected or own), min_images)
    tallies = [Tally(table, groups, classes, positive) for table in tables.values()]
    found = _measured(groups, tallies, resamples(len(first), seed, replicates), seed)
    judged = _judged(groups, tallies, found, replicates, seed)
    return _labelled(found, groups, tallies, tables, classes).assign(judged).assign_attrs(
        positive=positive or "", min_images=min_images, seed=seed, replicates=replicates, version=version("facexkit"),
        faces=faces.name if faces is not None else "predictions", predictions=len(first),
        without_truth=first.attrs["without_truth"], without_group=groups.unlabelled, labels=first.attrs["labels"],
        training=first.attrs["training"], made_by={name: table.attrs.get("made_by", {}) for name, table in tables.items()},
    )  # fmt: skip


def _labelled(
    found: Mapping[str, tuple[Ends, Ends]], groups: Groups, tallies: Sequence[Tally], tables: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
) -> xr.Dataset:  # fmt: skip
    """Return what was measured as labelled arrays, with the confusions and the most confident mistakes."""
    arrays, of = _mistakes(tables, groups.member), zip(groups.attribute_of, groups.labels, strict=True)
    for change, (values, gaps) in found.items():
        sizes = [each[..., :-2].reshape(*each.shape[:-1], len(METRICS), len(GAPS)) for each in gaps]
        arrays |= with_interval(f"value{change}", ("model", "group", "metric"), values)
        arrays |= with_interval(f"gap_size{change}", (*OF_GAP, "gap"), sizes)
        arrays |= with_interval(f"criterion{change}", OF_RULE, [each[..., -2:] for each in gaps])
    return xr.Dataset(arrays).assign(
        confusion=(("model", "group", "truth", "prediction"), [tally.confusion() for tally in tallies]),
        images=("group", groups.member.sum(0)), ranked=("group", groups.ranked),
    ).assign_coords(
        model=list(tables), group=[f"{name}: {label}" for name, label in of], attribute=groups.attributes, metric=list(METRICS), gap=list(GAPS),
        rule=list(CRITERIA), truth=classes, prediction=classes,
        attribute_of=("group", groups.attribute_of), label=("group", groups.labels),
    )  # fmt: skip


def _measured(
    groups: Groups, tallies: list[Tally], weights: Iterator[np.ndarray], seed: int
) -> dict[str, tuple[Ends, Ends]]:
    """Return metrics and gaps with their intervals; and as "_change" their changes from the first model's."""
    whole = [tally.values(np.ones((1, len(tally.cell)))) for tally in tallies]
    value, trials = (np.concatenate(part) for part in zip(*whole, strict=True))
    parts = iter(lambda: list(islice(weights, AT_ONCE)), [])
    drawn = np.concatenate([np.stack([tally.values(np.stack(part))[0] for tally in tallies], 1) for part in parts])
    low, high = percentile_interval(drawn)
    rate = np.isfinite(trials)
    low[rate], high[rate] = (end[rate] for end in wilson_interval(value * trials, trials))
    least = np.where(rate, np.nan_to_num(high - low) / (2 * 1.96), 0)
    gaps = groups.gaps(value), *groups.gap_intervals(value, drawn, least, seed)
    found = {"": ((value, low, high), gaps)}
    if len(tallies) > 1:
        both = zip(found[""], (drawn, groups.gaps(drawn)), strict=True)
        changes = ((now - now[:1], *percentile_interval(again - again[:, :1])) for (now, *_), again in both)
        found["_change"] = tuple(changes)
    return found


def _judged(
    groups: Groups, tallies: list[Tally], found: Mapping[str, tuple[Ends, Ends]], replicates: int, seed: int
) -> dict[str, tuple]:
    """Return how far apart shuffled groups lie, and the q values of gaps, criteria and changes, all of one family."""
    size, rng = found[""][1][0][..., DIFFERENCES], np.random.default_rng(seed)
    count = max(replicates, 20 * int(np.isfinite(size).sum()))
    wide, chance = np.zeros((2, 2, *size.shape))
    for kind, within in enumerate((0 * tallies[0].truth, tallies[0].truth)):
        for start in range(0, count, AT_ONCE):
            cells = shuffled(tallies[0].cell, within, min(AT_ONCE, count - start), rng)
            values = np.stack([tally.values(np.ones(cells.shape), cells)[0] for tally in tallies], 1)
            gaps = groups.gaps(values)[..., DIFFERENCES]
            wide[kind] += (gaps >= size - 1e-9).sum(0)
            chance[kind] += gaps.sum(0) / count
    often, by_chance = (np.where(WITHIN, each[1], each[0]) for each in (wide, chance))
    p, change = np.where(np.isfinite(size), (1 + often) / (1 + count), np.nan), np.full(size.shape, np.nan)[..., :-2]
    if len(tallies) > 1:
        from scipy.stats import norm  # here, as its import takes a second

        by, low, high = (each[..., DIFFERENCES[:-2]] for each in found["_change"][1])
        change = 2 * norm.sf(abs(by) / ((high - low) / (2 * 1.96)))
    q, q_change = q_values(p, change)
    return {"by_chance": (OF_GAP, by_chance[..., :-2]), "q_value": (OF_GAP, q[..., :-2]), "q_change": (OF_GAP, q_change),
            "q_criterion": (OF_RULE, q[..., -2:])}  # fmt: skip


def _mistakes(tables: Mapping[str, pd.DataFrame], member: np.ndarray) -> dict[str, tuple]:
    """Return the wrong predictions of each group that were most confident; "" and NaN where there are fewer."""
    shape = (len(tables), member.shape[1], MISTAKES)
    found = {name: np.full(shape, "", object) for name in ("path", "truth", "prediction")}
    found["confidence"] = np.full(shape, np.nan)
    for place, table in enumerate(tables.values()):
        wrong = table[table.truth != table.prediction]
        wrong = wrong.sort_values("confidence", ascending=False, kind="stable") if "confidence" in wrong else wrong[:0]
        for group, own in enumerate(member.T):
            part = wrong[own[wrong.index]][:MISTAKES]
            for name in found.keys() & set(part):
                found[name][place, group, : len(part)] = part[name]
    return {f"mistake_{name}": (("model", "group", "mistake"), values) for name, values in found.items()}


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
    table = with_truth(table.assign(truth=as_labels(table.truth), prediction=as_labels(table.prediction)), "truth")
    if not (known := table.prediction != "").all():
        raise FacexkitError(f"the predictions {name!r}, row {known.argmin() + 1}: no prediction")
    if "confidence" in table:
        table["confidence"] = pd.to_numeric(table.confidence, errors="coerce")
    if "confidence" in table and not table.confidence.between(0, 1).all():
        row = int((~table.confidence.between(0, 1)).argmax())
        raise FacexkitError(f"the predictions {name!r}, row {row + 1}: confidence {table.confidence[row]} is not in 0–1")
    return table
