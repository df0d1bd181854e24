"""How often the 95 % intervals of the audit hold the truth, and how often a gap that is none is called one.

`python -m benchmarks.coverage_audit` draws predictions again and again from models whose accuracy in every group is known.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass

import numpy as np
import pandas as pd
import xarray as xr
from scipy.stats import norm

import facexkit as fx
from facexkit.measure.gaps import gap_sizes
from facexkit.measure.verification import error_rate_gaps, error_rates


@dataclass(frozen=True)
class Case:
    """Groups of some size, and the accuracy in each."""

    name: str
    images: tuple[int, ...]
    accuracy: tuple[float, ...]

    def predictions(self, rng: np.random.Generator) -> pd.DataFrame:
        """Return predictions of two classes, equally frequent and equally often mistaken in each group."""
        group = np.repeat(np.arange(len(self.images)), self.images)
        truth = np.concatenate([rng.permutation(np.arange(n) % 2) for n in self.images])
        right = rng.random(len(group)) < np.array(self.accuracy)[group]
        labels = np.array(["no", "yes"])
        return pd.DataFrame({
            "truth": labels[truth], "prediction": labels[np.where(right, truth, 1 - truth)],
            "group": [f"g{g:02}" for g in group],
        })  # fmt: skip

    def pairs(self, rng: np.random.Generator) -> tuple[np.ndarray, np.ndarray, pd.DataFrame]:
        """Return similarities of as many different and as many same pairs; 1 − accuracy of each lie on the wrong side of 0."""
        group = np.repeat(np.arange(len(self.images)), self.images)
        shift = norm.isf(1 - np.array(self.accuracy)[group])
        noise = rng.standard_normal((2, len(group)))
        similarity, same = np.concatenate([noise[0] - shift, noise[1] + shift]), np.repeat([0, 1], len(group))
        return similarity, same, pd.DataFrame({"group": np.tile(group, 2)})


CASES = (
    Case("2 groups, no gap", (200, 200), (0.8, 0.8)),
    Case("2 groups, 10 points", (200, 200), (0.75, 0.85)),
    Case("2 groups, 2 points", (200, 200), (0.79, 0.81)),
    Case("2 groups, 60 and 600 images, 97 and 90 %", (60, 600), (0.97, 0.9)),
    Case("7 groups, no gap", (100,) * 7, (0.85,) * 7),
    Case("7 groups, one 15 points worse", (100,) * 7, (0.7, *(0.85,) * 6)),
    Case("7 groups, evenly over 12 points", (150,) * 7, tuple(np.linspace(0.78, 0.9, 7))),
    Case("14 small groups, no gap", (40,) * 14, (0.85,) * 14),
    Case("14 small groups, evenly over 20 points", (40,) * 14, tuple(np.linspace(0.7, 0.9, 14))),
    Case("14 groups of 30 to 290, evenly over 20 points", tuple(range(30, 310, 20)), tuple(np.linspace(0.9, 0.7, 14))),
)
GAPS = ("difference", "ratio", "deviation", "over_geomean")


def coverage(case: Case, repetitions: int, seed: int) -> dict[str, float]:
    """Return for each number of one case how often its interval held the truth, and how often a gap had q < 0.05."""
    truth, hits = np.array(case.accuracy), []
    for repetition in range(repetitions):
        rng = np.random.default_rng([seed, repetition])
        found = fx.audit(case.predictions(rng), replicates=400, seed=repetition).isel(model=0, attribute=0)
        accuracy, gaps = found.sel(metric="accuracy"), found.sel(metric="accuracy").sel(gap=list(GAPS))
        held = {"accuracy": _held(accuracy, "value", truth).mean()}
        held |= dict(zip(GAPS, _held(gaps, "gap_size", gap_sizes(truth)), strict=True))
        odds = gap_sizes(truth)[0]  # true and false positives differ by group as accuracy does
        held["equalized odds"] = _held(found.isel(rule=1), "criterion", odds)
        rates = error_rates(*case.pairs(rng), threshold=0)
        between = error_rate_gaps(rates, replicates=400)
        sizes = gap_sizes(1 - truth)
        for gap, name in (("difference", "FMR difference"), ("over_geomean", "FMR over geomean")):
            low, high = (between[f"{gap}_{end}"].iloc[0] for end in ("low", "high"))
            held[name] = low - 1e-9 <= sizes[GAPS.index(gap)] <= high + 1e-9
        held |= {"q < 0.05": found.q_value.sel(metric="accuracy") < 0.05, "FMR q < 0.05": between.q_value.iloc[0] < 0.05}
        hits.append({name: float(value) for name, value in held.items()})
    return pd.DataFrame(hits).mean().to_dict()


def _held(found: xr.Dataset, name: str, truth: np.ndarray) -> np.ndarray:
    low, high = (found[f"{name}_{end}"].to_numpy() for end in ("low", "high"))
    return (low - 1e-9 <= truth) & (truth <= high + 1e-9)


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and print the table."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.coverage_audit", description=__doc__)
    parser.add_argument("--repetitions", type=int, default=400, help="draws of each case")
    parser.add_argument("--seed", type=int, default=0)
    asked = parser.parse_args(arguments)
    print(f"Share in % of {asked.repetitions} repetitions whose 95 % interval holds the truth; last, with q < 0.05.\n")
    for case in CASES:
        found = coverage(case, asked.repetitions, asked.seed)
        if case is CASES[0]:
            print("|", " | ".join(["", *found]), "|\n|", " | ".join(["---", *["---:"] * len(found)]), "|")
        print("|", " | ".join([case.name, *(f"{100 * value:.0f}" for value in found.values())]), "|", flush=True)


if __name__ == "__main__":
    main()
