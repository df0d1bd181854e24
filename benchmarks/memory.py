"""Peak memory of each pass at 200, 2,000 and 20,000 faces: each in a process of its own, on pictures that cost nothing."""

from __future__ import annotations

import argparse
import resource
import subprocess
import sys

import numpy as np
import pandas as pd
import torch
from PIL import Image

import facexkit as fx
from facexkit.faces.faceset import FaceSet
from facexkit.faces.regions import REGIONS
from facexkit.measure.tail_quantile import TailQuantile
from facexkit.models.face_model import FaceModel
from facexkit.models.small_network import SmallNetwork
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

FACES, SIDE = (200, 2_000, 20_000), 64
HOW = {"progress": False, "workers": 0}


class Noise:
    """Pictures by row number, and masks of four regions that cover them."""

    names = REGIONS

    def __init__(self, masks: bool) -> None:
        self.masks = masks

    def read(self, path: str) -> object:
        rng = np.random.default_rng(int(path))
        if not self.masks:
            return Image.fromarray(rng.integers(0, 256, (SIDE, SIDE, 3), np.uint8))
        cut = int(rng.integers(20, 44))
        rows = np.arange(SIDE)[:, None].repeat(SIDE, 1)
        return {"hair": rows < 15, "skin": (rows >= 15) & (rows < cut), "mouth": rows >= cut}

    def digest(self, path: str) -> bytes:
        return path.encode()


def faces_of(count: int) -> FaceSet:
    """Return so many pictures, each with a class and a group."""
    kinds = np.random.default_rng(0).integers(0, 2, (2, count))
    table = pd.DataFrame({"path": [f"{row:06d}" for row in range(count)]})
    table = table.assign(kind=np.array(["no", "yes"])[kinds[0]], group=np.array(["a", "b"])[kinds[1]])
    return FaceSet(table, Noise(False), Noise(True), name="noise", target="kind", protected=("group",))


def model_of() -> FaceModel:
    torch.manual_seed(0)
    return FaceModel(SmallNetwork(), name="small", image_size=SIDE, class_names=["no", "yes"], device="cpu")


def thresholds(model: FaceModel, faces: FaceSet) -> None:
    tail = TailQuantile("layer4", faces.table.path.to_numpy(object))
    run(model, faces, [tail], PassOptions(**HOW))
    tail.result()


JOBS = {
    "nothing but the import": lambda model, faces: None,
    "thresholds": thresholds,
    "dissect": lambda model, faces: fx.dissect(model, faces, "layer4", mask_size=32, **HOW),
    "score_regions": lambda model, faces: fx.score_regions(model, faces, "layer4", **HOW),
    "audit": lambda model, faces: fx.audit(model, faces, replicates=100, **HOW),
    "unit_effects": lambda model, faces: fx.unit_effects(model, faces, "layer4", "group", range(8), **HOW),
}


def main() -> None:
    """Print a row a job; with a job and a number of faces, do it and print the peak in MB."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.memory", description=__doc__)
    parser.add_argument("job", nargs="?", choices=JOBS)
    parser.add_argument("faces", nargs="?", type=int)
    asked = parser.parse_args()
    if asked.job:
        torch.set_num_threads(1)
        JOBS[asked.job](model_of(), faces_of(asked.faces))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
        return
    print(f"{'peak memory in MB':26}" + "".join(f"{count:>10,}" for count in FACES) + f"{'growth':>10}")
    for job in JOBS:
        command = [sys.executable, "-m", "benchmarks.memory", job]
        peaks = [int(subprocess.check_output([*command, str(count)], text=True)) for count in FACES]
        print(f"{job:26}" + "".join(f"{peak:10,}" for peak in peaks) + f"{peaks[-1] / peaks[0] - 1:10.0%}")


if __name__ == "__main__":
    main()
