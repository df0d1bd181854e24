"""Take a region out of what a model rests on, and prove it on faces that it was not trained on."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
import torch
import xarray as xr

from facexkit.arguments import renamed
from facexkit.errors import FacexkitError, check_known, told, unknown
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS, UNIONS
from facexkit.measure.audit import audit
from facexkit.measure.bootstrap import ENDS, wilson_interval, with_interval
from facexkit.measure.groups import group_labels
from facexkit.measure.predictions import answering_of, predictions_of
from facexkit.measure.records import provenance
from facexkit.measure.region_scores import score_regions
from facexkit.measure.saved import save_result
from facexkit.measure.share_interval import PARTS, accused, by_part
from facexkit.mend.lessons import decoded
from facexkit.mend.methods import REPAIRS, RepairMethod, Task
from facexkit.models.face_model import FaceModel
from facexkit.models.weights import weights_file
from facexkit.probe.options import PassOptions

STATES = ("before", "control", "after")
FEWEST, ROUNDS = 20, 3
"""Faces that it takes at least on either side, and the most rounds."""
SAMPLE = {"images": 256, "walks": 256}
"""Of the share's measurement, before, after and of the control."""


@dataclass(frozen=True)
class Repair:
    """What `repair` gives.

    Attributes
    ----------
    model : the repaired model; it goes everywhere a model goes.
    control : the model after the same steps without what the method rests on.
    result : before, control and after along `model`, on the held-out faces; see `repair`.
    shares : the decision shares behind it, as of `score_regions`, by the same names; empty for faces without masks.
    """

    model: FaceModel
    control: FaceModel
    result: xr.Dataset
    shares: dict[str, xr.Dataset]

    def save(self, folder: str | Path) -> Path:
        """Write `model.safetensors`, `card.md` on what was done, `result.zarr` and `share_STATE.zarr`; return the first's path.

        `fx.load_model` of the source that the model was loaded from takes the file as its `weights`.
        """
        path, card = Path(folder, "model.safetensors"), self._card()
        write_whole(path, weights_file(self.model.network, card=json.dumps(card)))
        rows = [f"- {name}: {value}" for name, value in card.items()]
        write_whole(path.with_name("card.md"), "\n".join([f"# {self.model.name}", "", *rows, ""]).encode())
        save_result(self.result, path.with_name("result.zarr"))
        for state, scores in self.shares.items():
            save_result(scores, path.with_name(f"share_{state}.zarr"))
        return path

    def _card(self) -> dict[str, object]:
        found, card = self.result, {name: str(value) for name, value in self.result.attrs.items() if str(value)}
        for state in found.model.to_numpy():
            one = found.sel(model=state)
            numbers = {"accuracy": one.accuracy, f"worst group ({one.worst_group.item()})": one.worst}
            numbers |= {f"share of {name}": one.share.sel(part=name) for name in found.attrs["regions"] if "share" in found}
            card[state] = ", ".join(f"{name} {float(value):.1%}" for name, value in numbers.items())
        return card | {"classes": ", ".join(self.model.class_names), "input": f"{self.model.image_size} pixels"}


