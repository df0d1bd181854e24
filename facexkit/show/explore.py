"""All widgets joined: layer → class → regions → units → a face, with a summary in words that follows."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from importlib.metadata import version
from pathlib import Path

import traitlets as t
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.measure.dissection import dissect
from facexkit.measure.global_bias import global_bias
from facexkit.measure.saved import find_result, write_scores
from facexkit.measure.share_interval import PARTS
from facexkit.mend.repair import repair
from facexkit.models.face_model import FaceModel, apart
from facexkit.parameters import PASSES
from facexkit.plain_yaml import write_yaml
from facexkit.probe.options import PassOptions
from facexkit.show.index import read_manifest, shown_pictures
from facexkit.show.repair import repair_findings
from facexkit.show.report import write_region_report
from facexkit.show.run import Run
from facexkit.show.widgets.base import Box, Widget, among, count, rows, script, settle, table, text, whole
from facexkit.show.widgets.class_explorer import ClassExplorer
from facexkit.show.widgets.face_picker import FacePicker
from facexkit.show.widgets.layer_picker import LayerPicker
from facexkit.show.widgets.patch_gallery import PatchGallery
from facexkit.show.widgets.scores import Scores
from facexkit.show.widgets.unit_browser import UnitBrowser

OF_SCORES = ("kept", "regions")
"""Where a run's folder has region scores: what somebody kept, and what the run found."""
DRAWN = ("lipstick", "skin_tone", "age", "gender")
WITHOUT = "What if the model could not use this region?"


class Summary(Widget):
    """Sentences, and buttons: [name, text] pairs, of which `pressed` is the last one pressed.

    `audit` holds the `findings` of a run's audit and its `pictures`, [data URI, alternative text] each.
    """

    _esm = script("summary")
    said, buttons, note, audit = rows(), rows(), text(), table()
    pressed, presses = text(fits=among("buttons")), whole(fits=count)

    def still(self) -> str:
        return "".join(f"<p>{escape(sentence)}</p>" for sentence in [*self.said, *self.audit.get("findings", ())[:3]])


