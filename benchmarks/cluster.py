"""What shards cost: their states in bytes, writing them down, and two single-threaded workers beside one process.

By the clock the last column needs a machine that does nothing else; the ratio of processor time, of all processes of each
side with their start and their copies, says the same on a busy one. The cluster is there before, as it is kept.
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import psutil
import torch

import facexkit as fx
from benchmarks.files import faces_on_disk
from benchmarks.setting import CONCEPTS
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.measure.candidates import Candidates
from facexkit.measure.facex import HighImpactPatches, RegionScores
from facexkit.measure.per_image import Outputs
from facexkit.measure.recording import UnitSummary
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, Attributed
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run

SHARD, ROUNDS, BATCH = 64, 3, 16


def region_scores(model: FaceModel, faces: FaceSet) -> list[Accumulator]:
    paths, key = faces.table.path.to_numpy(object), Attributed("layer4", 1)
    return [RegionScores(key, paths, model.image_size), HighImpactPatches(key, paths, model.image_size)]


def dissection(model: FaceModel, faces: FaceSet) -> list[Accumulator]:
    return [Candidates("layer4", faces.table.path.to_numpy(object), 0.005, MaskView(CONCEPTS, 112), 1 << 30)]


def predictions(model: FaceModel, faces: FaceSet) -> list[Accumulator]:
    return [Outputs()]


def recording(model: FaceModel, faces: FaceSet) -> list[Accumulator]:
    return [UnitSummary(layer, faces.table) for layer in ("layer1", "layer2", "layer3", "layer4")]


JOBS: dict[str, Callable[[FaceModel, FaceSet], list[Accumulator]]] = {
    "region scores, one class": region_scores, "dissection, 8 concepts": dissection,
    "predictions": predictions, "unit maxima of 4 layers": recording,
}  # fmt: skip


def seconds(work: Callable[[], object]) -> np.ndarray:
    """Return how long a work takes by the clock, and how much processor time of this process and those below it."""
    start = _clocks()
    work()
    return _clocks() - start


def _clocks() -> np.ndarray:
    spent = [child.cpu_times() for child in psutil.Process().children(recursive=True)]
    return np.array([time.perf_counter(), sum(os.times()[:4]) + sum(each.user + each.system for each in spent)])


def main(only: str = "") -> None:
    """Print a row a job: bytes a shard, processor time a face, what writing costs, and how quick two workers are."""
    torch.set_num_threads(2)
    model = fx.load_model("torchvision:resnet18", num_classes=2, device="cpu")
    _, files = faces_on_disk()
    faces = files[np.arange(4 * SHARD) % len(files)]
    print(f"{len(faces)} faces from files at 224×224, ResNet-18, shards of {SHARD}, medians of {ROUNDS} rounds\n")
    print(f"{'':28}{'kB a shard':>12}{'ms a face':>12}{'written down':>14}{'two workers':>13}{'processor':>12}")
    for name in (name for name in JOBS if only in name):
        job, plain, kept, spread = JOBS[name], [], [], []
        for _ in range(ROUNDS + 1):
            with TemporaryDirectory() as folder:
                for times, more in ((plain, {}), (kept, {"folder": folder}), (spread, {"client": "local"})):
                    options = PassOptions(batch_size=BATCH, progress=False, **more)
                    times.append(seconds(lambda: run(model, faces, job(model, faces), options, shard=SHARD)))
                size = max(file.stat().st_size for file in Path(folder).glob("*/*"))
        plain, kept, spread = (np.array(times[1:]) for times in (plain, kept, spread))
        written, (quick, work) = np.median(kept[:, 1] / plain[:, 1]) - 1, np.median(plain / spread, 0)
        each = 1000 * np.median(plain[:, 1]) / len(faces)
        print(f"{name:28}{size / 1000:12,.0f}{each:12.1f}{written:14.1%}{quick:12.2f}×{work:11.2f}×", flush=True)


if __name__ == "__main__":
    main(*sys.argv[1:])
