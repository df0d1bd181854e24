"""The page of a run that needs no kernel and no server: everything that the run measured, to switch and to look at."""

from __future__ import annotations

import sys
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr
from jinja2.utils import htmlsafe_json_dumps
from PIL import Image

from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import MOST_VALUES, FaceSet
from facexkit.faces.geometry import Geometry
from facexkit.faces.regions import TITLES
from facexkit.measure.groups import as_labels
from facexkit.measure.saved import read_result
from facexkit.show.exchanges import exchanges_told
from facexkit.show.face_map import face_map, scale_limit
from facexkit.show.index import read_manifest, shown_pictures
from facexkit.show.pages import templates
from facexkit.show.pictures import Album, face_as_seen, picture_uri, shade
from facexkit.show.readings import (
    METHODS,
    Subject,
    each_class,
    method_of,
    names_of,
    percent,
    ranked,
    read_regions,
    subjects,
)  # fmt: skip
from facexkit.show.regions import region_findings
from facexkit.show.report import LARGEST, behind, result_title
from facexkit.show.run import Run
from facexkit.show.unit_cards import UnitCards
from facexkit.show.words import group_title, label_of, model_name, model_of, title_of, words

AMOUNTS = ((20, 4, 240, 512), (10, 4, 160, 256), (6, 2, 80, 128), (3, 1, 40, 64), (0, 0, 12, 24))
"""How many patches and examples of a region, faces and units of a layer are shown; fewer if the page is too large."""
BARS, SIDE = 8, 192


def write_explorer(folder: str | Path) -> Path:
    """Write `explore.html` of a run from the results that it has, and return its path; nothing is measured.

    Parameters
    ----------
    folder : the run's folder. Region scores, dissections, the audit and the repair are read there, the faces' pictures
        where its parameters say.

    Raises
    ------
    FacexkitError for a folder without a run, a result that is damaged, or faces that are not there any more.
    """
    folder = Path(folder)
    manifest, faces = read_manifest(folder), Run.of(folder).every_face
    for amounts in AMOUNTS:
        uris: dict[str, int] = {}
        data = _shared(_told(folder, manifest, faces, *amounts), uris)
        data, pictures = (htmlsafe_json_dumps(own, allow_nan=False) for own in (data, [*uris]))
        text = templates().get_template("explore.html").render(data=data, uris=pictures, manifest=manifest).encode()
        if len(text) < LARGEST:
            break
    write_whole(folder / "explore.html", text)
    return folder / "explore.html"


def _shared(data: object, uris: dict[str, int]) -> object:
    """Return data for JSON in which each picture stands as its number in `uris`, where it is kept once."""
    if isinstance(data, dict):
        return {str(key): _shared(value, uris) for key, value in data.items()}
    if isinstance(data, (list, tuple)):
        return [_shared(value, uris) for value in data]
    if isinstance(data, str) and data.startswith("data:image/"):
        return {"uri": uris.setdefault(data, len(uris))}
    return data


def _told(folder: Path, manifest: dict, faces: FaceSet, patches: int, examples: int, most: int, units: int) -> dict:
    """Return all that the page shows, for each of its parts."""
    kept = lambda *places: _results(folder, faces, *places)  # noqa: E731
    told = {"before": "before the repair", "control": "control of the repair", "after": "after the repair"}
    repaired = kept(*(f"repair/share_{state}.zarr" for state in told))
    scores = [*kept("regions/*.zarr"), *(one.assign_attrs(model=told[one.attrs["model"]]) for one in repaired)]
    people, album = subjects(scores) if scores else [], Album(faces)
    regions = [row for place, subject in enumerate(people) for row in _of_regions(subject, place, faces, scores)]
    biases = {(one.attrs["model_fingerprint"], one.attrs["layer"]): one for one in kept("*/bias.zarr")}
    dissected = kept("*/dissection.zarr", "*/*/dissection.zarr")
    stages = {stage["name"]: stage for stage in manifest.get("stages", ())}
    audited = folder / "audit" / "groups.parquet"
    return {
        "regions": regions,
        "behind": [_behind(subject, album, patches, examples) for subject in people],
        "album": album.uris,
        "units": [_of_units(one, biases, faces, units) for one in dissected],
        "groups": _of_groups(pd.read_parquet(audited)) if audited.is_file() else [],
        "repair": [row for one in kept("repair/result.zarr") for row in _of_repair(one)],
        "faces": _of_faces(faces, [scores for subject in people for scores in subject.results], most),
        "said": {name: stage["findings"] for name, stage in stages.items()},
        "stages": [_of_stage(folder, one) for one in stages.values() if one["pictures"] and one.get("measured", 1)],
    }


