"""What one shard of 512 faces sends and what the client does with it, layer by layer: the figures behind docs/cluster.md.

    python -m benchmarks.paper
"""

from __future__ import annotations

import time

import numpy as np
import torch

import facexkit as fx
from benchmarks.setting import CONCEPTS
from facexkit.faces.faceset import FaceSet
from facexkit.faces.mask_view import MaskView
from facexkit.measure.candidates import Candidates
from facexkit.measure.recording import UnitSummary
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.shards import states_of, take_states

FACES, SHARD = 10_000_000, 512
LAYERS = ("layer1", "layer2", "layer3", "layer4")


def first_looks(paths: np.ndarray) -> list[Candidates]:
    """Return a dissection's first look at each layer, as it is where there is no room for maps or values."""
    return [Candidates(layer, paths, 0.005, MaskView(CONCEPTS, 112), 0) for layer in LAYERS]


def shard_of(model: FaceModel, faces: FaceSet, accumulators: list[Accumulator]) -> float:
    """Run one shard and return its seconds of processor time."""
    start = time.process_time()
    run(model, faces, accumulators, PassOptions(progress=False, workers=0))
    return time.process_time() - start


def main() -> None:
    torch.set_num_threads(1)
    model = fx.load_model("torchvision:resnet18", num_classes=2, device="cpu")
    faces = fx.load_faces("synthetic", limit=SHARD)
    paths = np.empty(FACES, object)
    settled, first, later = (first_looks(p) for p in (faces.table.path.to_numpy(object), paths, paths))
    shard_of(model, faces, settled)
    for late, small in zip(later, settled, strict=True):
        late.tail.floor = small.tail.floor  # as when a part of all the faces has passed
    spent = [shard_of(model, faces, looks) for looks in (first, later)]
    records = [UnitSummary(layer, faces.table) for layer in LAYERS]
    shard_of(model, faces, records)
    print(f"one shard of {SHARD} faces, of {FACES:,}; ResNet-18 at 224×224, all four layers: {spent[1]:.1f} s of one core\n")
    print(f"{'':8}{'units':>7}{'maxima kB':>11}{'counts kB, first':>18}{'later':>7}{'a unit, later':>15}{'merging ms':>12}")
    for early, late in zip(first, later, strict=True):
        states = states_of([late])
        counts = [sum(a.nbytes for a in look.tail.arrays().values()) for look in (early, late)]
        maxima = sum(a.nbytes for a in late.seen.arrays().values())
        total, own = late.fresh(), late.fresh()
        start = time.process_time()
        take_states([own], states)
        total.merge(own)
        merging = 1000 * (time.process_time() - start)
        units = len(late.tail.floor)
        kB = f"{maxima / 1000:11,.0f}{counts[0] / 1000:18,.0f}{counts[1] / 1000:7,.0f}{counts[1] / units:13,.0f} B"
        print(f"{late.layer:8}{units:7}{kB}{merging:12.1f}")
    summary = sum(a.nbytes for a in states_of(records).values())
    print(f"\nunit maxima and means of the four layers, as `record` sends them: {summary / 1000:,.0f} kB a shard")


if __name__ == "__main__":
    main()
