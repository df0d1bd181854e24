"""FairFace's predictions, and the activations of any layer beside them, as the files that its users know."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from contextlib import ExitStack
from pathlib import Path

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.csv as pa_csv
import pyarrow.parquet as pa_parquet
import torch
from torch import Tensor, nn

from facexkit.errors import FacexkitError
from facexkit.faces.cache import side_folder
from facexkit.faces.faceset import FaceSet
from facexkit.faces.spreadsheet import as_text, csv_bytes
from facexkit.measure.per_image import Outputs
from facexkit.measure.records import provenance
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.options import PassOptions
from facexkit.probe.run import run
from facexkit.probe.state import Handed
from facexkit.systems.fairface_networks import BLOCKS, OUTPUTS, decode

SCORES = {"race": "race_scores_fair", "race4": "race_scores_fair_4"}
SCORES |= {block: f"{block}_scores_fair" for block in ("gender", "age")}
"""Block of outputs → FairFace's column of its probabilities, in FairFace's order."""
ROWS_AT_ONCE = 4096


def fairface(
    faces: FaceSet, seven: FaceModel | None = None, four: FaceModel | None = None, *, out: str | Path,
    layers: str | Sequence[str] = (), pooled: bool = True, as_script: bool = False, **how: object,
) -> pd.DataFrame:
    """Ask FairFace's two models about every face in one pass over the images, and write what its own script writes.

    Parameters
    ----------
    faces : aligned faces, see `align_faces`.
    seven, four : the seven-race model, which tells gender and age too, and the four-race model; one may be left out.
    out : folder for `test_outputs.csv` in FairFace's form, `test_outputs.parquet` with one column a probability, and
        `fairface_activations.csv` and `.parquet`, `image_paths` and one column a unit, from the second layer on called
        `fairface_activations_LAYER`. All are written to the side and put there at the end.
    layers : layers to record: NAME of the first model given, or "7.NAME" and "4.NAME".
    pooled : whether a column is the mean of a unit's map; else maps are flattened (unit, row, column).
    as_script : whether images are named as the scripts have them, `detected_faces/NAME`, the CSV of activations begins
        with a column that counts the rows, and `test_outputs.csv` ends with the column `bbox` of `predict_bbox.py`, where
        the faces have one (those of `align_faces` do).
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    table indexed by the row in the face set: `face_name_align`, the most probable `race`, `race4`, `gender` and `age`,
    and one column a probability (`race White`, …); what made it, and the images that were `skipped`, in its attrs.

    Raises
    ------
    FacexkitError for models that are none or unlike, an unknown layer, activations that are not finite.
    """
    pair, races = both_models(seven, four)
    layers = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
    paths, outputs, tables = faces.table.path.to_numpy(object), Outputs(), []
    paths = "detected_faces/" + paths if as_script else paths
    Path(out).mkdir(parents=True, exist_ok=True)
    with side_folder(Path(out, "fairface")) as side, ExitStack() as opened:
        for layer in layers:
            stem = Path(side, "fairface_activations" + (f"_{layer}" if tables else ""))
            layer = layer if layer[:2] in ("7.", "4.") else f"{races[0]}.{layer}"
            files = ActivationFiles(stem, as_script)
            opened.callback(files.close)
            tables.append(Activations(layer, paths, pooled, files.write))
        skipped = run(pair, faces, [outputs, *tables], PassOptions(**how))
        said = predictions(*outputs.result(), races, paths)
        said.attrs = provenance(pair, faces, layers=layers, pooled=pooled, skipped=skipped)
        boxes = faces.table.bbox.loc[said.index] if as_script and "bbox" in faces.table else None
        write_predictions(said, Path(side, "test_outputs"), boxes)
        opened.close()
        for file in Path(side).iterdir():
            os.replace(file, Path(out, file.name))
    return said


class BothModels(nn.ModuleDict):
    """Networks that see the same input; their outputs stand side by side."""

    def forward(self, x: Tensor) -> Tensor:
        return torch.cat([network(x) for network in self.values()], 1)


def both_models(seven: FaceModel | None, four: FaceModel | None) -> tuple[FaceModel, list[str]]:
    """Return FairFace's models, those that are given, as one with outputs (B, 18 or 36), and which they are."""
    models = {races: model for races, model in (("7", seven), ("4", four)) if model is not None}
    if not models or any(len(model.class_names) != OUTPUTS for model in models.values()):
        raise FacexkitError(f"give one or both of FairFace's models, of {OUTPUTS} outputs: load_model('fairface:7', …)")
    inputs = [(model.preprocess, model.device) for model in models.values()]
    if inputs[0] != inputs[-1]:
        raise FacexkitError("the two models differ in image_size, device or normalization; load them alike")
    shown, device = inputs[0]
    both = BothModels({races: model.network for races, model in models.items()})
    name = " and ".join(model.name for model in models.values())
    return FaceModel(both, name=name, preprocess=shown, device=str(device)), list(models)


