"""All widgets joined: layer → class → regions → units → a face, with a summary in words that follows."""

from __future__ import annotations

import json
import os
from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import ipywidgets
import traitlets as t
import xarray as xr
import yaml

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.faces.formats import load_faces
from facexkit.measure.dissection import dissect
from facexkit.measure.global_bias import global_bias
from facexkit.measure.saved import read_result, save_result
from facexkit.models.face_model import FaceModel
from facexkit.models.loading import load_model
from facexkit.show.report import write_report
from facexkit.show.widgets.base import Widget, rows, script, text, whole
from facexkit.show.widgets.class_explorer import ClassExplorer
from facexkit.show.widgets.face_picker import FacePicker
from facexkit.show.widgets.layer_picker import LayerPicker
from facexkit.show.widgets.patch_gallery import PatchGallery
from facexkit.show.widgets.scores import Scores
from facexkit.show.widgets.unit_browser import UnitBrowser

OF_DATA = ("annotations", "masks", "target", "protected", "limit")
OF_MODEL = ("weights", "num_classes", "class_names", "image_size", "normalize", "seed", "device")
DRAWN = ("lipstick", "skin_tone", "age", "gender")


class Summary(Widget):
    """Sentences, and buttons: [name, text] pairs, of which `pressed` is the last one pressed."""

    _esm = script("summary")
    said, buttons, pressed, note, presses = rows(), rows(), text(), text(), whole()

    def still(self) -> str:
        return "".join(f"<p>{sentence}</p>" for sentence in self.said)


class Explorer(ipywidgets.VBox):
    """What `explore` gives: `layers`, `classes`, `patches`, `units`, `face` and `summary`, each a widget of its own.

    Parameters
    ----------
    folder : where a report and kept results go; a run's folder gives its results.
    choices : the run's parameters by name, saved with what is kept.
    """

    def __init__(
        self, models: Sequence[FaceModel], faces: FaceSet, layer: str | None, target_class: int | str,
        folder: Path | None = None, choices: Mapping[str, object] | None = None,
    ) -> None:  # fmt: skip
        model, twin = models[0], deepcopy(models[0])  # a twin for what is shown at once, while the model is at work
        self.face_model, self.faces, self.folder, self.choices = (
            model,
            faces,
            folder or Path("runs", "explore"),
            dict(choices or {}),
        )
        self.manifest = read_manifest(self.folder)
        others = {
            path.parent.name: path for path in self.folder.parent.glob("*/regions.zarr") if path.parent != self.folder
        }
        scores, buttons = (
            Scores(faces, folder and folder / "explore", folder),
            [("report", "Save report"), ("keep", "Keep for comparison")],
        )
        self.summary = Summary(title=f"{model.name} on {faces.name}, {len(faces):,} faces", buttons=buttons)
        self.layers = LayerPicker(model, layer)
        self.classes = ClassExplorer(models, faces, self.layers.layer, target_class, scores=scores, others=others)
        self.patches = PatchGallery(None, faces, twin)
        self.units = UnitBrowser(None, faces, model, target_class=target_class)
        self.face = FacePicker(twin, faces, self.layers.layer, target_class)
        places = {
            "wide": (self.summary, self.units, self.face),
            "left": (self.classes,),
            "right": (self.layers, self.patches),
        }
        for child, place in ((child, place) for place, children in places.items() for child in children):
            child.add_class(f"fx-{place}")
        super().__init__([self.summary, self.layers, self.classes, self.patches, self.units, self.face])
        self.add_class("fx-grid")
        self._join()

    def _join(self) -> None:
        t.link((self.classes, "region"), (self.patches, "region"))
        t.link((self.layers, "layer"), (self.classes, "layer"))
        self.layers.observe(lambda _: self._dissect(), "layer")
        self.classes.observe(lambda _: (self.patches.show(self.classes.facex), self._say()), "measured")
        self.classes.observe(lambda _: self._ask(), "target_class")
        self.classes.observe(lambda _: self._say(), "said")
        self.units.observe(lambda _: self._say(), "detail")
        self.summary.observe(lambda _: self._press(), "presses")
        self.classes.refresh()
        self._dissect()

    def _ask(self) -> None:
        self.units.target = self.face_model.class_index(self.classes.target_class)
        self.face.ask(self.layers.layer, self.classes.target_class, self.units.found)

    def _say(self) -> None:
        unit, stages = self.units.detail, self.manifest.get("stages", [])
        of_unit = [f"{unit['title']} of {self.layers.layer}: {unit['said']}"] if unit else []
        audit = next((stage["findings"][:1] for stage in stages if stage["name"] == "audit"), [])
        self.summary.said = [*self.classes.said[:4], *of_unit, *audit]

    def _dissect(self) -> None:
        self.units.work("Dissecting the layer …", self._find_units)

    def _find_units(self) -> None:
        layer, model, faces, asked = self.layers.layer, self.face_model, self.faces, self.choices
        found, bias = (self._of_run(self.folder / layer / f"{name}.zarr") for name in ("dissection", "bias"))
        if found is None:
            how = {"saved": self.folder / "explore" / layer / "dissection.zarr", "progress": False}
            size = min(asked.get("mask_size", 112), model.image_size)
            found = dissect(model, self.units.watched(faces), layer, asked.get("quantile", 0.005), size, **how)
        labels = {value.partition(": ")[0] for value, _ in self.classes.groups[1:]}  # those that make groups
        labels = [name for name in faces.protected or (*DRAWN, faces.target) if name in labels]
        if bias is None and labels:
            bias = global_bias(model, faces, layer, labels, found=found, progress=False)
        self.units.show(found, bias)
        self._ask()

    def _of_run(self, path: Path) -> xr.Dataset | None:
        found = read_result(path) if path.exists() else None
        made = {"model_fingerprint": self.face_model.fingerprint(), "faces_fingerprint": self.faces.fingerprint()}
        return found if found is not None and made.items() <= found.attrs.items() else None

    def _press(self) -> None:
        with self.summary.in_words():
            self.summary.note = (
                f"Written: {(self.save_report() if self.summary.pressed == 'report' else self.keep()).resolve()}"
            )

    def save_report(self) -> Path:
        """Write what is selected as one HTML page, hand it to the browser, and return its path."""
        self.classes.wait()
        results = {scores.attrs["method"]: scores for scores in (*self.classes.shown[:1], self.classes.facex)}
        path = write_report(results.values(), self.faces, self.folder / "explored.html")
        self.summary.send({"name": "report.html"}, [path.read_bytes()])
        return path

    def keep(self) -> Path:
        """Save the choices (`params.yaml`) and the region scores, to compare later runs with, and return the folder."""
        self.classes.wait()
        now = {"layer": self.layers.layer, "target_class": self.classes.target_class}
        write_whole(self.folder / "params.yaml", yaml.safe_dump({**self.choices, **now}, sort_keys=False).encode())
        save_result(self.classes.shown[0], self.folder / "regions.zarr")
        return self.folder

    def _repr_mimebundle_(self, **how: object) -> dict:
        data = super()._repr_mimebundle_(**how)
        return {**data, "text/html": "".join(f"<h3>{child.title}</h3>{child.still()}" for child in self.children)}


