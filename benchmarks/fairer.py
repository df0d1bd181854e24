"""Is FineFACE fairer than a plain network of the same backbone and budget? Three seeds on faces with a planted shortcut.

python -m benchmarks.fairer [--out runs/fairer] [--seeds 3] prints the table; trainings that are in the folder are not
done again.
"""

from __future__ import annotations

import argparse
from pathlib import Path

import numpy as np
import pandas as pd

import facexkit as fx
from facexkit.measure.bootstrap import ratio_interval
from facexkit.measure.predictions import predictions_of

SETTING = {"backbone": "demo", "weights": None, "widths": (32, 64, 32), "image_size": 96, "batch_size": 16,
           "epochs": 6, "rates": (0.02, 0.02), "device": "cpu"}  # fmt: skip
FACES = 1600
GROUPS = ["background", "skin_tone"]
CROSSED = " × ".join(GROUPS)


def answers(seed: int, out: Path) -> dict[str, pd.DataFrame]:
    """Teach both networks with a seed, on faces drawn with it, and return what each says of the test faces."""
    faces = fx.load_faces("synthetic", target="gender", count=FACES, seed=seed, shortcut="background", strength=0.9)
    faces.table["background"] = np.where(faces.table.agrees, "agree", "contradict")
    plain, fine = (
        fx.train_fineface(faces, out=out / f"seed{seed}" / name, plain=name == "plain", seed=seed, **SETTING)
        for name in ("plain", "fineface")
    )
    asked = faces[faces.table.split == "test"]
    models = {"plain": plain, "FineFACE, four outputs": fine, "FineFACE, all eight": fx.with_all_outputs(fine)}
    keep = ["truth", "prediction", "confidence", *GROUPS]
    return {name: predictions_of(model, asked)[keep] for name, model in models.items()}


def summary(tables: dict[str, pd.DataFrame]) -> pd.DataFrame:
    """Return accuracy, worst group's accuracy, deviation and max / min ratio over the groups, each with its interval."""
    found = fx.audit(tables, protected=GROUPS)
    rows = {}
    for name, table in tables.items():
        right = (table.truth == table.prediction).to_numpy(float)[:, None]
        low, high = ratio_interval(right, np.ones_like(right))
        one = found.sel(model=name, metric="accuracy")
        groups = one.sel(group=one.attribute_of == CROSSED)
        worst = groups.isel(group=int(groups.value.to_numpy().argmin()))
        gaps = one.sel(attribute=CROSSED)
        numbers = {
            "accuracy": (right.mean(), low[0], high[0]),
            "worst group": [worst[f"value{end}"].item() for end in ("", "_low", "_high")],
        }
        for gap in ("deviation", "ratio"):
            own = gaps.sel(gap=gap)
            numbers[gap] = [own[f"gap_size{end}"].item() for end in ("", "_low", "_high")]
            numbers[f"{gap} − plain's"] = [own[f"gap_size_change{end}"].item() for end in ("", "_low", "_high")]
        rows[name] = {key: "{:.3f} ({:.3f} to {:.3f})".format(*value) for key, value in numbers.items()}
        rows[name]["worst group"] += f" {worst.label.item()}"
    return pd.DataFrame(rows).T


def main() -> None:
    """Teach, ask, and print."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.fairer", description=__doc__)
    parser.add_argument("--out", type=Path, default=Path("runs/fairer"))
    parser.add_argument("--seeds", type=int, default=3)
    how = parser.parse_args()
    said = [answers(seed, how.out) for seed in range(how.seeds)]
    for seed, tables in enumerate(said):
        print(f"\nseed {seed}\n{summary(tables).to_string()}")
    together = {name: pd.concat([tables[name] for tables in said], ignore_index=True) for name in said[0]}
    print(f"\nall seeds together\n{summary(together).to_string()}")


if __name__ == "__main__":
    main()
