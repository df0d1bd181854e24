"""One face with what the model makes of it: prediction, map, outlines of its regions, region scores, active units."""

from __future__ import annotations

import cv2
import numpy as np
import xarray as xr
from PIL import Image

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.preview import COLOURS
from facexkit.faces.regions import REGIONS, TITLES
from facexkit.measure.facex import RegionScores, scaled
from facexkit.measure.margins import probabilities
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Attributed
from facexkit.probe.attribution import attribute
from facexkit.probe.hooks import capture
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.show.pictures import picture_uri, face_as_seen, veil

SIDE, MOST = 320, 8


def look_at(
    model: FaceModel, faces: FaceSet, path: str, layer: str, target: int, found: xr.Dataset | None = None
) -> dict:
    """Return what is shown of one face of a set: pictures as data URIs, a sentence, and tables of bars.

    Parameters
    ----------
    found : what `dissect` gave for the layer; a unit's answer is then told as a share of its range over the set.
    """
    one = faces[(faces.table.path == path).to_numpy()]
    batch = next(one.batches(model.image_size, 1)) if len(one) else None
    if batch is None or batch.skipped:
        raise FacexkitError(f"{path}: {batch.skipped[0][2] if batch else f'there is no such face in {faces.name}'}")
    with capture(model, [layer]) as taken:
        maps, outputs = attribute(model, layer, model.prepare(batch.images), [target])
    (chances,), names = probabilities(outputs.double()).cpu().numpy(), model.class_names
    order = np.argsort(-chances)[:MOST]
    tables = [("Prediction", [[names[k], float(chances[k]), f"{chances[k]:.0%}", bool(k == target)] for k in order])]
    masks = one.masks.read(path) if one.masks is not None else {}
    if REGIONS[1] in masks:
        scores = RegionScores(Attributed(layer, target), one.table.path.to_numpy(object), model.image_size)
        run(model, one, [scores], PassOptions(progress=False, workers=0))
        regions = scores.result().per_image[0].to_series().dropna().sort_values(ascending=False)[:MOST]
        tables.append(("FaceX score of its regions", [[TITLES[r], v, f"{v:.2f}", False] for r, v in regions.items()]))
    peaks = taken[layer].detach().float().amax((2, 3))[0].cpu().numpy()
    low, high = (found.minimum.to_numpy(), found.maximum.to_numpy().max(0)) if found is not None else (0, peaks.max())
    answer = (peaks - low) / np.where(high > low, high - low, np.inf)
    most = np.argsort(-answer, kind="stable")[:MOST]
    of = "of their range over the set" if found is not None else "of the first"
    units = [[f"unit {u}", float(answer[u]), f"{answer[u]:.0%}", False] for u in most]
    tables.append((f"Most active units of {layer} ({of})", units))
    label = f", labelled “{one.table[one.target].iloc[0]}”" if one.target else ""
    return {
        "name": path, "tables": tables, "face": picture_uri(face_as_seen(one, path, SIDE)), "outlines": _outlines(masks),
        "veil": picture_uri(veil(scaled(maps[target])[0].cpu().numpy(), SIDE // 2)),
        "said": f"{model.name} says “{names[order[0]]}” ({chances[order[0]]:.0%}){label}; "
        f"the map is of “{names[target]}”.",
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