def explore(
    model: FaceModel | Sequence[FaceModel] | None = None, faces: FaceSet | None = None, layer: str | None = None,
    target_class: int | str = 1, *, run: str | Path | None = None, trust: bool = False,
) -> Explorer:  # fmt: skip
    """Explore layers, classes, regions, units and faces by clicking.

    Parameters
    ----------
    model, faces : the model, or several of which the first is explored, and the faces; or
    run : the folder of a run, whose choices and results are taken.
    trust : whether code in the model's own file may run.
    """
    if run is not None:
        choices = read_choices(Path(run))
        faces, models = load_faces_of(choices), load_models_of(choices, Path(run), trust)
        asked = choices["target_class"]
        first = asked[0] if isinstance(asked, list) else asked
        return Explorer(models, faces, layer or choices["layer"], first, Path(run), choices)
    if model is None or faces is None:
        raise FacexkitError("explore needs a model and faces: explore(model, faces), or explore(run='runs/demo')")
    return Explorer([model] if isinstance(model, FaceModel) else list(model), faces, layer, target_class)


def read_manifest(folder: Path) -> dict:
    """Return a run's manifest, empty where there is none."""
    path = folder / "manifest.json"
    return json.loads(path.read_text(encoding="utf-8")) if path.is_file() else {}


def read_choices(folder: Path) -> dict[str, object]:
    """Return the parameters of a run: its `params.yaml`, else its manifest's."""
    path = folder / "params.yaml"
    found = (
        yaml.safe_load(path.read_text(encoding="utf-8")) if path.is_file() else read_manifest(folder).get("parameters")
    )
    if not found:
        raise FacexkitError(
            f"{folder} is no run: it has neither params.yaml nor manifest.json; name the folder of a run"
        )
    return found


def load_faces_of(choices: Mapping[str, object]) -> FaceSet:
    """Return the faces that a run's parameters name, as the notebooks take them: the test part, where there is one."""
    planted = {"shortcut": "u_lip", "seed": choices["seed"]} if choices["data"] == "synthetic" else {}
    given = {name: choices[name] for name in OF_DATA}
    faces = load_faces(choices["data"], root=choices["data_root"], **given, **planted)
    test = faces.table.split == "test" if "split" in faces.table else None
    return faces[test] if test is not None and test.any() else faces


def load_models_of(choices: Mapping[str, object], folder: Path | None = None, trust: bool = False) -> list[FaceModel]:
    """Return the models that a run's parameters name; beside the biased demo model the fair one."""
    if folder is not None and (folder / "cache").is_dir():
        os.environ.setdefault("FACEXKIT_CACHE", str(folder / "cache"))  # where the run left the demo models
    names = [choices["model"], *(["demo:fair"] if choices["model"] == "demo:biased" else [])]
    return [load_model(name, **{key: choices[key] for key in OF_MODEL}, trust=trust) for name in names]
