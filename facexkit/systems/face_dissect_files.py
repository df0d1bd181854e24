"""The files that Face Dissect's own scripts write and read, in their shapes and under their names."""

from __future__ import annotations

import io
import os
import pickle
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

import numpy as np
import pandas as pd
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.cache import side_folder, write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.measure.groups import group_labels
from facexkit.measure.hierarchy import AREAS, concept_types, rank_concepts
from facexkit.measure.iou_tally import INTERPRETABLE
from facexkit.measure.photographs import crop_faces
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Arrays, Handed
from facexkit.show.dissection import EXPORTS, of_attribute
from facexkit.show.dissection_report import write_dissection_report

CONCEPTS = tuple(
    "AU_1 AU_2 AU_4 AU_5 AU_6 AU_9 AU_12 AU_15 AU_17 AU_20 AU_25 AU_26 nose left_brow right_brow left_eye right_eye "
    "mouth left_cheek right_cheek 5_o_Clock_Shadow Arched_Eyebrows Bushy_Eyebrows No_Beard Bags_Under_Eyes Big_Lips "
    "Big_Nose Double_Chin Eyeglasses Goatee High_Cheekbones Rosy_Cheeks Mouth_Slightly_Open Mustache Narrow_Eyes "
    "Pointy_Nose Smiling Wearing_Lipstick".split()
)
"""The columns of the tally; what else was dissected stands behind them."""
SHORT = {"ethnicity": "ethnic", "skin_tone": "skin"}
"""Attribute → what the scripts call it, but for the name of the file on skin tones."""
GROUPS = {"zero_to_twenty": "zero", "twenty_to_forty": "twenty", "forty_to_sixty": "forty", "sixty_plus": "sixty"}


class MapFile(Accumulator):
    """Every unit's activation map on every image in one raw file, float64 N×U×h×w, written shard by shard."""

    def __init__(self, layer: str, path: Path, images: int) -> None:
        self.layer, self.layers = layer, (layer,)
        self.kept = Handed(lambda shard: self._fill(path, images, shard))
        self.shape: tuple[int, ...] = ()

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, maps=batch.activations[self.layer].cpu().numpy())

    def _fill(self, path: Path, images: int, shard: Arrays) -> None:
        self.shape = (images, *shard["maps"].shape[1:])
        maps = np.memmap(path, np.float64, "r+" if path.exists() else "w+", shape=self.shape)
        maps[shard["rows"]] = shard["maps"]
        maps.flush()

    def result(self) -> np.ndarray:
        """Return the file's shape (N, U, h, w)."""
        return np.array(self.shape)


@EXPORTS.register("face_dissect")
def write_face_dissect(
    found: xr.Dataset | None,
    model: FaceModel,
    faces: FaceSet,
    folder: str | Path,
    ranked: xr.Dataset | None = None,
    bias: xr.Dataset | None = None,
    **how: object,
) -> list[Path]:
    """Write what Face Dissect's own scripts write, `layer` in the names standing for the layer's name.

    `layer.mmap` float64 N×U×h×w (8·N·U·h·w bytes) and `layer_feature_size.npy`, its shape (1, 4); `layer_quantile.npy`
    (U,); `layer_tally.npz`: `tally` (U, C) IoU, `maps` (U, C, 20) places of the images with the highest IoU of their
    own, `scores` that IoU, and `concepts`; C = `CONCEPTS` and what else there is, −1 where no image has the concept or
    there is no image; `layer_conv.pdf`; `layer_top_concept_probs.txt`, `layer_unit_concept_probs.txt` and `.pkl`, the
    interpretable units. With `bias`, of each attribute the maps by group as `layer_model_bias(ATTRIBUTE).npz`, and
    `layer_NL_concept_probs.txt`, `layer_nl_probs.txt` and `.pkl`. Units count from 0.

    Parameters
    ----------
    found : what `dissect(…, top_images=20)` gave for this model and these faces; None for the files on groups alone.
    bias : what `global_bias` gave; without it the files on groups are not written.
    how : options of the passes that write the maps, see `PassOptions`.
    """
    stem = Path(folder, (bias if found is None else found).attrs["layer"])
    stem.parent.mkdir(parents=True, exist_ok=True)
    files = []
    if found is not None:
        files += _write_local(found, model, faces, stem, rank_concepts(found) if ranked is None else ranked, how)
    if bias is not None:
        files += _write_global(bias, model, faces, stem, how)
    return files