class Explorer(Box):
    """What `explore` gives: `layers`, `classes`, `patches`, `units`, `face` and `summary`, each a widget of its own.

    Parameters
    ----------
    folder : where a report and kept results go; a run's folder gives its results.
    choices : the run's parameters by name, saved with what is kept.
    how : the options of the passes.
    method : of the regions' numbers that are shown first where none were measured yet.
    """

    def __init__(
        self, models: Sequence[FaceModel], faces: FaceSet, layer: str | None, target_class: int | str,
        folder: Path | None = None, choices: Mapping[str, object] | None = None, how: Mapping[str, object] | None = None,
        method: str = "facex",
    ) -> None:  # fmt: skip
        models = apart(models)
        model = models[0]
        self.face_model, self.faces, self.choices = model, faces, dict(choices or {})
        self.folder = folder or Path("runs", "explore")
        kept = {path.parents[1] for place in OF_SCORES for path in self.folder.parent.glob(f"*/{place}/*.zarr")}
        kept = {path for path in kept - {self.folder} if path.resolve().parent == self.folder.parent.resolve()}
        others = {path.name: [path / place for place in OF_SCORES] for path in sorted(kept)}
        self.how = {**(how or {}), "folder": self.folder / "explore" / PASSES}  # apart from what its stages write down
        self.scores = Scores(faces, folder and folder / "explore", folder, self.how)
        audit = read_audit(self.folder)
        buttons = [("report", "Save report"), ("keep", "Keep for comparison"), ("without", WITHOUT)]
        title = f"{model.name} on {faces.name}, {len(faces):,} faces"
        self.summary = Summary(title=title, buttons=buttons, audit=audit)
        self.layers = LayerPicker(model, layer)
        shown = {"scores": self.scores, "others": others, "method": method}
        self.classes = ClassExplorer(models, faces, self.layers.layer, target_class, **shown)
        self.patches = PatchGallery(None, faces, model)
        self.units = UnitBrowser(None, faces, model, target_class=target_class, how=how)
        self.face = FacePicker(model, faces, self.layers.layer, target_class)
        columns = {self.summary: "wide", self.layers: "wide", self.classes: "left", self.patches: "right"}
        columns |= dict.fromkeys((self.units, self.face), "wide")
        for child, column in columns.items():
            child.add_class(f"fx-{column}")
        super().__init__([*columns])
        self.add_class("fx-grid")
        self._join()

    def _join(self) -> None:
        t.link((self.classes, "region"), (self.patches, "region"))
        t.link((self.layers, "layer"), (self.classes, "layer"))
        self.layers.observe(lambda _: self._dissect(), "layer")
        self.classes.observe(lambda _: self.patches.show(self.classes.facex, self.classes.shown[:1]), "measured")
        self.classes.observe(lambda _: self._say(), "measured")
        self.classes.observe(lambda _: self._ask(), "target_class")
        self.classes.observe(lambda _: self._say(), "said")
        self.units.observe(lambda _: self._say(), "detail")
        self.summary.observe(lambda _: self._press(), "presses")
        if self.classes.measured:  # before anybody listened
            self.classes.measured += 1
        self._dissect()

    def _ask(self) -> None:
        self.units.target = self.face_model.class_index(self.classes.target_class)
        self.face.ask(self.layers.layer, self.classes.target_class, self.units.found)

    def _say(self) -> None:
        unit = self.units.detail
        of_unit = [f"{unit['title']} of {self.layers.layer}: {unit['said']}"] if unit else []
        self.summary.said = [*self.classes.said[:4], *of_unit]

    def _dissect(self) -> None:
        self.units.work("Dissecting the layer …", self._find_units)

    def _find_units(self) -> None:
        layer, model, faces, asked = self.layers.layer, self.face_model, self.faces, self.choices
        found, bias, own = self._kept("dissection"), self._kept("bias"), self.folder / "explore" / layer
        if found is None:
            how = {**self.how, "saved": own / "dissection.zarr", "progress": self.units.bar}
            size = min(asked.get("mask_size", 112), model.preprocess.side)
            found = dissect(model, faces, layer, asked.get("quantile", 0.005), size, **how)
        labels = {value.partition(": ")[0] for value, _ in self.classes.groups[1:]}  # those that make groups
        labels = [name for name in faces.protected or (*DRAWN, faces.target) if name in labels]
        if labels and (bias is None or not {*labels} <= {*bias.attribute.values}):
            bias = global_bias(model, faces, layer, labels, found=found, **{**self.how, "progress": self.units.bar})
            self.scores.keep(bias, own / "bias.zarr")
        self.units.show(found, bias)
        self._ask()

    def _kept(self, name: str) -> xr.Dataset | None:
        """Return what the run, or an earlier look at it, found of the layer."""
        made = {"model_fingerprint": self.face_model.fingerprint(), "faces_fingerprint": self.faces.fingerprint()}
        made["version"] = version("facexkit")
        places = [folder / self.layers.layer for folder in (self.folder, self.folder / "explore")]
        return find_result(places, made, f"{name}.zarr")

    def _press(self) -> None:
        if self.summary.pressed == "without":
            self.summary.work("Training the model on without the region …", self.repair)
            return
        with self.summary.in_words():
            written = self.save_report() if self.summary.pressed == "report" else self.keep()
            self.summary.note = f"Written: {written.resolve()}"

    def repair(self) -> None:
        """Make the selected region useless to the model, and say what that does; the repaired model is written down."""
        part = next(name for name, regions in PARTS.items() if self.classes.region in (name, *regions))
        out, how = self.folder / "explore" / "repair", {"target_class": self.classes.target_class, "progress": self.summary.bar}
        better = repair(self.face_model, self.faces, part, out=out, **how)
        self.summary.note = " ".join([*repair_findings(better.result), f"Written: {out.resolve()}"])

    def save_report(self) -> Path:
        """Write what is selected as one HTML page, hand it to the browser, and return its path."""
        self.classes.wait()
        results = {scores.attrs["method"]: scores for scores in (*self.classes.shown[:1], self.classes.facex)}
        path = write_region_report(results.values(), self.faces, self.folder / "explored.html")
        self.summary.send({"name": "report.html"}, [path.read_bytes()])
        return path

    def keep(self) -> Path:
        """Save the region scores, and where there is no run yet its choices, to compare with later; return the folder."""
        self.classes.wait()
        now = {**self.choices, "layer": self.layers.layer, "target_class": self.classes.target_class}
        if self.choices and not Run.is_one(self.folder):
            write_whole(self.folder / "params.yaml", write_yaml(now).encode())
        write_scores(self.classes.shown[0], self.folder / OF_SCORES[0])
        return self.folder

    def wait(self) -> None:
        """Wait for what is measured in the background."""
        for child in self.children:
            child.wait()

    def _repr_mimebundle_(self, **how: object) -> dict:
        settle(self.children)
        data = super()._repr_mimebundle_(**how)
        return {**data, "text/html": "".join(f"<h3>{escape(child.title)}</h3>{child.still()}" for child in self.children)}


def explore(
    model: FaceModel | Sequence[FaceModel] | None = None, faces: FaceSet | None = None, layer: str | None = None,
    target_class: int | str = 1, *, run: str | Path | None = None, trust: bool = False, **how: object,
) -> Explorer:  # fmt: skip
    """Explore layers, classes, regions, units and faces by clicking.

    Parameters
    ----------
    model, faces : the model, or several of which the first is explored, and the faces; or
    run : the folder of a run, whose choices and results are taken.
    trust : whether code in the model's own file may run.
    how : options of the passes, see `PassOptions`; those of the run where there is one.
    """
    PassOptions(**how)
    if run is not None:
        known = Run.of(run, trust)
        asked = known.parameters.target_class
        first = asked[0] if isinstance(asked, list) else asked
        return Explorer(known.models, known.faces, layer or known.parameters.layer, first, known.out, known.choices, {**known.options, **how})
    if model is None or faces is None:
        raise FacexkitError("explore needs a model and faces: explore(model, faces), or explore(run='runs/demo')")
    return Explorer([model] if isinstance(model, FaceModel) else list(model), faces, layer, target_class, how=how)


def read_audit(folder: Path) -> dict:
    """Return the findings and the pictures of a run's audit; empty where it has none."""
    stage = next((s for s in read_manifest(folder).get("stages", ()) if s["name"] == "audit"), None)
    if stage is None:
        return {}
    pictures = [[picture["uri"], picture["alt"]] for picture in shown_pictures(folder, stage["pictures"])]
    return {"findings": stage["findings"], "pictures": pictures}
