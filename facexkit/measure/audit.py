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
from facexkit.measure.bootstrap import REPLICATES, percentile_interval, resamples, wilson_interval
from facexkit.measure.gaps import GAPS, gap_interval, q_values, shuffled
from facexkit.measure.group_metrics import METRICS, Groups, Tally
from facexkit.measure.groups import as_labels
from facexkit.measure.predictions import matched, predictions_of
from facexkit.models.face_model import FaceModel, apart

CRITERIA = ("demographic_parity_difference", "equalized_odds_difference")
MISTAKES, AT_ONCE = 4, 64
WITHIN = np.array([False, True, False, True, True, False])
"""Of which metrics groups are alike where, among the faces of a true class, the prediction does not depend on the group."""
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
    seed, replicates : of the bootstrap over images and the shuffling, the same images for all models.
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
    found |= _judged(groups, tallies, found, replicates, seed)
    return _labelled(found, groups, tallies, tables, classes).assign_attrs(
        positive=positive or "", min_images=min_images, seed=seed, replicates=replicates, version=version("facexkit"),
        faces=faces.name if faces is not None else "predictions", predictions=len(first),
        without_truth=first.attrs["without_truth"], without_group=groups.unlabelled, labels=first.attrs["labels"],
        training=first.attrs["training"], made_by={name: table.attrs.get("made_by", {}) for name, table in tables.items()},
    )  # fmt: skip


def _labelled(
    found: Mapping[str, object], groups: Groups, tallies: Sequence[Tally], tables: Mapping[str, pd.DataFrame],
    classes: Sequence[str],
) -> xr.Dataset:  # fmt: skip
    """Return what was measured as labelled arrays, with the confusions and the most confident mistakes."""
    arrays = {name: (("model", *DIMENSIONS[name]), values) for name, values in found.items()}
    return xr.Dataset(arrays | _mistakes(tables, groups.member)).assign(
        confusion=(CONFUSION, [tally.confusion() for tally in tallies]),
        images=("group", groups.images), ranked=("group", groups.ranked),
    ).assign_coords(
        model=list(tables), group=groups.names, attribute=groups.attributes, metric=list(METRICS), gap=list(GAPS),
        rule=list(CRITERIA), truth=classes, prediction=classes,
        attribute_of=("group", groups.attribute_of), label=("group", groups.labels),
    )  # fmt: skip


OF_GAP = ("attribute", "metric")
MEASURED = {"value": ("group", "metric"), "gap_size": (*OF_GAP, "gap"), "criterion": ("attribute", "rule")}
DIMENSIONS = {f"{name}{end}": dims for name, dims in MEASURED.items()
              for end in ("", "_low", "_high", "_change", "_change_low", "_change_high")}  # fmt: skip
DIMENSIONS |= dict.fromkeys(("by_chance", "q_value", "q_change"), OF_GAP) | {"q_criterion": ("attribute", "rule")}
CONFUSION = ("model", "group", "truth", "prediction")


def _measured(groups: Groups, tallies: list[Tally], weights: Iterator[np.ndarray], seed: int) -> dict[str, np.ndarray]:
    """Return metrics, gaps and criteria with their intervals, and their changes from the first model's."""
    whole = [tally.values(np.ones((1, len(tally.cell)))) for tally in tallies]
    value, trials = (np.concatenate(part) for part in zip(*whole, strict=True))
    parts = iter(lambda: list(islice(weights, AT_ONCE)), [])
    drawn = np.concatenate([np.stack([tally.values(np.stack(part))[0] for tally in tallies], 1) for part in parts])
    low, high = percentile_interval(drawn)
    rate = np.isfinite(trials)
    low[rate], high[rate] = (end[rate] for end in wilson_interval(value * trials, trials))
    least = np.where(rate, np.nan_to_num(high - low) / (2 * 1.96), 0)
    size = groups.gaps(value)
    supposed = ((_flat(true), _flat(again)) for true, again in groups.supposed(value, drawn, least, seed))
    ends = gap_interval(_flat(size), supposed)
    found = {"value": value, "value_low": low, "value_high": high, "gap_size": size, "criterion": _criteria(size)}
    for end, each in zip(("_low", "_high"), ends, strict=True):
        found |= {f"gap_size{end}": each[..., :-2].reshape(size.shape), f"criterion{end}": each[..., -2:]}
    if len(tallies) > 1:
        redrawn = {"value": drawn, "gap_size": groups.gaps(drawn), "criterion": _criteria(groups.gaps(drawn))}
        for name, again in redrawn.items():
            low, high = percentile_interval(again - again[:, :1])
            change = {"": found[name] - found[name][:1], "_low": low, "_high": high}
            found |= {f"{name}_change{end}": numbers for end, numbers in change.items()}
    return found


def _criteria(gaps: np.ndarray) -> np.ndarray:
    """Return the `CRITERIA` (…, attributes, rules) of gaps (…, attributes, metrics, gaps)."""
    selected, hits, alarms = (gaps[..., METRICS.index(name), 0] for name in METRICS[2:5])
    return np.stack([selected, np.maximum(hits, alarms)], -1)


def _flat(gaps: np.ndarray) -> np.ndarray:
    """Return gaps (…, attributes, metrics, gaps) and their criteria as one row an attribute."""
    return np.concatenate([gaps.reshape(*gaps.shape[:-2], -1), _criteria(gaps)], -1)


def _judged(
    groups: Groups, tallies: list[Tally], found: dict[str, np.ndarray], replicates: int, seed: int
) -> dict[str, np.ndarray]:
    """Return how far apart shuffled groups lie, and the q values of gaps, criteria and changes, all of one family."""
    size, criterion, rng = found["gap_size"][..., 0], found["criterion"], np.random.default_rng(seed)
    count = max(replicates, 20 * int(np.isfinite(size).sum() + np.isfinite(criterion).sum()))
    wide, met, chance = np.zeros((2, *size.shape)), np.zeros((2, *criterion.shape)), np.zeros((2, *size.shape))
    for kind, within in enumerate((0 * tallies[0].truth, tallies[0].truth)):
        for start in range(0, count, AT_ONCE):
            cells = shuffled(tallies[0].cell, within, min(AT_ONCE, count - start), rng)
            gaps = groups.gaps(np.stack([tally.values(np.ones(cells.shape), cells)[0] for tally in tallies], 1))
            wide[kind] += (gaps[..., 0] >= size - 1e-9).sum(0)
            met[kind] += (_criteria(gaps) >= criterion - 1e-9).sum(0)
            chance[kind] += gaps[..., 0].sum(0) / count
    p = [np.where(np.isfinite(measured), (1 + np.where(kinds, *often[::-1])) / (1 + count), np.nan)
         for measured, kinds, often in ((size, WITHIN, wide), (criterion, [False, True], met))]  # fmt: skip
    change = np.full(size.shape, np.nan)
    if len(tallies) > 1:
        from scipy.stats import norm  # here, as its import takes a second

        by, low, high = (found[f"gap_size_change{end}"][..., 0] for end in ("", "_low", "_high"))
        change = 2 * norm.sf(abs(by) / ((high - low) / (2 * 1.96)))
    named = zip(("q_value", "q_criterion", "q_change"), q_values(*p, change), strict=True)
    return {"by_chance": np.where(WITHIN, chance[1], chance[0])} | dict(named)


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
