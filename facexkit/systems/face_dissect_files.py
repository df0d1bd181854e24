"""The eight files that Face Dissect's own code leaves, in its shapes."""

from __future__ import annotations

import io
import os
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.cache import side_file, write_whole
from facexkit.faces.cropping import crop_faces
from facexkit.faces.faceset import FaceSet
from facexkit.measure.hierarchy import rank_concepts
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Arrays, Handed
from facexkit.show.dissection import EXPORTS
from facexkit.show.dissection_report import write_dissection_report


class MapFile(Accumulator):
    """Every unit's activation map on every image in one raw file, float64 N×U×h×w, written shard by shard.

    Parameters
    ----------
    path : the file to fill.
    places : for each row of the face set its place in the file, −1 for images that are left out.
    """

    def __init__(self, layer: str, path: Path, places: np.ndarray) -> None:
        self.layer, self.layers = layer, (layer,)
        self.kept = Handed(lambda shard: self._fill(path, places, shard))
        self.shape: tuple[int, ...] = ()

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, maps=batch.activations[self.layer].cpu().numpy())

    def _fill(self, path: Path, places: np.ndarray, shard: Arrays) -> None:
        self.shape = (int(places.max()) + 1, *shard["maps"].shape[1:])
        maps = np.memmap(path, np.float64, "r+" if path.exists() else "w+", shape=self.shape)
        maps[places[shard["rows"]]] = shard["maps"]
        maps.flush()

    def result(self) -> np.ndarray:
        """Return the file's shape (N, U, h, w)."""
        return np.array(self.shape)


@EXPORTS.register("face_dissect")
def write_face_dissect(
    found: xr.Dataset,
    model: FaceModel,
    faces: FaceSet,
    folder: str | Path,
    ranked: xr.Dataset | None = None,
    bias: xr.Dataset | None = None,
    **how: object,
) -> list[Path]:
    """Write what Face Dissect's own code writes, `layer` in the names standing for the layer's name.

    `layer.mmap` float64 N×U×h×w (8·N·U·h·w bytes) and `layer_feature_size.npy`, its shape; `layer_quantile.npy` (U,);
    `layer_tally.npz`: `tally` (U, C) IoU, `maps` (U, C, 20) places of the images with the highest IoU of their own, −1
    for none, `scores` (U, C, 20) that IoU, and `concepts`; `layer_conv.pdf`; `layer_top_concept_probs.txt` and
    `layer_NL_concept_probs.txt`, a block of `concept : probability` lines a unit; for each attribute
    `layer_model_bias(ATTRIBUTE).npz`: `probability` (U, G), `groups`, `images` (G,), `p_value`, `q_value` and `effect`
    (U,).

    Parameters
    ----------
    found : what `dissect(…, top_images=20)` gave for this model and these faces.
    bias : what `global_bias` gave; without it the files on groups are not written.
    how : `batch_size`, `workers`, `autocast`, `progress`, of the pass that writes the maps, see `stream`.
    """
    if found.sizes["top"] != 20:
        raise FacexkitError("Face Dissect's files name 20 images a unit and concept; dissect with top_images=20")
    layer, folder, images = found.attrs["layer"], Path(folder), found.get_index("image")
    ranked = rank_concepts(found) if ranked is None else ranked
    folder.mkdir(parents=True, exist_ok=True)
    files = [folder / f"{layer}.mmap"]
    seen = crop_faces(faces, found.attrs["margin"]) if "crop" in found.attrs else faces
    shape = _write_maps(model, seen, layer, files[0], images.get_indexer(faces.table.path), how)

    def keep(name: str, content: bytes) -> None:
        files.append(folder / f"{layer}_{name}")
        write_whole(files[-1], content)

    keep("feature_size.npy", _numpy(np.save, shape))
    keep("quantile.npy", _numpy(np.save, found.threshold.to_numpy()))
    top = found.top_image.to_numpy()
    places = images.get_indexer(top.ravel()).reshape(top.shape)
    scores, concepts = np.where(places < 0, 0, found.top_iou.to_numpy()), found.concept.to_numpy().astype(str)
    keep("tally.npz", _numpy(np.savez, tally=found.iou.to_numpy(), maps=places, scores=scores, concepts=concepts))
    files.append(write_dissection_report(found, faces, folder / f"{layer}_conv.pdf", ranked))
    in_area = (ranked.area == ranked.concept_area).transpose("unit", "concept").to_numpy()
    keep("top_concept_probs.txt", _blocks(ranked.probability.to_numpy(), concepts, in_area))
    if bias is not None:
        parts = [bias.sel(attribute=a).isel(group=bias.images.sel(attribute=a).to_numpy() > 0) for a in bias.attribute]
        for part in parts:
            arrays = {name: part[name].to_numpy() for name in ("probability", "images", "p_value", "q_value", "effect")}
            arrays["groups"] = part.group.to_numpy().astype(str)
            keep(f"model_bias({part.attribute.item()}).npz", _numpy(np.savez, **arrays))
        joined = np.concatenate([part.probability.to_numpy() for part in parts], 1)
        groups = [f"{part.attribute.item()} {group}" for part in parts for group in part.group.to_numpy()]
        keep("NL_concept_probs.txt", _blocks(joined, groups, np.ones(joined.shape, bool)))
    return files


def _write_maps(model: FaceModel, faces: FaceSet, layer: str, path: Path, places: np.ndarray, how: dict) -> np.ndarray:
    beside = side_file(path)
    try:
        maps = MapFile(layer, beside, places)
        run(model, faces, [maps], PassOptions(**how))
        shape = maps.result()
        os.replace(beside, path)
    finally:
        beside.unlink(missing_ok=True)
    return shape


def _numpy(save: Callable, *array: np.ndarray, **arrays: np.ndarray) -> bytes:
    save(buffer := io.BytesIO(), *array, **arrays)
    return buffer.getvalue()


def _blocks(probability: np.ndarray, names: Sequence[str], shown: np.ndarray) -> bytes:
    """Return a block a unit: its number, then `name : probability` lines, highest first."""
    blocks = []
    for unit, (values, here) in enumerate(zip(probability, shown, strict=True)):
        order = [k for k in np.argsort(-values, kind="stable") if here[k]]
        blocks.append("\n".join([f"unit {unit}", *(f"{names[k]} : {values[k]:.6f}" for k in order)]))
    return ("\n\n".join(blocks) + "\n").encode()
