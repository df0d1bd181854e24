"""What small models look at that were taught real photographs: is the mouth open, does the face wear glasses?

Nobody planted anything, so there is no truth to hit; what each method names is printed beside how often the model is right.
"""

from __future__ import annotations

import argparse

import cv2
import numpy as np
import torch
from PIL import Image

import facexkit as fx
from benchmarks.shortcuts import METHODS, SIDE, asked
from benchmarks.small_faces import Held, pixels, taught_of
from facexkit.faces.cache import cache_folder
from facexkit.faces.faceset import FaceSet, ImageSource, MaskSource
from facexkit.measure.bootstrap import wilson_interval

TARGETS, FOLDS, EPOCHS = ("mouth_open", "eyeglasses"), 5, 12


class Shrunk:
    """Photographs, or their masks, of `SIDE`×`SIDE` pixels."""

    def __init__(self, source: ImageSource | MaskSource) -> None:
        self.source = source

    def read(self, path: str) -> Image.Image | dict[str, np.ndarray]:
        """Return the picture of a path, or its masks."""
        whole = self.source.read(path)
        if isinstance(whole, Image.Image):
            return whole.resize((SIDE, SIDE))
        small = {n: cv2.resize(np.asarray(m, np.uint8), (SIDE, SIDE), interpolation=cv2.INTER_NEAREST_EXACT) for n, m in whole.items()}
        return {name: mask.astype(bool) for name, mask in small.items()}


def shrunk(folder: str) -> FaceSet:
    """Return the photographs of a folder of CelebAMask-HQ, small and in memory."""
    faces = fx.load_faces("celebamask_hq", root=folder)
    small = FaceSet(faces.table, Shrunk(faces.images), Shrunk(faces.masks), name="photographs")
    file = cache_folder() / "benchmarks" / f"photographs_{faces.fingerprint()}_{SIDE}.npz"
    held = (Held(small, kind, file) for kind in ("images", "masks"))
    return FaceSet(faces.table, *held, name=f"{len(faces)} photographs")


def of_folds(faces: FaceSet, target: str, seed: int) -> tuple[np.ndarray, dict[str, list[list[str]]]]:
    """Teach a model without each fifth of the photographs, and explain it on that fifth.

    Returns
    -------
    bool (N,), where the model that did not see the photograph is right; and for each method the parts by fold, first one first.
    """
    truth, right = faces.table[target].to_numpy(int), np.zeros(len(faces), bool)
    fold = np.random.default_rng(seed).permutation(len(faces)) % FOLDS
    named: dict[str, list[list[str]]] = {name: [] for name in METHODS}
    for own in range(FOLDS):
        lesson, exam = faces[fold != own], faces[fold == own]
        labels = truth[fold != own]
        rare = np.flatnonzero(labels == (labels.mean() < 0.5))
        again = np.r_[np.arange(len(labels)), np.tile(rare, max(0, len(labels) // len(rare) - 2))]  # both classes as often
        images = pixels(lesson)[again]
        model = taught_of(torch.cat([images, images.flip(3)]), np.tile(labels[again], 2), seed, EPOCHS)
        right[fold == own] = (asked(model, pixels(exam).permute(0, 2, 3, 1).numpy()) > 0) == truth[fold == own]
        for name, method in METHODS.items():
            scores = {part: score for part, score in method(model, exam).items() if np.isfinite(score)}
            named[name].append(sorted(scores, key=scores.get, reverse=True))
    return right, named


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and print a table for each label."""
    parser = argparse.ArgumentParser(prog="facexkit benchmark photographs", description=__doc__)
    parser.add_argument("folder", help="of CelebAMask-HQ: images, masks and annotations.csv")
    parser.add_argument("--seed", type=int, default=0)
    how = parser.parse_args(arguments)
    torch.set_num_threads(1)
    faces = shrunk(how.folder)
    for target in TARGETS:
        right, named = of_folds(faces, target, how.seed)
        print(f"\n{target}: {FOLDS} models, each asked of the photographs that it was not taught")
        for value, own in faces.table.groupby(target).groups.items():
            low, high = wilson_interval(right[own].sum(), len(own))
            print(f"  right where {target} = {value}: {100 * right[own].mean():.0f} % ({100 * low:.0f}–{100 * high:.0f}) of {len(own)}")
        for name, folds in named.items():
            print(f"  {name:30} first: {', '.join(parts[0] for parts in folds)}", flush=True)


if __name__ == "__main__":
    main()