def _results(folder: Path, faces: FaceSet, *places: str) -> list[xr.Dataset]:
    """Return the results of these names that this version of the kit made of these faces."""
    found, known = [read_result(path) for place in places for path in sorted(folder.glob(place))], {*faces.table.path}
    ours = [one for one in found if one.attrs.get("version") == version("facexkit")]
    return [one for one in ours if "image" not in one.coords or known >= {*one.image.values}]


def _of_regions(subject: Subject, place: int, faces: FaceSet, every: list[xr.Dataset]) -> list[dict]:
    """Return of each result on a class its map, in the colours of `every` one, its numbers, words and exchanges."""
    rows = []
    for scores in subject.results:
        turned = "turned_output" in scores and faces.masks is not None
        limit = scale_limit(*(other for other in each_class(every) if method_of(other) == method_of(scores)))
        rows.append({
            "model": subject.model, "class": subject.class_name, "method": result_title(scores), "behind": place,
            "explanation": method_of(scores).explanation,
            "svg": str(face_map(scores, title="", interactive=True, limit=limit)),
            "said": region_findings(scores), "exchanges": exchanges_told(scores, faces) if turned else None,
            "numbers": {name: [one.value if one.known else 0, one.text] for name, one in read_regions(scores).items()},
        })  # fmt: skip
    return rows


def _behind(subject: Subject, album: Album, patches: int, examples: int) -> dict:
    first = ranked(subject.results[0], missing=True)
    return {
        "regions": {one.region: behind(subject.results, one.region, album, patches, examples) for one in first},
        "first": first[0].region,
    }


def _of_units(found: xr.Dataset, biases: dict[tuple, xr.Dataset], faces: FaceSet, most: int) -> dict:
    """Return the units of a layer, the best detectors first, with what they can be sorted and chosen by."""
    told = UnitCards(found, biases.get((found.attrs["model_fingerprint"], found.attrs["layer"])), faces, _veiled)
    order = np.lexsort((-told.iou, told.unsure))[:most].tolist()
    leans = {a: told.bias.sel(attribute=a) for a in told.attributes}
    units = [{
        **told.card(unit), "iou": float(told.iou[unit]), "concept": told.best[unit],
        "area": str(told.ranked.area.values[unit]), "unsure": bool(told.unsure[unit]), "detail": told.detail(unit),
        "leans": [f"{a}: {own.leans_to.values[unit]}" for a, own in leans.items()],
        "lean": {a: float(np.nan_to_num(own.effect.values[unit])) for a, own in leans.items()},
    } for unit in order]  # fmt: skip
    made = {"layer": found.attrs["layer"], "model": model_of(found)}
    return {**made, "of": len(told.iou), "units": units, **told.offers()}


def _veiled(face: Image.Image, activation: np.ndarray, threshold: float) -> dict[str, str]:
    return {"picture": picture_uri(face), "veil": shade(activation, threshold)}


def _of_groups(table: pd.DataFrame) -> list[dict]:
    """Return of each attribute and metric the bars of every group, models one below the other."""
    found = []
    for (attribute, metric), own in table.groupby(["attribute_of", "metric"], sort=False):
        own = own.assign(label=pd.Categorical(own.label, own.label.unique())).sort_values("label", kind="stable")
        rows = [_bar(one) for one in own.itertuples()]
        found.append({"attribute": words(attribute), "metric": words(metric), "rows": rows})
    return found