@renamed(by="protected")
def repair(
    model: FaceModel, faces: FaceSet, regions: str | Sequence[str] | xr.Dataset, method: str = "exchange",
    layers: Sequence[str] | Mapping[str, Sequence[int]] | None = None, epochs: int = 3, rate: float = 1e-3,
    held_out: float = 0.3, out: str | Path | None = None, *, protected: str | Sequence[str] | None = None,
    target_class: int | str = 1, rounds: int = 1, seed: int = 0, **how: object,
) -> Repair:  # fmt: skip
    """Make regions useless to a model, and measure on held-out faces what that does, beside a control.

        better = fx.repair(model, faces, regions="lips")
        better.model, fx.repair_findings(better.result), fx.plot_repair(better.result)

    Parameters
    ----------
    regions : names of regions or unions; or region scores by the method "share", whose accused regions are taken.
    method : "exchange": trained on with its own labels while the regions are another face's. "last_layer": that refitted
        on balanced groups. "erase": a map after which no linear classifier finds the group. "ablate": units off for good.
    layers : what may change: names of layers; for "ablate" also {layer: units}.
    epochs, rate : of "exchange": AdamW with a one-cycle rate, and the batches of `batch_size`.
    held_out : share of the faces, with `identity` of the persons, on which all is measured; a set with a split "test" or
        "val" is measured there.
    out : folder for the model and its card; the same call goes on there after a kill.
    protected : label columns to compare, the protected ones or else the classes by default; the first is that of "last_layer" and
        "erase". target_class : of the decision shares.
    rounds : up to three: another region that took the place is exchanged too, from the start.
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    `Repair`. Its result has all of `audit` with before, control and after as its models; accuracy and worst, the lowest
    of a ranked group, worst_group (model); share (model, part), regions with unions in the place of pairs; each with
    _low and _high. attrs: regions, taken_over (parts whose share rose beyond chance and that are accused now), nothing_else:
    whether the repaired model is not shown to be better than always saying the commonest class.

    Raises
    ------
    FacexkitError, before any work, for unknown names, labels that are no classes of the model, faces without masks or of
    whom none has the region, too few faces, a method without its group column, or a model that cannot be trained.
    """
    if rate <= 0 or not 1 <= rounds <= ROUNDS:
        raise FacexkitError(f"repair takes a rate above 0 and 1 to {ROUNDS} rounds, not rate={rate:g}, rounds={rounds}")
    maker, options, names = REPAIRS.find(method)(), PassOptions(**how), _named(regions)
    groups = [protected] if isinstance(protected, str) else list(protected or faces.protected)
    model = answering_of(model, faces)[0]
    pupils, examinees, classes = _sides(model, faces, held_out, seed)
    given, folder = [layers] if isinstance(layers, str) else layers, None if out is None else Path(out)
    task = Task(model, pupils, classes, _parts(names), given, (groups or [""])[0], epochs, rate, seed, folder, options)
    _check(task, maker, method, examinees)
    pupils = decoded(pupils, model.image_size, options)
    task = replace(task, faces=pupils, classes=answering_of(model, pupils)[1], how=replace(options, workers=0, client=None))
    if options.client is None:
        examinees, options = decoded(examinees, model.image_size, options), task.how
    measured = partial(_measured, faces=examinees, target_class=target_class, seed=seed, how=options)
    found = _proven(task, maker, names, rounds, measured, groups or [examinees.target])
    asked = {"method": method, "epochs": epochs, "rate": rate, "seed": seed, "layers": str(given or "")}
    made = provenance(model, faces, **asked, trained_on=len(pupils), held_out=len(examinees))
    found = replace(found, result=found.result.assign_attrs(made))
    if folder is not None:
        found.save(folder)
        for file in folder.glob("*.checkpoint.pt"):
            file.unlink()
    return found


def _proven(
    task: Task, maker: RepairMethod, names: list[str], rounds: int,
    measured: Callable[[FaceModel], tuple[pd.DataFrame, xr.Dataset | None]], groups: Sequence[str],
) -> Repair:  # fmt: skip
    """Repair in rounds, repeat without what the method rests on, and measure all three."""
    said, names = {"before": measured(task.model)}, list(names)
    for place in range(1, rounds + 1):
        mended = maker(replace(task, regions=_parts(names)), control=False)
        said["after"] = measured(mended)
        moved = _moved(said["before"][1], said["after"][1], names)
        if not moved or place == rounds:
            break
        names += moved
    control = maker(task, control=True)
    said["control"] = measured(control)
    mended.name, control.name = f"{task.model.name}, repaired ({', '.join(names)})", f"{task.model.name}, control"
    result = _result(said, groups, task.seed).assign_attrs(regions=names, rounds=place, taken_over=moved)
    shares = {state: scores.assign_attrs(model=state) for state in STATES if (scores := said[state][1]) is not None}
    return Repair(mended, control, result, shares)


def _measured(
    model: FaceModel, faces: FaceSet, target_class: int | str, seed: int, how: PassOptions
) -> tuple[pd.DataFrame, xr.Dataset | None]:
    """Return what a model says of the held-out faces, and the shares of its decision."""
    said, scores = predictions_of(model, faces, **vars(how)), None
    if faces.masks is not None:
        scores = score_regions(model, faces, None, target_class, "share", seed=seed, **SAMPLE, **vars(how))
    return said, scores


def _named(regions: str | Sequence[str] | xr.Dataset) -> list[str]:
    if isinstance(regions, xr.Dataset):
        names = accused(regions) if regions.attrs.get("method") == "share" and regions.target_class.size == 1 else []
        if not names:
            raise FacexkitError("these scores accuse no region; name one, or give the shares of one class (method='share')")
        return names
    names = [regions] if isinstance(regions, str) else list(regions)
    check_known("region", names or [""], [*REGIONS, *UNIONS])
    return names


def _parts(names: Sequence[str]) -> tuple[str, ...]:
    """Return the regions behind names of regions and unions."""
    return tuple(dict.fromkeys(region for name in names for region in UNIONS.get(name, (name,))))


