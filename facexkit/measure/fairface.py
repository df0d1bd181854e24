"""FairFace's predictions, and the activations of any layer beside them, as the files that its users know."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Sequence
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
from facexkit.faces.faceset import FaceSet
from facexkit.measure.predictions import Outputs
from facexkit.measure.records import provenance
from facexkit.models.face_model import FaceModel
from facexkit.models.fairface import BLOCKS, OUTPUTS, decode
from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.stream import stream

SCORES = {"race": "race_scores_fair", "race4": "race_scores_fair_4", "gender": "gender_scores_fair", "age": "age_scores_fair"}
"""Block of outputs → FairFace's column of its probabilities, in FairFace's order."""
ROWS_AT_ONCE, VALUES_AT_ONCE = 4096, 4 << 20


def fairface(
    faces: FaceSet,
    seven: FaceModel | None = None,
    four: FaceModel | None = None,
    *,
    layers: str | Sequence[str] = (),
    pooled: bool = True,
    out: str | Path | None = None,
    **how: object,
) -> pd.DataFrame:
    """Ask FairFace's two models about every face in one pass over the images, and write what its own script writes.

    Parameters
    ----------
    faces : aligned faces, see `align_faces`.
    seven, four : the seven-race model, which tells gender and age too, and the four-race model; one may be left out.
    layers : layers to record: NAME of the first model given, or "7.NAME" and "4.NAME".
    pooled : whether a column is the mean of a unit's map; else maps are flattened (unit, row, column).
    out : folder for `test_outputs.csv` in FairFace's form, `test_outputs.parquet` with one column a probability, and
        `fairface_activations.csv` and `.parquet` with `image_paths` and one column a unit; from the second layer on they
        are called `fairface_activations_LAYER`. All are written to the side and put there at the end.
    how : `batch_size`, `workers`, `autocast`, `max_skipped`, `progress`, see `stream`.

    Returns
    -------
    table indexed by the row in the face set: `face_name_align`, the most probable `race`, `race4`, `gender` and `age`,
    and one column a probability (`race White`, …). attrs: what made it, `skipped`, and `files` if there is `out`.

    Raises
    ------
    FacexkitError for models that are not FairFace's or differ in their input, layers without `out`, an unknown layer,
    and activations that are not finite.
    """
    pair, races = both_models(seven, four)
    layers = [layers] if isinstance(layers, str) else list(dict.fromkeys(layers))
    if layers and out is None:
        raise FacexkitError("activations go to files as the pass goes on; name a folder with out=")
    paths, outputs = faces.table.path.to_numpy(object), Outputs()
    with ExitStack() as opened:
        if out is not None:
            Path(out).mkdir(parents=True, exist_ok=True)
            side = Path(opened.enter_context(tempfile.TemporaryDirectory(dir=out, prefix=".fairface.")))
        tables = []
        for place, layer in enumerate(layers):
            stem = side / ("fairface_activations" + (f"_{layer}" if place else ""))
            tables.append(ActivationTable(layer if layer[:2] in ("7.", "4.") else f"{races[0]}.{layer}", paths, stem, pooled))
            opened.callback(tables[-1].close)
        skipped = stream(pair, faces, [outputs, *tables], **how)
        said = predictions(*outputs.result(), races, paths)
        said.attrs = provenance(pair, faces, layers=layers, pooled=pooled, skipped=skipped)
        if out is not None:
            write_predictions(said, side / "test_outputs")
            for table in tables:
                table.result()
            said.attrs["files"] = [str(Path(out, file.name)) for file in sorted(side.iterdir())]
            for file in said.attrs["files"]:
                os.replace(side / Path(file).name, file)
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
    inputs = [(m.image_size, m.device, m.mean.flatten().tolist(), m.std.flatten().tolist()) for m in models.values()]
    if inputs[0] != inputs[-1]:
        raise FacexkitError("the two models differ in image_size, device or normalization; load them alike")
    size, device, mean, std = inputs[0]
    network = BothModels({races: model.network for races, model in models.items()})
    name = " and ".join(model.name for model in models.values())
    return FaceModel(network, name=name, image_size=size, mean=mean, std=std, device=str(device)), list(models)


def predictions(rows: np.ndarray, outputs: np.ndarray, models: Sequence[str], paths: np.ndarray) -> pd.DataFrame:
    """Return the table that `fairface` describes."""
    scores = {}
    for races, part in zip(models, np.split(outputs.astype(np.float32), len(models), axis=1), strict=True):
        scores |= decode(part, races)
    names = BLOCKS["7"] | BLOCKS["4"]
    blocks = [block for block in ("race", "race4", "gender", "age") if block in scores]
    table = {"face_name_align": paths[rows]}
    table |= {block: np.array(names[block], object)[scores[block].argmax(1)] for block in blocks}
    table |= {f"{block} {name}": scores[block][:, k] for block in blocks for k, name in enumerate(names[block])}
    return pd.DataFrame(table, index=rows)


def write_predictions(said: pd.DataFrame, stem: Path) -> None:
    """Write `STEM.parquet`, a column a probability, and `STEM.csv`, a block's probabilities as numpy prints them."""
    said.to_parquet(f"{stem}.parquet", index=False)
    for start in range(0, len(said), ROWS_AT_ONCE):
        part = said.iloc[start : start + ROWS_AT_ONCE]
        table = part[["face_name_align", *(block for block in SCORES if block in said)]].copy()
        for block in table.columns[1:]:
            values = part.filter(regex=f"^{block} ").to_numpy()
            table[SCORES[block]] = [np.array2string(row, max_line_width=75, precision=8) for row in values]
        table.to_csv(f"{stem}.csv", index=False, header=not start, mode="a" if start else "w")