def _bar(one: tuple) -> list:
    """Return a group's number, between 0 and 1, as the page draws it: name, length, text, whether it is compared."""
    interval = METHODS["share"].interval(one.value_low, one.value_high)
    behind = [f"95 % interval {interval}"] * bool(interval) + [f"{one.images:,} images"]
    behind += [] if one.ranked else ["too small to compare"]
    name = f"{label_of(one.attribute_of, str(one.label))} · {model_name(one.model)}"
    return [name, float(np.nan_to_num(one.value)), f"{percent(one.value)} ({', '.join(behind)})", bool(one.ranked)]


def _of_repair(found: xr.Dataset) -> list[dict]:
    """Return accuracy and shares on all held-out faces, and the metrics by group: before, control and after."""
    ends, tables = ("", "_low", "_high"), []
    for name, of in (("accuracy", "all held-out faces"), ("share", "regions")):
        if name in found:
            own = found[[f"{name}{end}" for end in ends]].rename({f"{name}{end}": f"value{end}" for end in ends})
            table = own.to_dataframe().reset_index().sort_values("value", ascending=False, kind="stable")
            label = table.part.map(title_of) if name == "share" else of
            tables.append(table.assign(label=label, attribute_of=of, metric=name, images=found.held_out, ranked=True))
    groups = found[["value", "value_low", "value_high", "images", "ranked"]].to_dataframe().reset_index()
    order = [str(name) for name in found.model.values]
    table = pd.concat([*tables, groups]).sort_values("model", key=lambda names: names.map(order.index), kind="stable")
    return _of_groups(table)


def _of_faces(faces: FaceSet, results: list[xr.Dataset], most: int) -> dict:
    """Return faces that were scored, evenly over the set, each with its labels and its scores in every result."""
    scored = list(dict.fromkeys(path for scores in results for path in scores.image.values)) or [*faces.table.path]
    shown = [scored[place] for place in np.unique(np.linspace(0, len(scored) - 1, most).astype(int))]
    table = faces.table.set_index("path").loc[shown].drop(columns="split", errors="ignore")
    labels = {c: as_labels(table[c]) for c in table if 2 <= table[c].nunique() <= MOST_VALUES}
    seen = Geometry.of(results[0].attrs) if results else Geometry()
    cards = [{
        "key": path, "title": path.rpartition("/")[2], "picture": picture_uri(face_as_seen(faces, path, SIDE, seen)),
        "text": labels[faces.target][k] if faces.target in labels else "",
        "labels": [f"{words(c)}: {group_title(c, own[k])}" for c, own in labels.items() if own[k]],
        "scores": [_of_face(scores, path) for scores in results],
    } for k, path in enumerate(shown)]  # fmt: skip
    groups = sorted({label for card in cards for label in card["labels"]})
    return {"cards": cards, "of": len(scored), "groups": [("", "all faces"), *((label, label) for label in groups)]}


def _of_face(scores: xr.Dataset, path: str) -> dict | None:
    """Return a face's output and its regions' largest scores in a result; None where it was not scored."""
    if path not in scores.indexes["image"] or "per_image" not in scores:
        return None
    one, say = scores.sel(image=path), method_of(scores).say
    largest = one.per_image.to_series().dropna().nlargest(BARS)
    said = "What {1} gives “{0}”: ".format(*names_of(scores)) + f"{float(one.output):.2f}.".replace("-", "−")
    return {"said": said, "rows": [[TITLES[region], float(v), say(v), False] for region, v in largest.items()]}


def _of_stage(folder: Path, stage: dict) -> dict:
    pictures = [[picture["uri"], picture["alt"]] for picture in shown_pictures(folder, stage["pictures"])]
    return {"title": stage["title"], "said": stage["findings"], "pictures": pictures}


if __name__ == "__main__":
    write_explorer(sys.argv[1])
