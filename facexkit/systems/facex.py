"""FaceX's own call, as its README makes it, with the kit's numbers and pictures."""

from __future__ import annotations

import tempfile
from pathlib import Path

import pandas as pd
from IPython.core.error import StdinNotImplementedError
from torch import nn

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.faces.spreadsheet import csv_bytes
from facexkit.measure.region_scores import score_regions
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.show.face_map import Drawing, face_map
from facexkit.show.report import show_examples, write_region_report

ASK = "There are no region masks. Shall approximate ones be made, a drawn face over five found points? [y/n] "


def run_facex(
    target: str, protected: str | None, target_class: int | str, model: nn.Module | FaceModel, data_dir: str | Path,
    csv_dir: str | Path | pd.DataFrame, target_layer: str, transform: object = None, img_size: int = 512, *,
    masks: object = None, explain_on: str = "class", seed: int = 1, **how: object,
) -> tuple[Drawing, dict[str, Drawing], str]:  # fmt: skip
    """Explain a class as `facex.component.run` does, balanced by the protected attribute, on the images of the class.

        fig_heatmap, fig_patches, html = run_facex(target, protected, 1, model, data_dir, csv_dir, "layer4")

    Parameters
    ----------
    target, protected : the columns of the task, and of the groups of which as many faces are taken (None or "None": all).
    model : a network in memory, as `torch.load` gave it, or a model of the kit's.
    csv_dir : a table with the columns img, TARGET and PROTECTED, or the file of one.
    transform : what the model is shown; by default an image of `img_size` pixels a side, with ImageNet's normalization.
    masks : None for `DATA_DIR-mask-anno`; where that is not there either it is asked whether masks shall be made.
    explain_on : "class", the images labelled as the class, or "all".
    how : options of the pass, see `PassOptions`.

    Returns
    -------
    the heat map, the patches by region, and the report as one HTML page.
    """
    if not isinstance(model, FaceModel):
        shown = {"image_size": img_size, "normalize": "imagenet"} if transform is None else {"preprocess": transform}
        model = load_model(model, **shown)
    balanced = protected not in (None, "None")
    faces = _faces(data_dir, csv_dir, masks, target, [protected] if balanced else [])
    if faces.masks is None:
        _ask_for_masks(faces)
        faces = _faces(data_dir, csv_dir, "landmarks", target, [protected] if balanced else [])
    faces = faces.balanced(seed=seed) if balanced else faces
    scores = score_regions(model, faces, target_layer, target_class, explain_on=explain_on, seed=seed, **how)
    scores = scores.isel(target_class=0)
    regions = scores.region.values[scores.images.values > 0].tolist()
    with tempfile.TemporaryDirectory() as folder:
        html = write_region_report(scores, faces, Path(folder, "facex.html")).read_text(encoding="utf-8")
    return face_map(scores), {region: show_examples(scores, faces, region) for region in regions}, html


def _faces(root: str | Path, table: object, masks: object, target: str, protected: list[str]) -> FaceSet:
    if not isinstance(table, pd.DataFrame):
        return load_faces("csv", root, table, masks, target, protected)
    with tempfile.TemporaryDirectory() as folder:
        file = Path(folder, "annotations.csv")
        file.write_bytes(csv_bytes(table))
        faces = load_faces("csv", root, file, masks, target, protected)
    faces.source["annotations"] = "a data frame"
    return faces


def _ask_for_masks(faces: FaceSet) -> None:
    try:
        said = input(ASK)
    except (EOFError, OSError, StdinNotImplementedError):  # a script, a test or a batch's notebook: nobody is there to answer
        said = ""
    if not said.strip().lower().startswith("y"):
        raise FacexkitError(f"{faces.name!r} has no region masks; give masks=, a folder, 'landmarks' or a face parser")
