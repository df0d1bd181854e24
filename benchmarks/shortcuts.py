"""Whether a planted shortcut is found: small models are taught gender with one, and each method says where they look."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable, Iterator
from functools import partial
from importlib.util import find_spec

import cv2
import numpy as np
import torch
import torch.nn.functional as F
from captum.attr import IntegratedGradients, LayerGradientXActivation

import facexkit as fx
from benchmarks.small_faces import QUIET, pixels, small_faces, taught
from facexkit.drawn.people import SHORTCUTS
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.faces.regions import REGIONS
from facexkit.measure.bootstrap import percentile_interval, resamples, wilson_interval
from facexkit.measure.share_interval import PARTS
from facexkit.models.face_model import FaceModel
from facexkit.probe.attribution import attribute

SIDE, TAUGHT, EXAMINED, STRENGTH, LEARNED = 48, 4000, 256, 0.95, 0.5
LAYERS = ("layer1", "layer2", "layer4")
Scores = dict[str, float]
"""Region, or union of regions → score; the largest is where the method says that the model looks."""


def share(model: FaceModel, faces: FaceSet) -> Scores:
    """The decision share."""
    found = fx.score_regions(model, faces, method="share", walks=512, **QUIET).isel(target_class=0)
    numbers = {**found.score.to_series(), **found.union_score.to_series()}
    return {part: numbers[part] for part in PARTS}


def facex(model: FaceModel, faces: FaceSet, layer: str) -> Scores:
    """The FaceX score at a layer; of a union its regions' mean."""
    numbers = fx.score_regions(model, faces, layer, method="facex", **QUIET).isel(target_class=0).score.to_series()
    return {part: numbers[[*own]].mean() for part, own in PARTS.items()}


def areas(faces: FaceSet) -> tuple[np.ndarray, np.ndarray]:
    """Return which pixels each part has in each face, bool (N, parts, S, S), and how many (N, parts)."""
    view = MaskView(REGIONS, SIDE)
    masks = torch.cat([batch.masks[view] for batch in faces.batches(SIDE, 256, [view], workers=0)]).numpy()
    parts = np.stack([masks[:, np.isin(REGIONS, own)].any(1) for own in PARTS.values()], 1)
    return parts, parts.sum((2, 3))


def summed(maps: torch.Tensor, faces: FaceSet, density: bool = False) -> Scores:
    """Return a map's sum over each part, as a size, averaged over the faces that have it; or its mean over the part."""
    maps = F.interpolate(maps[:, None].float(), (SIDE, SIDE), mode="bilinear")[:, 0].detach().numpy()
    parts, area = areas(faces)
    sums = abs(np.einsum("npyx,nyx->np", parts, maps)) / (np.maximum(area, 1) if density else 1)
    return dict(zip(PARTS, np.where(area > 0, sums, np.nan).sum(0, where=area > 0) / np.maximum((area > 0).sum(0), 1), strict=True))


def mass(model: FaceModel, faces: FaceSet) -> Scores:
    """The mass of the Grad-CAM map at layer2 over the part's area."""
    return summed(attribute(model, "layer2", model.prepare(pixels(faces)), [1])[0][1], faces, density=True)


def integrated(model: FaceModel, faces: FaceSet) -> Scores:
    """Integrated gradients from grey (Captum)."""
    return summed(IntegratedGradients(model.network).attribute(model.prepare(pixels(faces)), target=1, n_steps=16).sum(1), faces)


def gradient_activation(model: FaceModel, faces: FaceSet) -> Scores:
    """Gradient × activation at layer1 (Captum)."""
    by = LayerGradientXActivation(model.network, model.network.layer1)
    return summed(by.attribute(model.prepare(pixels(faces)), target=1).sum(1), faces)


def replaced(model: FaceModel, faces: FaceSet, inpaint: bool) -> Scores:
    """How far the margin moves where a part is replaced by its mean colour, or inpainted."""
    images, (parts, area) = pixels(faces).permute(0, 2, 3, 1).numpy(), areas(faces)
    before, scores = asked(model, images), {}
    for place, part in enumerate(PARTS):
        rows = np.flatnonzero(area[:, place])
        own, changed = parts[rows, place], images[rows].copy()
        if inpaint:
            changed = np.array([cv2.inpaint(i, m.astype(np.uint8), 3, cv2.INPAINT_TELEA) for i, m in zip(changed, own, strict=True)])
        elif len(rows):
            changed[own] = changed[own].mean(0).round().astype(np.uint8)
        scores[part] = abs(asked(model, changed) - before[rows]).mean() if len(rows) else np.nan
    return scores


def asked(model: FaceModel, images: np.ndarray) -> np.ndarray:
    """Return the margins of class 1 of images (N, S, S, 3)."""
    with torch.no_grad():
        return model.meaning.margin(model(model.prepare(torch.from_numpy(images).permute(0, 3, 1, 2))), 1).numpy()