class ActivationTable(Accumulator):
    """A layer's activations as `STEM.csv` and `STEM.parquet`, written while the model runs; memory does not grow."""

    def __init__(self, layer: str, paths: np.ndarray, stem: Path, pooled: bool) -> None:
        self.layer, self.layers, self.paths, self.stem, self.pooled = layer, (layer,), paths, stem, pooled
        self.held: list[tuple[np.ndarray, np.ndarray]] = []
        self.writers: list[pa_csv.CSVWriter | pa_parquet.ParquetWriter] = []

    def update(self, batch: ProbedBatch) -> None:
        maps = batch.activations[self.layer]
        values = (maps.mean((2, 3)) if self.pooled else maps.flatten(1)).cpu().numpy()
        if (broken := ~np.isfinite(values).all(1)).any():
            path = self.paths[batch.rows[broken][0]]
            raise FacexkitError(f"layer {self.layer!r}, image {path!r}: an activation is NaN or infinite; check the weights")
        self.held.append((self.paths[batch.rows], values))
        if values.size * len(self.held) >= VALUES_AT_ONCE:
            self._write()

    def merge(self, other: ActivationTable) -> None:
        raise FacexkitError("activations are written in the order of the images: show them in one shard, or fx.record them")

    def result(self) -> None:
        """Write what is left, and close the files."""
        if self.held:
            self._write()
        self.close()

    def close(self) -> None:
        while self.writers:
            self.writers.pop().close()

    def _write(self) -> None:
        paths, values = map(np.concatenate, zip(*self.held, strict=True))
        self.held = []
        columns = {str(unit): column for unit, column in enumerate(values.T)}
        table = pa.table({"image_paths": pa.array(paths, pa.string())} | columns)
        if not self.writers:
            parquet = pa_parquet.ParquetWriter(f"{self.stem}.parquet", table.schema, use_dictionary=False)
            self.writers = [parquet, pa_csv.CSVWriter(f"{self.stem}.csv", table.schema)]
        for writer in self.writers:
            writer.write_table(table)
