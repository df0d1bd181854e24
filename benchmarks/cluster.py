"""What shards cost: their states in bytes, writing them down, and two single-threaded workers beside one process."""

from __future__ import annotations

import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory

import numpy as np
import torch
from distributed import Client, LocalCluster

import facexkit as fx
from benchmarks.files import faces_on_disk
from benchmarks.setting import CONCEPTS
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.measure.candidates import Candidates
from facexkit.measure.facex import HighImpactPatches, RegionScores
from facexkit.measure.predictions import Outputs
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


def seconds(work: Callable[[], object]) -> float:
    start = time.perf_counter()
    work()
    return time.perf_counter() - start


def main() -> None:
    """Print a row a job: bytes a shard, the cost of writing them, and how quick two workers are."""
    torch.set_num_threads(2)
    model = fx.load_model("torchvision:resnet18", num_classes=2, device="cpu")
    _, files = faces_on_disk()
    faces = files[np.arange(4 * SHARD) % len(files)]
    print(f"{len(faces)} faces from files at 224×224, ResNet-18, shards of {SHARD}, medians of {ROUNDS} rounds\n")
    print(f"{'':28}{'kB a shard':>12}{'ms a face':>12}{'written down':>14}{'two workers':>13}")
    how = {"n_workers": 2, "threads_per_worker": 1, "dashboard_address": None, "host": "127.0.0.1"}
    with LocalCluster(**how) as cluster, Client(cluster) as client:
        for name, job in JOBS.items():
            plain, kept, spread, size = [], [], [], 0
            for _ in range(ROUNDS + 1):
                with TemporaryDirectory() as folder:
                    for times, more in ((plain, {}), (kept, {"folder": folder}), (spread, {"client": client})):
                        options = PassOptions(batch_size=BATCH, progress=False, **more)
                        times.append(seconds(lambda: run(model, faces, job(model, faces), options, shard=SHARD)))
                    size = max(file.stat().st_size for file in Path(folder).glob("*/*"))
            written, quick = (median(a / b for a, b in zip(x[1:], y[1:])) for x, y in ((kept, plain), (plain, spread)))
            each = 1000 * median(plain[1:]) / len(faces)
            print(f"{name:28}{size / 1000:12,.0f}{each:12.1f}{written - 1:14.1%}{quick:12.2f}×")


if __name__ == "__main__":
    main()
