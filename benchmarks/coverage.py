"""How often 95 % intervals hold the truth: over disjoint sets of drawn faces, whose truth is that of all together."""

from __future__ import annotations

import argparse
import json
from collections.abc import Callable
from copy import deepcopy

import numpy as np
import torch
import xarray as xr
from torch import nn

import facexkit as fx
from benchmarks.small_faces import QUIET, small_faces, taught
from facexkit.faces.cache import cache_folder, write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel

SIDE, TAUGHT = 32, 4000
Numbers = dict[str, tuple[float, float, float]]
"""Number → value, low, high."""


def faces_and_model(count: int) -> tuple[FaceSet, FaceModel]:
    """Return the faces to be cut into sets, and a model that was taught other faces' gender, with lipstick as a shortcut."""
    faces, lesson = small_faces(count, SIDE, seed=2), small_faces(TAUGHT, SIDE, seed=1)
    faces.table["reference"], faces.table["same"] = np.roll(faces.table.path, count // 2), 0
    female = (lesson.table.gender == "female").to_numpy()
    agrees = (female == lesson.table.lipstick.to_numpy(bool)) | (np.random.default_rng(0).random(TAUGHT) < 0.05)
    return faces, taught(lesson[agrees], ~female[agrees], seed=0)


def of_regions(found: xr.Dataset) -> Numbers:
    """Return the regions' and the unions' numbers."""
    found = found.isel(target_class=0)
    numbers = {}
    for of in ("", "union_"):
        if f"{of}score" in found:
            ends = (found[f"{of}score{end}"].to_series().to_dict() for end in ("", "_low", "_high"))
            value, low, high = ends
            numbers |= {name: (value[name], low[name], high[name]) for name in value}
    return numbers


def share(model: FaceModel, faces: FaceSet, all_of_them: bool) -> Numbers:
    """Decision shares of regions and unions, from all pairs."""
    many = {"images": len(faces), "partners": 1, "walks": len(faces)} if all_of_them else {}
    return of_regions(fx.score_regions(model, faces, method="share", half_width=0.0, **many, **QUIET))


def stopped(model: FaceModel, faces: FaceSet, all_of_them: bool) -> Numbers:
    """The same where pairs stop coming when the three largest are known to ± 9 points."""
    if all_of_them:
        return share(model, faces, True)
    return of_regions(fx.score_regions(model, faces, method="share", half_width=0.09, **QUIET))


def facex(model: FaceModel, faces: FaceSet, all_of_them: bool) -> Numbers:
    """FaceX scores at layer1, of 8×8 places."""
    return of_regions(fx.score_regions(model, faces, "layer1", method="facex", **QUIET))


def verification(model: FaceModel, faces: FaceSet, all_of_them: bool) -> Numbers:
    """Decision shares of the similarity to another face, by the features under the model's last layer."""
    features = deepcopy(model.network)
    features.fc = nn.Identity()
    embedder = FaceModel(features, name="features", image_size=SIDE, normalize="half", device="cpu")
    many = {"images": len(faces), "partners": 1, "walks": len(faces)} if all_of_them else {}
    return of_regions(fx.explain_verification(embedder, faces, method="share", half_width=0.0, **many, **QUIET))


def unit_effects(model: FaceModel, faces: FaceSet, all_of_them: bool) -> Numbers:
    """What switching twelve of the 16 units of layer1 off does to accuracy, and to the gap between lipstick and none."""
    found = fx.unit_effects(model, faces, "layer1", protected="lipstick", units={"twelve": range(12)}, **QUIET).isel(unit=0)
    return {name: tuple(found[f"{name}{end}"].item() for end in ("", "_low", "_high")) for name in ("accuracy_change", "gap_change")}


def audit(model: FaceModel, faces: FaceSet, all_of_them: bool) -> Numbers:
    """Accuracy by skin tone and by age, and the gaps between the groups; see `coverage_audit` for more groups."""
    found = fx.audit(model, faces, protected=["skin_tone", "age"], min_images=8, **QUIET).isel(model=0).sel(metric="accuracy")
    each = {str(name): found.sel(group=name) for name in found.group.values[found.ranked.values]}
    numbers = {name: tuple(one[f"value{end}"].item() for end in ("", "_low", "_high")) for name, one in each.items()}
    gaps = {f"{a} {gap}": found.sel(attribute=a, gap=gap) for a in ("skin_tone", "age") for gap in ("difference", "ratio")}
    return numbers | {name: tuple(one[f"gap_size{end}"].item() for end in ("", "_low", "_high")) for name, one in gaps.items()}


KINDS: dict[str, Callable[[FaceModel, FaceSet, bool], Numbers]] = {
    "share": share, "stopped": stopped, "facex": facex, "verification": verification, "unit_effects": unit_effects,
    "audit": audit,
}  # fmt: skip
"""Kind of number → what measures it on a set; add a function, and its coverage is printed."""


def measured(kind: str, model: FaceModel, faces: FaceSet, size: int, most: int, fresh: bool) -> dict[str, Numbers]:
    """Return the numbers of all faces together ("all") and of each set (its first row); what was measured before is kept."""
    file = cache_folder() / "benchmarks" / f"coverage_{kind}_{len(faces)}_{size}.json"
    known = json.loads(file.read_text()) if file.is_file() and not fresh else {}
    for start in ["all", *range(0, min(len(faces), size * most), size)]:
        if str(start) not in known:
            own = faces if start == "all" else faces[start : start + size]
            known[str(start)] = KINDS[kind](model, own, start == "all")
            write_whole(file, json.dumps(known).encode())
    return known


def coverage(found: dict[str, Numbers]) -> dict[str, tuple[float, float, int]]:
    """Return of each number above 1 % its truth, the share of the sets whose interval holds it, and how many have one."""
    truth = {name: value for name, (value, _, _) in found.pop("all").items() if abs(value) > 0.01}
    held: dict[str, list[bool]] = {name: [] for name in truth}
    for numbers in found.values():
        for name, true in truth.items():
            _, low, high = numbers.get(name, (np.nan,) * 3)
            if np.isfinite(low):
                held[name].append(low <= true <= high)
    return {name: (truth[name], float(np.mean(own)), len(own)) for name, own in held.items() if own}


def main(arguments: list[str] | None = None) -> None:
    """Parse the command line and print the tables."""
    parser = argparse.ArgumentParser(prog="facexkit benchmark coverage", description=__doc__)
    parser.add_argument("kinds", nargs="*", default=[*KINDS], help=", ".join(KINDS))
    parser.add_argument("--faces", type=int, default=12_800)
    parser.add_argument("--sizes", type=int, nargs="+", default=[64, 256], help="faces in a set")
    parser.add_argument("--sets", type=int, default=200, help="sets at most")
    parser.add_argument("--fresh", action="store_true", help="forget what was measured before")
    how = parser.parse_args(arguments)
    torch.set_num_threads(1)
    faces, model = faces_and_model(how.faces)
    for kind in how.kinds:
        for size in how.sizes:
            found = coverage(measured(kind, model, faces, size, how.sets, how.fresh))
            if not found:
                print(f"\n{kind}, sets of {size}: no number is above 1 %")
                continue
            covered = np.array([share for _, share, _ in found.values()])
            print(f"\n{kind}, sets of {size}: mean {covered.mean():.3f}, least {covered.min():.3f}, most {covered.max():.3f}")
            for name, (true, share, sets) in sorted(found.items(), key=lambda each: -abs(each[1][0])):
                print(f"  {name:16} truth {100 * true:6.1f} %   covered {100 * share:5.1f} % of {sets} sets", flush=True)


if __name__ == "__main__":
    main()