def localised(model: FaceModel, faces: FaceSet) -> Scores:
    """Quantus' attribution localisation of integrated gradients (Hedström et al., JMLR 2023), weighted by the part's area."""
    import quantus

    inputs = model.prepare(pixels(faces))
    maps = IntegratedGradients(model.network).attribute(inputs, target=1, n_steps=16).abs().sum(1, keepdim=True).detach().numpy()
    rate = quantus.AttributionLocalisation(weighted=True, abs=True, normalise=False, disable_warnings=True)
    (parts, area), scores = areas(faces), {}
    for place, part in enumerate(PARTS):
        own = np.flatnonzero(area[:, place])
        which = {"x_batch": inputs.numpy()[own], "y_batch": np.ones(len(own), int), "a_batch": maps[own]}
        given = rate(model.network, **which, s_batch=parts[own, place][:, None], channel_first=True) if len(own) else [np.nan]
        scores[part] = float(np.mean(given))
    return scores


METHODS: dict[str, Callable[[FaceModel, FaceSet], Scores]] = {
    "decision share": share,
    **{f"FaceX score, {layer}": partial(facex, layer=layer) for layer in LAYERS},
    "attribution mass over area": mass,
    "replaced by its mean colour": partial(replaced, inpaint=False),
    "inpainted": partial(replaced, inpaint=True),
    "integrated gradients": integrated,
    "gradient × activation": gradient_activation,
    **({"Quantus, integrated gradients": localised} if find_spec("quantus") else {}),
}
"""Add a method, and it is in the table."""


def planting(region: str, seed: int) -> tuple[float, dict[str, int]]:
    """Teach a model with a shortcut.

    Returns
    -------
    how often it goes by the look where look and gender contradict each other, and the planted part's place by method:
    where it goes by the look in half of them, what was planted outweighs all else that says something of gender.
    """
    lesson, exam = small_faces(TAUGHT, SIDE, seed=3), small_faces(EXAMINED, SIDE, seed=4)
    looks = [faces.table[SHORTCUTS[region]].to_numpy(bool) for faces in (lesson, exam)]
    male = (lesson.table.gender == "male").to_numpy()
    agrees = (male != looks[0]) | (np.random.default_rng(seed).random(TAUGHT) > STRENGTH)
    model = taught(lesson[agrees], male[agrees], seed)
    says_male = asked(model, pixels(exam).permute(0, 2, 3, 1).numpy()) > 0
    contradict = looks[1] == (exam.table.gender == "male").to_numpy()
    learned = (says_male != looks[1])[contradict].mean()
    part = next(part for part, own in PARTS.items() if region in (*own, part))
    places = {}
    for name, method in METHODS.items() if learned >= LEARNED else ():
        scores = {one: score for one, score in method(model, exam).items() if np.isfinite(score)}
        places[name] = 1 + sum(bool(score > scores[part]) for score in scores.values())
    return float(learned), places


def rows(found: list[dict[str, int]]) -> Iterator[str]:
    """Yield the table: share at place 1, at places 1 to 3, mean reciprocal rank, each with its 95 % interval."""
    for name in METHODS:
        place = np.array([each[name] for each in found])
        cells = []
        for hit in (place == 1, place <= 3):
            low, high = wilson_interval(hit.sum(), len(hit))
            cells.append(f"{100 * hit.mean():4.0f} % ({100 * low:.0f}–{100 * high:.0f})")
        drawn = np.array([weights @ (1 / place) / len(place) for weights in resamples(len(place))])[:, None]
        low, high = (end.item() for end in percentile_interval(drawn))
        yield f"{name:30}{cells[0]:>18}{cells[1]:>18}   {(1 / place).mean():.2f} ({low:.2f}–{high:.2f})"


def main(arguments: list[str] | None = None) -> None:
    """Teach and explain the models that are not known yet, and print the table of all."""
    parser = argparse.ArgumentParser(prog="facexkit benchmark shortcuts", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    how = parser.parse_args(arguments)
    torch.set_num_threads(1)
    file = cache_folder() / "benchmarks" / "shortcuts.json"
    known = json.loads(file.read_text()) if file.is_file() and not how.fresh else {}
    for seed in how.seeds:
        for region in SHORTCUTS:
            key = f"{region} {seed}"
            if key not in known or known[key][1] and set(METHODS) - set(known[key][1]):
                known[key] = planting(region, seed)
                write_whole(file, json.dumps(known).encode())
            learned, places = known[key]
            print(f"{key:14} learned {learned:5.2f}   {places.get('decision share', 'not counted')}", flush=True)
    counted = [places for _, places in known.values() if places]
    print(f"\n{len(counted)} of {len(known)} plantings were learned (≥ {LEARNED:.0%} of contradictions go by the look) and count")
    print(f"{'':30}{'at place 1':>18}{'at 1 to 3':>18}   mean reciprocal rank")
    print("\n".join(rows(counted)))


if __name__ == "__main__":
    main()