def predictions(rows: np.ndarray, outputs: np.ndarray, models: Sequence[str], paths: np.ndarray) -> pd.DataFrame:
    """Return the table that `fairface` describes."""
    scores = {}
    for races, part in zip(models, np.split(outputs.astype(np.float32), len(models), axis=1), strict=True):
        scores |= decode(part, races)
    names = BLOCKS["7"] | BLOCKS["4"]
    blocks = [block for block in SCORES if block in scores]
    table = {"face_name_align": paths[rows]}
    table |= {block: np.array(names[block], object)[scores[block].argmax(1)] for block in blocks}
    table |= {f"{block} {name}": scores[block][:, k] for block in blocks for k, name in enumerate(names[block])}
    return pd.DataFrame(table, index=rows)


def write_predictions(said: pd.DataFrame, stem: Path, boxes: pd.Series | None = None) -> None:
    """Write the table as `STEM.parquet`, and as `STEM.csv` with a block's probabilities as numpy prints them."""
    said.to_parquet(f"{stem}.parquet", index=False)
    for start in range(0, len(said), ROWS_AT_ONCE):
        part = said.iloc[start : start + ROWS_AT_ONCE]
        table = part[["face_name_align", *(block for block in SCORES if block in said)]].copy()
        for block in table.columns[1:]:
            values = part.filter(regex=f"^{block} ").to_numpy()
            table[SCORES[block]] = [np.array2string(row, max_line_width=75, precision=8) for row in values]
        table = table if boxes is None else table.assign(bbox=boxes)
        with open(f"{stem}.csv", "ab") as file:
            file.write(csv_bytes(table, header=not start))


class ActivationFiles:
    """A layer's activations as `STEM.csv`, its rows `counted` or not, and `STEM.parquet`, written while the model runs."""

    def __init__(self, stem: Path, counted: bool = False) -> None:
        self.stem, self.writers, self.counted, self.rows = stem, [], counted, 0

    def write(self, paths: np.ndarray, values: np.ndarray) -> None:
        """Append rows."""
        table = pa.table({"image_paths": pa.array(paths, pa.string()), **{str(u): v for u, v in enumerate(values.T)}})
        cells = table.set_column(0, "image_paths", pa.array(map(as_text, paths), pa.string()))
        if self.counted:
            cells = cells.add_column(0, "", pa.array(range(self.rows, self.rows + len(paths))))
        self.rows += len(paths)
        if not self.writers:
            parquet = pa_parquet.ParquetWriter(f"{self.stem}.parquet", table.schema, use_dictionary=False)
            self.writers = [parquet, pa_csv.CSVWriter(f"{self.stem}.csv", cells.schema)]
        self.writers[0].write_table(table)
        self.writers[1].write_table(cells)

    def close(self) -> None:
        """Finish the files."""
        while self.writers:
            self.writers.pop().close()


class Activations(Accumulator):
    """Every unit's activation on every image, handed on shard by shard.

    Parameters
    ----------
    pooled : whether that is the mean of the unit's map, or all of it.
    write : takes the paths (n,) and the values (n, units) of a shard.
    """

    def __init__(
        self, layer: str, paths: np.ndarray, pooled: bool, write: Callable[[np.ndarray, np.ndarray], object]
    ) -> None:
        self.layer, self.layers, self.paths, self.pooled = layer, (layer,), paths, pooled
        self.kept = Handed(lambda shard: write(paths[shard["rows"]], shard["values"]))

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        values = (maps.mean((2, 3)) if self.pooled else maps.flatten(1)).cpu().numpy()
        for path in self.paths[batch.rows[~np.isfinite(values).all(1)]]:
            raise FacexkitError(f"layer {self.layer!r}, image {path!r}: an activation is not finite; check the weights")
        self.kept.take(batch.rows, values=values)

    def result(self) -> None:
        """Nothing is held."""
