"""A run: what its parameters name, for the notebooks, Explore, the app and the command line alike."""

from __future__ import annotations

import atexit
import os
import shutil
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from facexkit.errors import FacexkitError, StageDoesNotApply
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.faces.label_files import label_table
from facexkit.faces.notes import MOST_VALUES
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.parameters import PASSES, WITHOUT, Parameters, applies, check, read_parameter_file
from facexkit.show.index import read_manifest

OF_DATA = ("annotations", "masks", "mask_classes", "find", "target", "protected", "limit")
OF_MODEL = ("weights", "num_classes", "class_names", "image_size", "normalize", "preprocess", "output", "outputs", "seed",
            "device")  # fmt: skip


def run_is_trusted() -> bool:
    """Return whether the run was started with `--trust`: code in a model's file may run."""
    return os.environ.get("FACEXKIT_TRUST") == "1"


class Run:
    """What the parameters of a run name: its faces, its models, and how its passes go::

        run = fx.Run(globals())  # in a notebook, after its parameters
        fx.score_regions(run.models[0], run.faces, layer, target_class, **run.how)

    Parameters
    ----------
    given : the parameters by name; what is no parameter is left alone.
    trust : whether code in a model's own file may run; None for as the run was started.

    Raises
    ------
    FacexkitError for a parameter of a wrong type.
    """

    def __init__(self, given: Mapping[str, object], trust: bool | None = None) -> None:
        self.parameters = check({name: given[name] for name in Parameters.model_fields if name in given})
        self.trust = run_is_trusted() if trust is None else trust
        self.out = Path(self.parameters.out)

    @staticmethod
    def is_one(folder: Path) -> bool:
        """Return whether a folder is that of a run."""
        return any((folder / name).is_file() for name in ("params.yaml", "manifest.json"))

    @classmethod
    def of(cls, folder: str | Path, trust: bool = False) -> Run:
        """Return the run of a folder, by its `params.yaml`, else by its manifest; where its passes ran is not taken over."""
        path = Path(folder, "params.yaml")
        found = read_parameter_file(path, trust=True) if path.is_file() else read_manifest(Path(folder)).get("parameters")
        if not found:
            raise FacexkitError(f"{folder} is no run: it has neither params.yaml nor manifest.json; name the folder of a run")
        given = {name: value for name, value in found.items() if value is not None} | {"out": str(folder), "client": None}
        return cls(check(given).model_dump(), trust)

    def require(self, stage: str, given: object = True) -> None:
        """Raise `StageDoesNotApply` where a stage lacks what it needs: by the parameters, or by what was found with them."""
        if not (applies(stage, self.parameters) and given):
            raise StageDoesNotApply(WITHOUT[stage])

    @property
    def choices(self) -> dict[str, object]:
        """The parameters that say something, but for the folder."""
        return self.parameters.model_dump(exclude={"out"}, exclude_none=True)

    @property
    def how(self) -> dict[str, object]:
        """The options of its passes, for every function that shows faces to a model.

        What they write down is removed when a notebook that somebody opened ends, and else by who runs the stages.
        """
        if "FACEXKIT_TRUST" not in os.environ:
            atexit.register(shutil.rmtree, self.out / PASSES, ignore_errors=True)
        return {**self.options, "folder": self.out / PASSES}

    @property
    def options(self) -> dict[str, object]:
        """The options of its passes, but for where they write down what is finished."""
        return {"batch_size": self.parameters.batch_size, "client": self.parameters.client}

    @cached_property
    def every_face(self) -> FaceSet:
        """All the faces."""
        return self.load_faces()

    @cached_property
    def faces(self) -> FaceSet:
        """The faces that a model is judged on: the test part, else the validation part, where the set has one; balanced if asked."""
        faces = self.every_face
        parts = (faces.table.split == part for part in ("test", "val") if "split" in faces.table)
        faces = next((faces[part] for part in parts if part.any()), faces)
        return faces.balanced(seed=self.parameters.seed) if self.parameters.balance else faces

    @cached_property
    def models(self) -> list[FaceModel]:
        """The model; beside the biased demo model the fair one."""
        names = [self.parameters.model, *(["demo:fair"] if self.parameters.model == "demo:biased" else [])]
        return [self.load_model(name) for name in names]

    def load_faces(self, **own: object) -> FaceSet:
        """Load the faces; `own` arguments of `fx.load_faces` go before the parameters."""
        given = {name: getattr(self.parameters, name) for name in OF_DATA}
        if self.parameters.data == "synthetic":
            given |= {"shortcut": "u_lip", "seed": self.parameters.seed}
        return load_faces(self.parameters.data, root=self.parameters.data_root, **{**given, **own})

    def load_model(self, name: str | None = None) -> FaceModel:
        """Load the model, or the one of another name with the same parameters."""
        given = {each: getattr(self.parameters, each) for each in OF_MODEL}
        return load_model(name or self.parameters.model, **given, trust=self.trust)


def photographs_of(
    model: str, photos: Path, labels: Path | None, given: Mapping[str, object], trust: bool = False
) -> dict[str, object]:
    """Return the parameters that explain a model from a folder of photographs; what is given goes before them.

    Faces are found and aligned, masks are drawn over their landmarks, and the layer is the last that has places. Of a
    CSV of labels the first column is what the model predicts, the others are groups where they have few values.
    """
    own: dict[str, object] = {"data": "photos", "data_root": str(photos), "find": "largest", "masks": "landmarks", "model": model}
    if labels is not None:
        table = label_table(labels).drop(columns="path")
        columns = [str(column) for column in table if table[column].nunique() <= MOST_VALUES]
        own |= {"annotations": str(labels), "target": columns[0] if columns else None, "protected": columns[1:]}
    own |= given
    if "layer" not in given:
        layers = Run(own, trust).load_model().layers
        with_places = layers.index[(layers.height * layers.width > 1) & (layers.problem == "")]
        own |= {"layer": with_places[-1]} if len(with_places) else {}
    return {name: value for name, value in own.items() if value not in (None, [])}
