"""One face with what the model makes of it: prediction, map, outlines of its regions, region scores, active units."""

from __future__ import annotations

import cv2
import numpy as np
import xarray as xr
from PIL import Image

from facexkit.faces.faceset import FaceSet
from facexkit.faces.masks import untold
from facexkit.faces.preview import COLOURS
from facexkit.faces.regions import REGIONS, TITLES
from facexkit.measure.one_face import measure_face
from facexkit.measure.share_interval import PARTS
from facexkit.models.face_model import FaceModel
from facexkit.show.pictures import face_as_seen, picture_uri, veil
from facexkit.show.readings import everything_else
from facexkit.show.widgets.base import SESSION

SIDE, MOST = 320, 8


def look_at(
    model: FaceModel, faces: FaceSet, path: str, layer: str, target: int, found: xr.Dataset | None = None
) -> dict:
    """Return what is shown at once of one face of a set: pictures as data URIs, a sentence, and tables of bars.

    Parameters
    ----------
    found : what `dissect` gave for the layer; a unit's answer is then told as a share of its range over the set.
    """
    seen, names = SESSION.now(measure_face, model, faces, path, layer, target, found), model.class_names
    chances, answer = seen.probability.to_numpy(), seen.answer.to_numpy()
    order, most = (np.argsort(-values, kind="stable")[:MOST] for values in (chances, answer))
    tables = [("Prediction", [[names[k], float(chances[k]), f"{chances[k]:.0%}", bool(k == target)] for k in order])]
    if "score" in seen:
        regions = seen.score.to_series().reindex([*PARTS]).dropna().sort_values(ascending=False)[:MOST]
        titles = TITLES | ({REGIONS[0]: everything_else(lost)} if (lost := untold(faces.masks)) else {})
        tables.append(("FaceX score of its regions", [[titles[r], v, f"{v:.2f}", False] for r, v in regions.items()]))
    of = "of their range over the set" if found is not None else "of the first"
    units = [[f"unit {u}", float(answer[u]), f"{answer[u]:.0%}", False] for u in most]
    tables.append((f"Most active units of {layer} ({of})", units))
    label = faces.table[faces.target][faces.table.path == path].iloc[0] if faces.target else None
    said = f"{model.name} says “{names[order[0]]}” ({chances[order[0]]:.0%})"
    return {
        "name": path, "tables": tables, "face": picture_uri(face_as_seen(faces, path, SIDE, model.preprocess)),
        "outlines": _outlines(model.preprocess.masks(faces.masks.read(path)) if faces.masks is not None else {}),
        "veil": picture_uri(veil(seen.attribution.to_numpy(), SIDE // 2)),
        "said": said + (f", labelled “{label}”" if faces.target else "") + f"; the map is of “{names[target]}”.",
    }  # fmt: skip


def _outlines(masks: dict[str, np.ndarray]) -> str:
    """Return the edges of the regions in their colours on nothing, as a data URI, "" without masks."""
    drawn = np.zeros((SIDE, SIDE, 4), np.uint8)
    for name in (region for region in REGIONS[1:] if region in masks):
        small = cv2.resize(masks[name].astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        edges, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(drawn, edges, -1, (255, 255, 255, 255), 3)
        cv2.drawContours(drawn, edges, -1, (*bytes.fromhex(COLOURS[name][1:]), 255), 1)
    return picture_uri(Image.fromarray(drawn, "RGBA")) if drawn.any() else ""
