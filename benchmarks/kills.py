"""Kills passes and trainings at random moments, starts them again until they end, and compares with the undisturbed result.

    python -m benchmarks.kills --kills 20 --seed 0

Every try is a process of its own, ended by SIGKILL. The shards are small, so that a small set has many.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import xarray as xr
from torch import nn

import facexkit as fx
from facexkit.drawn import demo
from facexkit.faces.cache import remove_strays
from facexkit.faces.faceset import FaceSet
from facexkit.measure import recording
from facexkit.models import training
from facexkit.models.face_model import FaceModel
from facexkit.probe.run import run
from facexkit.probe.shards import ShardFiles
from facexkit.systems.fineface_training import train_fineface

ROWS_IN_A_SHARD = 32
LAYER = "layer3"

Result = Mapping[str, np.ndarray]
Work = Callable[[FaceModel, FaceSet, dict, Path], Iterable[xr.Dataset | Result]]
"""`(model, faces, options of the pass, folder to write into) → results`."""


def recorded(model: FaceModel, faces: FaceSet, how: dict, out: Path) -> Iterable[xr.Dataset]:
    yield from fx.record(model, faces, LAYER, store=out / "maps.zarr", **how).values()
    yield xr.open_zarr(out / "maps.zarr", group=LAYER).load()


def taught_demo(model: FaceModel, faces: FaceSet, how: dict, out: Path) -> Iterable[Result]:
    """The demo model "fair" on a part of its faces, its weights not taken from the package."""
    os.environ["FACEXKIT_CACHE"], demo.SHIPPED, demo.FACES = str(out / "cache"), out / "none", 640
    yield weights(demo.demo_network("fair", 0))


def taught_fineface(model: FaceModel, faces: FaceSet, how: dict, out: Path) -> Iterable[Result]:
    """FineFACE, narrow, on small pictures."""
    shape = {"backbone": "demo", "weights": None, "widths": (8, 16, 12), "image_size": 48, "batch_size": 8}
    yield weights(train_fineface(faces[:120], out=out / "fineface", epochs=5, device="cpu", **shape).network)


def weights(network: nn.Module) -> Result:
    return {name: tensor.numpy() for name, tensor in network.state_dict().items()}


WORKS: dict[str, Work] = {
    "record": recorded,
    "dissect": lambda model, faces, how, out: [fx.dissect(model, faces, LAYER, mask_size=64, **how)],
    "score_regions, facex": lambda model, faces, how, out: [fx.score_regions(model, faces, LAYER, **how)],
    "score_regions, share": lambda model, faces, how, out: [
        fx.score_regions(model, faces, method="share", images=64, partners=2, **how)
    ],
    "audit": lambda model, faces, how, out: [fx.audit(model, faces, protected=["skin_tone", "age"], **how)],
    "training, demo model": taught_demo,
    "training, FineFACE": taught_fineface,
}


@dataclass
class Row:
    """What happened to one kind of work."""

    name: str
    whole: dict
    kills: int = 0
    ends: list[bool] = field(default_factory=list)
    left: int = 0

    def __str__(self) -> str:
        same = f"{sum(self.ends)} of {len(self.ends)}"
        cost = 100 * self.whole["writing"] / self.whole["seconds"]
        return f"{self.name:22} {self.kills:5} {len(self.ends):5} {same:>14} {self.left:10} {cost:12.2f}"


def do(name: str, folder: Path) -> None:
    """Do a work whole, and print when it begins, what came out, how long it took and how long states were written."""
    run.__kwdefaults__["shard"] = recording.SHARD = ROWS_IN_A_SHARD
    spent: list[float] = []

    def timed(write: Callable) -> Callable:
        def work(*given: object) -> None:
            start = time.perf_counter()
            write(*given)
            spent.append(time.perf_counter() - start)

        return work

    ShardFiles.write, training.write_whole = timed(ShardFiles.write), timed(training.write_whole)
    faces = fx.load_faces("synthetic", target="gender", limit=512)
    outputs = {"num_classes": 2, "class_names": ["female", "male"]}
    model = fx.load_model("torchvision:resnet18", image_size=64, device="cpu", **outputs)
    how = {"folder": folder / "passes", "progress": False, "workers": 0}
    print("begins", flush=True)
    start = time.perf_counter()
    results = list(WORKS[name](model, faces, how, folder))
    seconds = time.perf_counter() - start
    print(json.dumps({"digest": digest(results), "seconds": seconds, "writing": sum(spent)}), flush=True)


def digest(results: Iterable[xr.Dataset | Result]) -> str:
    """Return a text that changes with any bit of any number of results."""
    found = hashlib.sha256()
    for result in results:
        for name in sorted(map(str, result.variables if isinstance(result, xr.Dataset) else result)):
            values = np.asarray(result[name])
            content = repr(values.tolist()).encode() if values.dtype == object else values.tobytes()
            found.update(name.encode() + content)
    return found.hexdigest()


def tried(name: str, folder: Path, after: float | None = None) -> dict | None:
    """Try a work in a process of its own that is killed `after` so many seconds of it; None if it was."""
    command = [sys.executable, "-m", "benchmarks.kills", "--do", name, "--folder", str(folder)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        process.stdout.readline()
        try:
            said, _ = process.communicate(timeout=after)
        except subprocess.TimeoutExpired:
            process.kill()
            return None
    return json.loads(said)


def killed(name: str, kills: int, chance: random.Random, place: Path) -> Row:
    """Kill a work so many times, each time somewhere in what an undisturbed one would have left to do."""
    row = Row(name, tried(name, place / "whole"))
    while row.kills < kills:
        folder, found = place / f"killed{len(row.ends)}", None
        while found is None:
            left = row.kills < kills
            found = tried(name, folder, chance.uniform(0, 0.7 * row.whole["seconds"]) if left else None)
            row.kills += found is None
        row.ends.append(found["digest"] == row.whole["digest"])
        remove_strays(folder)
        row.left += sum(path.name.startswith(".") for path in folder.rglob("*"))
    return row


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.kills", description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=20, help="how many in all")
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--only", default="", help="the works whose names hold this")
    parser.add_argument("--do", choices=WORKS, help=argparse.SUPPRESS)
    parser.add_argument("--folder", type=Path, help=argparse.SUPPRESS)
    asked = parser.parse_args()
    if asked.do:
        do(asked.do, asked.folder)
        return
    chance = random.Random(asked.seed)
    print(f"{'work':22} {'kills':>5} {'ends':>5} {'bit for bit':>14} {'left over':>10} {'writing in %':>12}")
    with tempfile.TemporaryDirectory() as place:
        chosen = [name for name in WORKS if asked.only in name]
        for k, name in enumerate(chosen):
            kills = (asked.kills * (k + 1)) // len(chosen) - (asked.kills * k) // len(chosen)
            print(killed(name, kills, chance, Path(place, str(k))), flush=True)


if __name__ == "__main__":
    main()
