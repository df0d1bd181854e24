"""One face with what the model makes of it: prediction, map, outlines of its regions, region scores, active units."""

from __future__ import annotations

import cv2
import numpy as np
import torch
import xarray as xr
from PIL import Image
from scipy.special import softmax

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet, MaskView, named_mask
from facexkit.faces.preview import COLOURS
from facexkit.faces.regions import REGIONS, TITLES
from facexkit.measure.decision_share import are_probabilities
from facexkit.measure.facex import RegionScores, scaled
from facexkit.models.face_model import FaceModel
from facexkit.probe.attribution import attribute
from facexkit.probe.hooks import capture
from facexkit.probe.stream import stream
from facexkit.show.pictures import data_uri, face_as_seen, veil

SIDE, MOST = 320, 8


def look_at(
    model: FaceModel, faces: FaceSet, path: str, layer: str, target: int, found: xr.Dataset | None = None
) -> dict[str, object]:
    """Return what is shown of one face of a set: pictures as data URIs, a sentence, and tables of bars.

    Parameters
    ----------
    found : what `dissect` gave for the layer; a unit's answer is then told as a share of its range over the set.
    """
    one = faces[(faces.table.path == path).to_numpy()]
    if not len(one):
        raise FacexkitError(f"there is no face {path!r} in {faces.name!r}")
    batch = next(one.batches(model.image_size, 1))
    if batch.skipped:
        raise FacexkitError(f"{path} cannot be decoded: {batch.skipped[0][2]}")
    inputs = model.prepare(batch.images)
    maps, outputs = attribute(model, layer, inputs, [target])
    with torch.no_grad(), capture(model, [layer], stop=True) as taken:
        model(inputs)
    chances = chances_of(outputs)[0]
    order, names = np.argsort(-chances)[:MOST], model.class_names
    tables = [("Prediction", [[names[k], float(chances[k]), f"{chances[k]:.0%}", bool(k == target)] for k in order])]
    masks = one.masks.read(path) if one.masks is not None else {}
    if any(named_mask(masks, region) is not None for region in REGIONS):
        scores = RegionScores(layer, target, one.table.path.to_numpy(object), model.image_size)
        stream(model, one, [scores], progress=False, workers=0)
        per_region = scores.result().per_image[0].to_series().dropna().sort_values(ascending=False)[:MOST]
        tables.append(("FaceX score of its regions", [[TITLES[r], v, f"{v:.2f}", False] for r, v in per_region.items()]))
    peaks = taken[layer].float().amax((2, 3))[0].cpu().numpy()
    tables.append((f"Most active units of {layer}", _active(peaks, found)))
    label = f", labelled “{one.table[one.target].iloc[0]}”" if one.target else ""
    said = f"{model.name} says “{names[order[0]]}” ({chances[order[0]]:.0%}){label}; the map is of “{names[target]}”."
    lines = _outlines(masks)
    return {
        "name": path, "said": said, "tables": tables, "face": data_uri(face_as_seen(one, path, SIDE)),
        "veil": data_uri(veil(scaled(maps[target])[0].cpu().numpy(), 160)), "outlines": data_uri(lines) if lines else "",
    }  # fmt: skip


def chances_of(outputs: torch.Tensor) -> np.ndarray:
    """Return probabilities (B, classes) of a model's outputs."""
    values = outputs.double().cpu()
    return values.numpy() if are_probabilities(values) else softmax(values.numpy(), axis=1)


def _active(peaks: np.ndarray, found: xr.Dataset | None) -> list[list]:
    if found is None:
        shares, said = peaks / max(peaks.max(), 1e-9), "{:.2f}"
    else:
        low, high = found.minimum.to_numpy(), found.maximum.to_numpy().max(0)
        shares, said = (peaks - low) / np.where(high > low, high - low, np.inf), "{:.0%} of its range"
    values = peaks if found is None else shares
    return [[f"unit {u}", float(shares[u]), said.format(values[u]), False] for u in np.argsort(-shares, kind="stable")[:MOST]]


def _outlines(masks: dict[str, np.ndarray]) -> Image.Image | None:
    """Return the edges of the regions in their colours on nothing, RGBA, or None without masks."""
    drawn = np.zeros((SIDE, SIDE, 4), np.uint8)
    for name in (region for region in REGIONS[1:] if region in masks):
        small = cv2.resize(masks[name].astype(np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST)
        edges, _ = cv2.findContours(small, cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        colour = tuple(int(COLOURS[name][k : k + 2], 16) for k in (1, 3, 5))
        cv2.drawContours(drawn, edges, -1, (255, 255, 255, 255), 3)
        cv2.drawContours(drawn, edges, -1, (*colour, 255), 1)
    return Image.fromarray(drawn, "RGBA") if drawn.any() else None
