"""The parameters that every notebook has, and how a wrong one is told before anything runs."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any, Optional, Union

import yaml
from pydantic import BaseModel, ConfigDict, Field, ValidationError, field_validator

from facexkit.errors import FacexkitError, unknown

ClassName = Union[Annotated[int, Field(ge=0)], str]


class Parameters(BaseModel):
    """The flat parameters of the notebooks, with the defaults that stand in them."""

    model_config = ConfigDict(extra="forbid", strict=True)

    data: str = Field("synthetic", description="format of the face set: synthetic, celeba, csv, image_folder, …")
    data_root: Optional[str] = Field(None, description="folder of the images")
    annotations: Optional[str] = Field(None, description="label file, where it is not the format's own")
    masks: Optional[str] = Field(None, description="region masks: a folder or landmarks; None takes the format's own")
    target: Optional[str] = Field(None, description="label column that the model predicts")
    protected: list[str] = Field([], description="columns of the groups to compare")
    limit: Optional[Annotated[int, Field(ge=1)]] = Field(None, description="only the first so many images")
    model: str = Field("demo:biased", description="demo:biased, torchvision:NAME, onnx:PATH, path/to/file.py:NAME")
    weights: Optional[str] = Field(None, description="state dict of the model")
    num_classes: Optional[Annotated[int, Field(ge=1)]] = Field(None, description="outputs of the model")
    class_names: Optional[list[str]] = Field(None, description="what the outputs are called, in their order")
    image_size: Optional[Annotated[int, Field(ge=1)]] = Field(None, description="side of the model's input in pixels")
    normalize: Optional[Union[str, dict[str, Any]]] = Field(None, description="imagenet, half, unit, none, or a dict")
    layer: str = Field("layer4", description="layer to explain; `facexkit layers MODEL` lists them")
    target_class: Union[ClassName, Annotated[list[ClassName], Field(min_length=1)]] = Field(
        1, description="output or class name to explain, or a list of them"
    )
    quantile: float = Field(0.005, gt=0, lt=1, description="share of a unit's values above its threshold")
    mask_size: int = Field(112, ge=1, description="side of the unit and concept masks in pixels")
    device: str = Field("auto", description="auto, cpu, cuda, cuda:1, mps")
    batch_size: int = Field(32, ge=1, description="images at a time")
    seed: int = Field(0, ge=0, description="of everything random")
    out: str = Field("runs/notebooks", description="folder for what the run makes")

    @field_validator("protected", "class_names", mode="before")
    @classmethod
    def _one_name_is_a_list(cls, value: object) -> object:
        return [name.strip() for name in value.split(",")] if isinstance(value, str) else value


_TEXT = {name for name, field in Parameters.model_fields.items() if field.annotation in (str, Optional[str])}


def parse(name: str, text: str) -> object:
    """Read a value from the command line as YAML (so JSON too); None, null or nothing is None.

    Where only text fits, and where YAML would make a truth value of a class called "yes", the text stays as it is.
    """
    if text.strip() in ("", "None", "null", "~"):
        return None
    if name in _TEXT:
        return text
    try:
        value = yaml.safe_load(text)
    except yaml.YAMLError:
        return text
    return text if isinstance(value, bool) else value


def read_parameter_file(path: str | Path) -> dict[str, object]:
    """Return the parameters in a YAML file: one mapping from name to value."""
    try:
        content = yaml.safe_load(Path(path).read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError) as error:
        raise FacexkitError(f"parameter file {path} cannot be read: {getattr(error, 'strerror', None) or error}") from error
    except yaml.YAMLError as error:
        place = f", line {error.problem_mark.line + 1}" if getattr(error, "problem_mark", None) else ""
        raise FacexkitError(f"parameter file {path}{place} is not YAML: {getattr(error, 'problem', error)}") from error
    if content is None:
        return {}
    if not isinstance(content, dict):
        raise FacexkitError(f"parameter file {path} holds a {type(content).__name__}; write one NAME: VALUE a line")
    return content


def check(given: Mapping[str, object]) -> Parameters:
    """Return the parameters with their types checked; the first wrong one is an error that names what is right."""
    for name in given:
        if name not in Parameters.model_fields:
            raise unknown("parameter", name, Parameters.model_fields)
    try:
        return Parameters(**given)
    except ValidationError as error:
        first = error.errors()[0]
        name = str(first["loc"][0])
        field, wrong = Parameters.model_fields[name], given[name]
        what = " or ".join(dict.fromkeys(e["msg"][0].lower() + e["msg"][1:] for e in error.errors() if e["loc"][0] == name))
        raise FacexkitError(
            f"parameter {name!r} cannot be {wrong!r}: {what.replace('input should be', 'it must be', 1)}. "
            f"It holds: {field.description} (default {field.default!r})"
        ) from error