def _write_local(
    found: xr.Dataset, model: FaceModel, faces: FaceSet, stem: Path, ranked: xr.Dataset, how: dict
) -> Iterator[Path]:
    if found.sizes["top"] != 20:
        raise FacexkitError("Face Dissect's files name 20 images a unit and concept; dissect with top_images=20")
    images = found.get_index("image")
    seen = faces[faces.table.path.isin(images)]
    seen = crop_faces(seen, found.attrs["margin"]) if "crop" in found.attrs else seen
    with side_folder(stem) as side:
        size = _write_maps(model, seen, stem.name, Path(side, "maps"), how).shape
        os.replace(Path(side, "maps"), mapped := _beside(stem, ".mmap"))
    yield mapped
    yield _keep(stem, "_feature_size.npy", _numpy(np.save, np.array([size])))
    yield _keep(stem, "_quantile.npy", _numpy(np.save, found.threshold.to_numpy()))

    concepts = found.concept.to_numpy().astype(str)
    names = [*CONCEPTS, *(name for name in concepts if name not in CONCEPTS)]
    place = pd.Index(np.where(found.images > 0, concepts, "")).get_indexer(names)
    top = found.top_image.to_numpy()
    maps = images.get_indexer(top.ravel()).reshape(top.shape)
    kept = {"tally": found.iou.to_numpy(), "maps": maps, "scores": np.where(maps < 0, -1, found.top_iou)}
    kept = {name: values[:, place].astype(float) for name, values in kept.items()}
    for values in kept.values():
        values[:, place < 0] = -1
    yield _keep(stem, "_tally.npz", _numpy(np.savez, **kept, concepts=np.array(names)))
    yield write_dissection_report(found, faces, _beside(stem, "_conv.pdf"), ranked)

    yield from _write_hierarchy(ranked, stem)


def _write_hierarchy(ranked: xr.Dataset, stem: Path) -> Iterator[Path]:
    place = {name: k for k, name in enumerate(ranked.concept.to_numpy())}
    there, area_of = ranked.images.to_numpy() > 0, ranked.concept_area.to_numpy()
    areas, best, iou, shares = (ranked[name].to_numpy() for name in ("area", "best_concept", "best_iou", "probability"))
    said, text = {}, ""
    for unit in map(int, np.flatnonzero(ranked.interpretable)):
        own = [name for name in AREAS.get(areas[unit], place) if name in place]
        own = [name for name in own if there[place[name]] and area_of[place[name]] == areas[unit]]
        said[unit] = {name: float(shares[unit, place[name]]) for name in own}
        head = f"Concept: {best[unit]}, IoU : {iou[unit]:.4f}, Cluster : {areas[unit].title()}_Region"
        text += f"Unit : {unit}\n\t {head}\n{_block(said[unit])}"
    yield _keep(stem, "_unit_concept_probs.pkl", pickle.dumps(said))
    for name in ("_unit_concept_probs.txt", "_top_concept_probs.txt"):
        yield _keep(stem, name, text.encode())


def _write_global(bias: xr.Dataset, model: FaceModel, faces: FaceSet, stem: Path, how: dict) -> Iterator[Path]:
    said: dict[int, dict[str, dict[str, float]]] = {
        int(unit): {"age": {}, "gender": {}, "ethnic": {}, "skin": {}} for unit in bias.unit.to_numpy()
    }
    for attribute in bias.attribute.to_numpy():
        part = of_attribute(bias, attribute)
        groups, labels = [*map(str, part.group.to_numpy())], group_labels(faces.table, attribute)
        rows = [np.flatnonzero(labels == group) for group in groups]
        name = attribute if attribute == "skin_tone" else SHORT.get(attribute, attribute)
        path = _beside(stem, f"_model_bias({name}).npz")
        with side_folder(path) as side:
            maps = _write_maps(model, faces[np.concatenate(rows)], stem.name, Path(side, "maps"), how)
            ends = np.cumsum([*map(len, rows)])[:-1]
            with open(Path(side, "npz"), "wb") as file:
                np.savez(file, **{GROUPS.get(g, g): own for g, own in zip(groups, np.split(maps, ends), strict=True)})
            os.replace(Path(side, "npz"), path)
        yield path
        for unit, shares in zip(said, part.probability.to_numpy(), strict=True):
            said[unit][SHORT.get(attribute, attribute)] = dict(zip(groups, shares.tolist(), strict=True))
    tally = _beside(stem, "_tally.npz")
    known = np.load(tally)["tally"].max(1) > INTERPRETABLE if tally.is_file() else np.zeros(len(said), bool)
    text = ""
    for (unit, by_attribute), local in zip(said.items(), known, strict=True):
        text += f"Unit : {unit}, spatially {'' if local else 'un'}localizable\n"
        text += "".join(f"\t{name.upper()}\n{_block(shares)}" for name, shares in by_attribute.items() if shares)
    yield _keep(stem, "_nl_probs.pkl", pickle.dumps(said))
    for name in ("_nl_probs.txt", "_NL_concept_probs.txt"):
        yield _keep(stem, name, text.encode())


