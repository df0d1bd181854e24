"""The parameters that every notebook has, and how a wrong one is told before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, Optional, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError

from facexkit.arguments import (
    BatchSize,
    Count,
    EachOnce,
    Number,
    Outputs,
    Quantile,
    Seed,
    Side,
    TargetClass,
    Text,
    shown,
    wanted,
)  # fmt: skip
from facexkit.errors import FacexkitError, unknown
from facexkit.plain_yaml import INT, NULL, read_yaml, read_yaml_file

PASSES = "passes"
"""Where in a run's folder the finished shards of its passes are written down."""

UNTOLD = ("csv", "photos", "celeba", "celebamask_hq", "lfwa", "face_dictionary", "parquet", "pairs", "rfw", "bfw")
"""Formats that have no target of their own."""
OF_PAIRS = ("pairs", "rfw", "bfw")
WITHOUT = {
    "global_bias": "No groups to compare: name label columns with protected.",
    "fairface": "FairFace was not asked: it needs its public weights (-p model fairface:7 -p weights FOLDER).",
    "audit": "No groups to compare: name the target, the label that the model predicts, and protected, label columns.",
    "verification": "Verification compares pairs of faces: run it with data = 'pairs' and a CSV of reference, probe and "
    "1 or 0, or with 'rfw' or 'bfw'.",
    "fineface": "FineFACE wants a target, 50 faces of the split train to learn it from, and others of the split test.",
    "repair": "No repair: it takes a target, the label that the model predicts, and masks of the regions.",
}
"""Stage → what it says where it does not apply."""


class Parameters(BaseModel):
    """The flat parameters of the notebooks, with the defaults that stand in them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: Text = Field("synthetic", description="format of the face set: synthetic, celeba, csv, image_folder, …")
    data_root: Optional[Text] = Field(None, description="folder of the images")
    annotations: Optional[Text] = Field(None, description="label file, where it is not the format's own")
    masks: Optional[Text] = Field(None, description="region masks: a folder, landmarks or hf:NAME; None takes the format's own")
    mask_classes: Optional[Text] = Field(
        None, description="order of the values in index masks: celebamask, face_parsing, or names with commas"
    )
    find: Optional[Text] = Field(
        None, description="photographs: largest (or yes) or all finds, aligns and takes their faces"
    )
    target: Optional[Text] = Field(None, description="label column that the model predicts")
    protected: EachOnce = Field([], description="columns of the groups to compare")
    limit: Optional[Count] = Field(None, description="only the first so many images")
    balance: bool = Field(False, description="as many random faces of every protected group, as FaceX takes")
    model: Text = Field("demo:biased", description="demo:biased, torchvision:NAME, timm:NAME, hf:NAME, onnx:PATH, FILE.py:NAME")
    weights: Optional[Text] = Field(None, description="state dict of the model")
    num_classes: Optional[Outputs] = Field(None, description="outputs of the model")
    class_names: Optional[EachOnce] = Field(None, description="what the outputs are called, in their order")
    image_size: Optional[Side] = Field(None, description="side of the model's input in pixels")
    normalize: Optional[Union[Text, dict[Text, Union[Number, list[Number]]]]] = Field(
        None, description="imagenet, half, unit, none, or a dict"
    )
    preprocess: Optional[Union[Text, dict[Text, Any]]] = Field(
        None, description="in place of these two: {size, resize, interpolation, channels, normalize}"
    )
    output: Optional[Union[int, Text]] = Field(None, description="which part of what the model returns: place or key")
    outputs: Optional[Union[Text, dict[Text, Union[Number, list[Text]]]]] = Field(
        None, description="what they mean: classes, binary, labels, embedding, or blocks"
    )
    layer: Text = Field("layer4", description="layer to explain; `facexkit layers MODEL` lists them")
    target_class: TargetClass = Field(
        1, description="output or class name to explain, or a list of them"
    )
    explain_on: Literal["all", "class"] = Field(
        "all", description="the faces on which FaceX scores a class: all, or class for its own"
    )
    quantile: Quantile = Field(0.005, description="share of a unit's values above its threshold")
    mask_size: Side = Field(112, description="side of the unit and concept masks in pixels")
    crop: Optional[Text] = Field(None, description="mtcnn cuts the faces out before a dissection")
    export: Optional[Text] = Field(None, description="another program's files too: face_dissect, fairface")
    without: Optional[EachOnce] = Field(None, description="regions that the repair takes from the model; None for the first accused")
    device: Text = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    batch_size: BatchSize = Field(32, description="images at a time")
    client: Optional[Text] = Field(
        None, description="where the passes run: None for here, local, or a Dask scheduler's address"
    )
    seed: Seed = Field(0, description="of everything random")
    out: Text = Field("runs/notebooks", description="folder for what the run makes")


_TEXT = {name for name, field in Parameters.model_fields.items() if field.annotation in (str, Optional[Text])}
_KEPT = dict.fromkeys((*_TEXT, "protected", "class_names", "without"), (NULL,))
_KEPT |= dict.fromkeys(("target_class", "output"), (INT, NULL))
"""What else than text YAML may give a parameter that is text."""


def parse(name: str, text: str) -> object:
    """Read a value from the command line as YAML (so JSON too); None, null or nothing is None.

    Where text fits and YAML would make something else of it, as of a class called "1.5", the text stays as it is.
    """
    if text.strip() in ("", "None", "null", "~"):
        return None
    if name in _TEXT:
        return text
    try:
        return read_yaml(text, {"": _KEPT[name]} if name in _KEPT else None)
    except (yaml.YAMLError, ValueError):
        return text


def read_parameter_file(path: str | Path, trust: bool = False) -> dict[str, object]:
    """Return the parameters in a YAML file: one mapping from name to value.

    A scheduler is taken from it with `trust` alone: what a scheduler sends is unpickled, and can run code.
    """
    found = read_yaml_file(path, "parameter file", _KEPT)
    if found.get("client") not in (None, "local") and not trust:
        raise FacexkitError(
            f"parameter file {path} names a Dask scheduler, and what that sends can run code here; name it with --client"
        )
    return found


def check(given: Mapping[str, object]) -> Parameters:
    """Return the parameters with their types checked; the first wrong one is an error that names what is right."""
    for name in given:
        if name not in Parameters.model_fields:
            raise unknown("parameter", name, Parameters.model_fields)
    try:
        return Parameters(**given)
    except ValidationError as error:
        name = str(error.errors(include_url=False)[0]["loc"][0])
        field = Parameters.model_fields[name]
        raise FacexkitError(
            f"parameter {name!r} cannot be {shown(given[name])}: {wanted(error, name)}. "
            f"It holds: {field.description} (default {field.default!r})"
        ) from error


def applies(stage: str, asked: Parameters) -> bool:
    """Return whether a stage applies to what is asked, as far as the parameters alone tell."""
    untold = asked.target is None and asked.data in UNTOLD
    lacks = {
        "global_bias": untold and not asked.protected,
        "fairface": not asked.model.startswith("fairface:") or asked.weights is None,
        "audit": untold or not asked.protected,
        "verification": asked.data not in OF_PAIRS,
        "fineface": untold,
        "repair": untold,
    }
    return asked.data == "synthetic" or not lacks.get(stage)
