"""What helps against a shortcut: every way to repair a model, FineFACE, and a plain network with as many steps.

python -m benchmarks.fairer [--out runs/fairer] [--seeds 0 1 2] prints the table; what is in the folder is not done again.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd

import facexkit as fx
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.measure.bootstrap import ratio_interval
from facexkit.measure.predictions import predictions_of
from facexkit.models.face_model import FaceModel

SETTING = {"backbone": "demo", "weights": None, "widths": (32, 64, 32), "image_size": 96, "batch_size": 16,
           "epochs": 6, "rates": (0.02, 0.02), "device": "cpu"}  # fmt: skip
FACES, GROUPS, QUIET, UNITS = 1600, ["background", "skin_tone"], {"progress": False}, 5
CROSSED = " × ".join(GROUPS)
REPAIRS = {"exchange": {"epochs": 5}, "last_layer": {}, "erase": {"protected": "warm_background"}, "ablate": {}}
WITH_LABELS = ("last_layer", "erase", "ablate")


def answers(seed: int, out: Path) -> dict[str, tuple[pd.DataFrame, dict[str, float]]]:
    """Teach and repair networks with a seed, on faces drawn with it; return what each says of the test faces, the
    share of the background, and the seconds of processor time that it took."""
    planted = {"shortcut": "background", "strength": 0.9}
    faces = fx.load_faces("synthetic", target="gender", count=FACES, seed=seed, **planted)
    faces.table["background"] = np.where(faces.table.agrees, "agree", "contradict")
    folder, found = out / f"seed{seed}", {}

    def train(name: str) -> FaceModel:
        return fx.train_fineface(faces, out=folder / name, plain=name == "plain", seed=seed, **SETTING)

    def repaired(method: str) -> dict[str, FaceModel]:
        plain, given = train("plain"), {"protected": "background", **QUIET, **REPAIRS[method]}
        if method == "ablate":  # the units without which the gap is narrowest, as an audit finds them
            pupils = faces[faces.table.split == "train"]
            given["layers"] = {"layer4": fx.unit_effects(plain, pupils, "layer4", protected="background", **QUIET).unit.to_numpy()[:UNITS]}
        better = fx.repair(plain, faces, "background", method, seed=seed, **given)
        return {f"{method}: control": better.control, method: better.model}

    makers: dict[str, Callable] = {"plain": lambda: train("plain"), "FineFACE, four outputs": lambda: train("fineface")}
    makers |= {method: lambda method=method: repaired(method) for method in REPAIRS}
    for name, make in makers.items():
        file = folder / f"{name}.json"
        if not file.is_file():
            start = time.process_time()
            made = make()
            seconds = time.process_time() - start
            if name.startswith("FineFACE"):
                made = {name: made, "FineFACE, all eight": fx.with_all_outputs(made)}
            made = made if isinstance(made, dict) else {name: made}
            write_whole(file, json.dumps({one: measured(model, faces, seconds) for one, model in made.items()}).encode())
        found |= {one: (pd.DataFrame(said), numbers) for one, (said, numbers) in json.loads(file.read_text()).items()}
    return found


def measured(model: FaceModel, faces: FaceSet, seconds: float) -> tuple[dict, dict[str, float]]:
    """Return what a model says of the test faces, column by column, and the share of its decision in the background."""
    asked = faces[faces.table.split == "test"]
    share = fx.score_regions(model, asked, method="share", quick=True, **QUIET).score.sel(region="background").item()
    said = predictions_of(model, asked, **QUIET)[["truth", "prediction", "confidence", *GROUPS]]
    return said.to_dict("list"), {"share": share, "seconds": seconds}


def summary(said: dict[str, list[tuple[pd.DataFrame, dict[str, float]]]]) -> pd.DataFrame:
    """Return a row a network, of all its seeds together: each number with its 95 % interval over the images; of the share
    the least and the greatest of the seeds."""
    tables = {name: pd.concat([table for table, _ in own], ignore_index=True) for name, own in said.items()}
    found, rows = fx.audit(tables, protected=GROUPS), {}
    for name, table in tables.items():
        right = (table.truth == table.prediction).to_numpy(float)[:, None]
        low, high = ratio_interval(right, np.ones_like(right))
        one = found.sel(model=name, metric="accuracy")
        groups = one.sel(group=one.attribute_of == CROSSED)
        worst = groups.isel(group=int(groups.value.to_numpy().argmin()))
        gaps = {"gap, background": one.sel(attribute="background", gap="difference")}
        gaps |= {gap: one.sel(attribute=CROSSED, gap=gap) for gap in ("deviation", "ratio")}
        shares = [numbers["share"] for _, numbers in said[name]]
        numbers = {
            "accuracy": (right.mean(), low[0], high[0]),
            "worst group": [worst[f"value{end}"].item() for end in ("", "_low", "_high")],
            **{gap: [own[f"gap_size{end}"].item() for end in ("", "_low", "_high")] for gap, own in gaps.items()},
            "share of the background": (np.mean(shares), min(shares), max(shares)),
        }
        rows[name] = {key: "{:.3f} ({:.3f} to {:.3f})".format(*value) for key, value in numbers.items()}
        rows[name]["seconds"] = f"{np.mean([numbers['seconds'] for _, numbers in said[name]]):.0f}"
        rows[name]["group labels"] = "yes" if name.partition(":")[0] in WITH_LABELS else "no"
    return pd.DataFrame(rows).T


def main() -> None:
    """Teach, repair, ask, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairer", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/fairer"))
    parser.add_argument("--seeds", type=int, nargs="+", default=[0, 1, 2])
    how = parser.parse_args()
    said = [answers(seed, how.out) for seed in how.seeds]
    print(summary({name: [own[name] for own in said if name in own] for name in said[0]}).to_string())


if __name__ == "__main__":
    main()
