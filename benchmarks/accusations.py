"""How often a region that carries nothing is accused: models without a plant, whose shares on many more faces are known."""

from __future__ import annotations

import argparse
from collections.abc import Callable, Iterator

import numpy as np
import torch
import xarray as xr

import facexkit as fx
from benchmarks.small_faces import QUIET, small_faces, taught, untaught
from facexkit.faces.faceset import FaceSet
from facexkit.measure.bootstrap import wilson_interval
from facexkit.measure.share_interval import PARTS, accused
from facexkit.models.face_model import FaceModel

SIDE, TAUGHT, ASKED, MANY, WALKS, NOTHING = 32, 4000, 512, 2500, 512, 0.01


def fair(lesson: FaceSet, seed: int) -> FaceModel:
    """Taught gender, with nothing planted."""
    return taught(lesson, lesson.table.gender == "male", seed)


def random_weights(lesson: FaceSet, seed: int) -> FaceModel:
    """Taught nothing."""
    return untaught(SIDE, seed)


def shuffled_labels(lesson: FaceSet, seed: int) -> FaceModel:
    """Taught labels that say nothing of the faces."""
    return taught(lesson, np.random.default_rng(seed).permutation(lesson.table.gender == "male"), seed)


def suppressor(lesson: FaceSet, seed: int) -> FaceModel:
    """Taught the colour of the clothes, from faces whose background is of the same kind in 9 of 10."""
    clothes, background = (lesson.table[name].to_numpy(bool) for name in ("warm_clothes", "warm_background"))
    kept = (clothes == background) | (np.random.default_rng(seed).random(len(lesson)) < 0.11)
    return taught(lesson[kept], clothes[kept], seed)


KINDS: dict[str, Callable[[FaceSet, int], FaceModel]] = {
    "fair": fair, "random weights": random_weights, "shuffled labels": shuffled_labels, "suppressor": suppressor,
}  # fmt: skip


def shares(model: FaceModel, faces: FaceSet, walks: int) -> xr.Dataset:
    """Return the decision shares, from so many pairs."""
    how = {"images": len(faces), "walks": walks, "half_width": 0.0, **QUIET}
    return fx.score_regions(model, faces, method="share", **how).isel(target_class=0)


def verdicts(kind: str, models: int) -> Iterator[tuple[list[str], list[str], list[str]]]:
    """Yield of each model the regions that a sentence accuses, those that `low > 0` would, and those that carry nothing."""
    lesson, asked, many = (small_faces(n, SIDE, seed) for n, seed in ((TAUGHT, 1), (ASKED, 5), (MANY, 6)))
    for seed in range(models):
        model = KINDS[kind](lesson, seed)
        found, true = shares(model, asked, WALKS), shares(model, many, MANY)
        known = {**true.score.to_series(), **true.union_score.to_series()}
        low = {**found.score_low.to_series(), **found.union_score_low.to_series()}
        nothing = [part for part in PARTS if abs(known[part]) <= NOTHING]
        yield accused(found), [part for part in PARTS if low[part] > 0], nothing


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(prog="facexkit benchmark accusations", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=[*KINDS], help=", ".join(KINDS))
    parser.add_argument("--models", type=int, default=10, help="of each kind")
    how = parser.parse_args(arguments)
    torch.set_num_threads(1)
    print(f"{'':18}{'models':>8}{'accused':>9}{'falsely':>9}   models with a false accusation; by low > 0 alone")
    for kind in how.kinds:
        found = list(verdicts(kind, how.models))
        wrong = [{*said} & {*nothing} for said, _, nothing in found]
        naive = sum(bool({*said} & {*nothing}) for _, said, nothing in found)
        low, high = wilson_interval(sum(map(bool, wrong)), len(found))
        print(
            f"{kind:18}{len(found):8}{sum(len(said) for said, _, _ in found):9}{sum(map(len, wrong)):9}   "
            f"{sum(map(bool, wrong))} ({100 * low:.0f}–{100 * high:.0f} %); {naive}",
            flush=True,
        )


if __name__ == "__main__":
    main()
