"""Whether the exchange takes a planted shortcut out of a model that has learned it: eight plantings, three seeds each.

python -m benchmarks.repairs [--seeds 0 1 2] prints a line each, and how often the worst group gains 30 points.
With --photographs FOLDER, one of CelebAMask-HQ's, the hair of a few photographs is tinted by gender instead: a cast that
most of the lessons share with the label and half of the others contradict.
"""

from __future__ import annotations

import argparse
import json

import cv2
import numpy as np
import torch
from PIL import Image

import facexkit as fx
from benchmarks.small_faces import QUIET, small_faces, taught, taught_of
from facexkit.drawn.people import SHORTCUTS
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.measure.bootstrap import wilson_interval
from facexkit.measure.share_interval import PARTS
from facexkit.mend.repair import STATES

SIDE, TAUGHT, EXAMINED, STRENGTH, GAIN, LEARNED = 48, 4000, 1000, 0.95, 0.3, 0.3
PLANTED = [region for region in SHORTCUTS if region not in ("hair", "skin")]
"""Hair and skin are where the drawn faces of the two genders differ, so nothing is left to learn without them."""


def planting(region: str, seed: int) -> dict[str, list[float]]:
    """Teach a model with a shortcut and repair it.

    Returns
    -------
    before, control and after: accuracy of the worst group, of all faces, and the share of the region; and the seconds.
    """
    faces = small_faces(TAUGHT + EXAMINED, SIDE, seed=5)
    male, look = (faces.table.gender == "male").to_numpy(), faces.table[SHORTCUTS[region]].to_numpy(bool)
    test, agrees = np.arange(len(faces)) >= TAUGHT, male != look
    faces.table["split"], faces.table["agrees"] = np.where(test, "test", "train"), np.where(agrees, "agree", "contradict")
    kept = test | agrees | (np.random.default_rng(seed).random(len(faces)) > STRENGTH)
    lesson, part = kept & ~test, next(part for part, own in PARTS.items() if region in (*own, part))
    model = taught(faces[lesson], male[lesson], seed)
    found = fx.repair(model, faces[kept], part, protected="agrees", seed=seed, **{**QUIET, "batch_size": 32}).result
    numbers = {"worst": found.worst, "all": found.accuracy, "share": found.share.sel(part=part)}
    gap = found.value.sel(metric="accuracy", model="before").diff("group").item()
    return {name: own.to_numpy().tolist() for name, own in numbers.items()} | {"learned": abs(gap)}


class Tinted:
    """Photographs with a cast of red or blue over the hair.

    Parameters
    ----------
    red : path → whether.
    """

    def __init__(self, faces: FaceSet, red: dict[str, bool]) -> None:
        self.images, self.masks, self.red = faces.images, faces.masks, red

    def read(self, path: str) -> Image.Image:
        """Return the photograph with its cast."""
        pixels, hair = np.array(self.images.read(path)).astype(float), self.masks.read(path).get("hair")
        if hair is not None:
            inside = cv2.resize(hair.astype(np.uint8), pixels.shape[1::-1], interpolation=cv2.INTER_NEAREST) > 0
            pixels[inside, 0 if self.red[path] else 2] += 70
        return Image.fromarray(pixels.clip(0, 255).astype(np.uint8))

    def digest(self, path: str) -> bytes:
        """Return bytes that change with picture and cast."""
        return self.images.digest(path) + bytes([int(self.red[path])])


def photographs(folder: str, seed: int) -> dict[str, list[float]]:
    """Teach a small model gender on two thirds of the photographs, with the cast, and repair it; see `planting`."""
    faces, dice = fx.load_faces("celebamask_hq", root=folder, target="gender"), np.random.default_rng(seed)
    male, test = (faces.table.gender == "male").to_numpy(), dice.permutation(len(faces)) % 3 == 0
    agrees = dice.random(len(faces)) < np.where(test, 0.5, STRENGTH)
    faces.table["split"], faces.table["agrees"] = np.where(test, "test", "train"), np.where(agrees, "agree", "contradict")
    faces.images = Tinted(faces, dict(zip(faces.table.path, male == agrees, strict=True)))
    batches = [batch.images for batch in faces[~test].batches(64, 64, workers=0)]
    model = taught_of(torch.cat(batches), male[~test], seed, epochs=12)
    found = fx.repair(model, faces, "hair", protected="agrees", seed=seed, epochs=12, **{**QUIET, "batch_size": 16}).result
    names = {"worst": "worst", "all": "accuracy"}
    told = {name: [found[f"{own}{end}"].to_numpy().tolist() for end in ("", "_low", "_high")] for name, own in names.items()}
    ends = ("", "_low", "_high")
    return told | {"share": [found[f"share{end}"].sel(part="hair").to_numpy().tolist() for end in ends]}


def main() -> None:
    """Teach and repair what is not known yet, and print all."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.repairs", description=__doc__)
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    parser.add_argument("--photographs", help="folder of CelebAMask-HQ: images, masks and annotations")
    how = parser.parse_args()
    torch.set_num_threads(1)
    for seed in how.seeds if how.photographs else ():
        for name, ends in photographs(how.photographs, seed).items():
            cells = (f"{state} {100 * v:.0f} ({100 * l:.0f}–{100 * h:.0f})" for state, v, l, h in zip(STATES, *ends, strict=True))
            print(f"seed {seed}, {name}: {', '.join(cells)}", flush=True)
    if how.photographs:
        return
    file = cache_folder() / "benchmarks" / "repairs.json"
    known, gains = json.loads(file.read_text()) if file.is_file() else {}, []
    print(f"{'':16}worst group: before, control, after   all faces            share of the region")
    for seed in how.seeds:
        for region in PLANTED:
            if (key := f"{region} {seed}") not in known:
                known[key] = planting(region, seed)
                write_whole(file, json.dumps(known).encode())
            cells = ["  ".join(f"{100 * number:4.0f}" for number in known[key][name]) for name in ("worst", "all", "share")]
            counts = known[key]["learned"] >= LEARNED
            gains += [known[key]["worst"][2] - known[key]["worst"][0]] if counts else []
            print(f"{key:16}{cells[0]:>36}   {cells[1]}   {cells[2]}{'' if counts else '   not learned'}", flush=True)
    hits, (low, high) = int(np.sum(np.array(gains) >= GAIN)), wilson_interval(np.sum(np.array(gains) >= GAIN), len(gains))
    print(f"\n{hits} of {len(gains)} learned plantings gain {100 * GAIN:.0f} points ({100 * low:.0f}–{100 * high:.0f} %)")


if __name__ == "__main__":
    main()