def read_face_dissect(folder: str | Path, layer: str, trust: bool = False) -> dict[str, xr.Dataset]:
    """Read what Face Dissect's current scripts left, for the figures that compare models.

    Parameters
    ----------
    folder, layer : `FOLDER/LAYER_tally20.npz` (or `_tally.npz`), `LAYER_unit_concept_probs.pkl` and, where it is there,
        `LAYER_nl_probs.pkl`; LAYER is what stands before them, "age_layer4".
    trust : whether the two pickles may be opened, which can run somebody's code.

    Returns
    -------
    "ranked": iou, probability, is_concept (unit, concept), interpretable (unit), as of `rank_concepts`; "bias":
    probability (attribute, unit, group), images (attribute, group), 1 for a group of the attribute.
    """
    stem = Path(folder, layer)
    own, other = (_beside(stem, f"_{name}.npz") for name in ("tally20", "tally"))
    with np.load(own if own.is_file() else other) as file:
        iou = file["tally"][:, : len(CONCEPTS)]
    pair, units = ("unit", "concept"), len(iou)
    shares = pd.DataFrame(_unpickled(stem, "_unit_concept_probs.pkl", trust)).T
    least = (1.5 / shares.count(axis=1)).mask(shares.count(axis=1) == 1, 0).reindex(range(units))
    ranked = shares.reindex(range(units), columns=CONCEPTS).fillna(0.0)
    chosen = ranked.gt(least, axis=0)
    area_of = {name: area for area, names in AREAS.items() for name in names}
    found = {"ranked": xr.Dataset(
        {"iou": (pair, iou), "probability": (pair, ranked.to_numpy()), "is_concept": (pair, chosen.to_numpy()),
         "interpretable": ("unit", np.isin(np.arange(units), shares.index))},
        {"unit": range(units), "concept": list(CONCEPTS), "concept_area": ("concept", [area_of[c] for c in CONCEPTS]),
         "concept_type": ("concept", concept_types(CONCEPTS))}, {"layer": layer},
    )}  # fmt: skip
    if _beside(stem, "_nl_probs.pkl").is_file():
        said, full = _unpickled(stem, "_nl_probs.pkl", trust), {short: name for name, short in SHORT.items()}
        parts = []
        for name in next(iter(said.values())):
            part = pd.DataFrame({unit: own[name] for unit, own in said.items()}).T
            named = {"unit": part.index, "group": [*part], "attribute": full.get(name, name)}
            values = {"probability": (("unit", "group"), part), "images": ("group", [1] * part.shape[1])}
            parts.append(xr.Dataset(values, named))
        found["bias"] = xr.concat(parts, "attribute", join="outer", fill_value={"images": 0}).assign_attrs(layer=layer)
    return found


def _unpickled(stem: Path, name: str, trust: bool) -> Mapping:
    path = _beside(stem, name)
    if not trust:
        advice = "which can run somebody's code when opened; if you know who made it, give trust=True"
        raise FacexkitError(f"{path} is a pickle, {advice}")
    return pickle.loads(path.read_bytes())


def _write_maps(model: FaceModel, faces: FaceSet, layer: str, path: Path, how: dict) -> np.memmap:
    run(model, faces, [maps := MapFile(layer, path, len(faces))], PassOptions(**how))
    return np.memmap(path, np.float64, "r", shape=tuple(maps.result()))


def _beside(stem: Path, name: str) -> Path:
    return stem.with_name(stem.name + name)


def _keep(stem: Path, name: str, content: bytes) -> Path:
    write_whole(path := _beside(stem, name), content)
    return path


def _numpy(save: Callable, *array: np.ndarray, **arrays: np.ndarray) -> bytes:
    save(buffer := io.BytesIO(), *array, **arrays)
    return buffer.getvalue()


def _block(shares: Mapping[str, float]) -> str:
    return "\t{\n" + "".join(f"\t\t {name} : {share}\n" for name, share in shares.items()) + "\t}\n"
