"""A run's choices, read back, and the faces and models that they name."""

from __future__ import annotations

import os
from collections.abc import Mapping
from pathlib import Path

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.plain_yaml import read_yaml_file
from facexkit.show.index import read_manifest

OF_DATA = ("annotations", "masks", "target", "protected", "limit")
OF_MODEL = ("weights", "num_classes", "class_names", "image_size", "normalize", "output", "seed", "device")


def read_choices(folder: Path) -> dict[str, object]:
    """Return the parameters of a run that say something: its `params.yaml`'s, else its manifest's."""
    path = folder / "params.yaml"
    kept = read_yaml_file(path, "the run's") if path.is_file() else None
    found = kept or read_manifest(folder).get("parameters")
    if not isinstance(found, dict):
        raise FacexkitError(
            f"{folder} is no run: it has neither params.yaml nor manifest.json; name the folder of a run"
        )
    given = {name: value for name, value in found.items() if value is not None and name != "out"}
    return {"data": "synthetic", "model": "demo:biased", "layer": "layer4", "target_class": 1, **given}


def load_faces_of(choices: Mapping[str, object]) -> FaceSet:
    """Return the faces that a run's parameters name, as the notebooks take them: the test part, where there is one."""
    given = {name: choices[name] for name in OF_DATA if name in choices}
    if choices["data"] == "synthetic":
        given |= {"shortcut": "u_lip", "seed": choices.get("seed", 0)}
    faces = load_faces(choices["data"], root=choices.get("data_root"), **given)
    test = faces.table.split == "test" if "split" in faces.table else None
    return faces[test] if test is not None and test.any() else faces


def load_models_of(choices: Mapping[str, object], folder: Path | None = None, trust: bool = False) -> list[FaceModel]:
    """Return the models that a run's parameters name; beside the biased demo model the fair one."""
    if folder is not None and (folder / "cache").is_dir():
        os.environ.setdefault("FACEXKIT_CACHE", str(folder / "cache"))  # where the run left the demo models
    given = {name: choices[name] for name in OF_MODEL if name in choices}
    names = [choices["model"], *(["demo:fair"] if choices["model"] == "demo:biased" else [])]
    return [load_model(name, **given, trust=trust) for name in names]