def _sides(model: FaceModel, faces: FaceSet, held_out: float, seed: int) -> tuple[FaceSet, FaceSet, np.ndarray]:
    """Return the faces to train on and those to measure on, all with a true class, and the former's classes."""
    known = np.flatnonzero((classes := answering_of(model, faces)[1]) >= 0)
    faces, classes, table = faces[known], classes[known], faces.table.iloc[known]
    split = table.split.astype(str).to_numpy() if "split" in table else np.array([])
    held = np.isin(split, ["test"] if "test" in split else ["val"])
    if not held.any() or held.all():
        person = table.identity if "identity" in table else pd.Series(range(len(table)), dtype=object)
        persons = np.random.default_rng(seed).permutation(person.astype(str).unique())
        held = person.astype(str).isin(persons[: round(held_out * len(persons))]).to_numpy()
    if min(held.sum(), (~held).sum()) < FEWEST or len({*classes[~held]}) < 2:
        raise FacexkitError(
            f"{faces.name!r} leaves {(~held).sum()} faces of {len({*classes[~held]})} classes to train on and {held.sum()} "
            f"to measure on; a repair takes {FEWEST} on either side and two classes: take more faces, or another held_out="
        )
    return faces[~held], faces[held], classes[~held]


def _check(task: Task, maker: RepairMethod, method: str, examinees: FaceSet) -> None:
    """Raise the error for what the method lacks."""
    if task.model.preprocess.resize or not isinstance(task.model.image_size, int):
        raise FacexkitError(
            f"a repair shows whole photographs in a square, and {task.model.name!r} sees {task.model.preprocess}; cut the "
            "photographs so, and load it with image_size="
        )
    if "masks" in maker.wants and task.faces.masks is None:
        raise FacexkitError(f"{task.faces.name!r} has no masks, by which {method!r} finds the region; load it with masks=")
    for side in (task.faces, examinees) if "masks" in maker.wants else ():
        if not any({*side.masks.read(path)} & {*task.regions} for path in side.table.path):
            raise FacexkitError(f"no face of {side.name!r} has {' or '.join(task.regions)}; name a region that its masks have")
    if "groups" in maker.wants:
        if not task.by:
            raise FacexkitError(f"{method!r} needs a column of groups: protected=COLUMN, or a face set loaded with protected=")
        if task.by not in examinees.table:
            raise unknown("label column", task.by, examinees.table.columns.drop("path"))
        group_labels(task.faces.table, task.by)
    if "gradients" in maker.wants:
        twin = task.twin()
        twin.network.requires_grad_(True)
        with told(f"{task.model.name!r} cannot be trained", "give the nn.Module that it was made from"), torch.enable_grad():
            size = task.model.image_size
            outputs = twin(twin.prepare(torch.zeros((2, 3, size, size), dtype=torch.uint8)))
            outputs.sum().backward()
    maker.check(task)


def _moved(before: xr.Dataset | None, after: xr.Dataset | None, names: Sequence[str]) -> list[str]:
    """Return the parts that are accused now and whose share rose by more than both intervals allow."""
    if before is None:
        return []
    high, low = by_part(before.isel(target_class=0), "score_high"), by_part(after.isel(target_class=0), "score_low")
    return [part for part in accused(after) if not {*_parts([part])} & {*_parts(names)} and low[part] > high[part]]


def _result(said: Mapping[str, tuple[pd.DataFrame, xr.Dataset | None]], groups: Sequence[str], seed: int) -> xr.Dataset:
    tables = {state: said[state][0] for state in STATES}
    found = audit(tables, protected=groups, seed=seed)
    right = np.array([(table.truth == table.prediction).sum() for table in tables.values()])
    low, high = wilson_interval(right, images := len(said["before"][0]))
    values = with_interval("accuracy", "model", (right / images, low, high))
    ranked = found.sel(metric="accuracy").isel(group=np.flatnonzero(found.ranked if found.ranked.any() else ~found.ranked))
    least = ranked.value.argmin("group")
    for end in ENDS:
        values[f"worst{end}"] = ranked[f"value{end}"].isel(group=least).drop_vars(["group", "metric", "attribute_of", "label"])
    values["worst_group"] = ("model", ranked.group.to_numpy()[least.to_numpy()])
    if said["before"][1] is not None:
        every = [said[state][1].isel(target_class=0) for state in STATES]
        shares = (np.stack([by_part(own, f"score{end}").to_numpy() for own in every]) for end in ENDS)
        values |= with_interval("share", ("model", "part"), shares)
        found = found.assign_coords(part=np.array([*PARTS], object))
    commonest = tables["before"].truth.value_counts(normalize=True).max()
    return found.assign(values).assign_attrs(nothing_else=bool(low[-1] <= commonest))
