"""A class, of all faces or a group, on the face map; beside it another class, model, group or run, and the difference."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import traitlets as t
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import MOST_VALUES, FaceSet
from facexkit.measure.groups import group_labels
from facexkit.measure.saved import read_result
from facexkit.models.face_model import FaceModel
from facexkit.show.dissection_findings import group_title
from facexkit.show.face_map import face_map, small_maps
from facexkit.show.findings import findings
from facexkit.show.readings import METHODS, ranked
from facexkit.show.widgets.base import Options, Widget, script, synced
from facexkit.show.widgets.scores import Scores


def group_options(faces: FaceSet) -> Options:
    """Return every group of the labels with few values, as [value, text], all faces first."""
    found = [("", "all faces")]
    for column in faces.table.columns.drop(["path", "split"], errors="ignore"):
        if 2 <= faces.table[column].nunique() <= MOST_VALUES:
            try:
                labels = group_labels(faces.table, column)
            except FacexkitError:
                continue
            found += [(f"{column}: {v}", f"{column.replace('_', ' ')}: {group_title(column, v)}") for v in sorted({*labels} - {""})]
    return found


class ClassExplorer(Widget):
    """Which regions drive a class.

    `target_class` (a name), `group` ("" or "COLUMN: VALUE"), `method` and `compare` ("", "class: NAME", "model: NAME",
    "group: COLUMN: VALUE" or "run: NAME") may be set; `region` is the selected one. `shown` holds the results on the
    map, `facex` the one with patches; `said` tells them in words.

    Parameters
    ----------
    models : the model, or several; the first is explored, the others can be compared with it.
    scores : where numbers come from; measured on the faces if None.
    others : where results of earlier runs to compare with lie, by name.
    """

    _esm = script("classes")
    svg = synced(t.Unicode())
    compared = synced(t.List())
    region = synced(t.Unicode("skin"))
    target_class = synced(t.Unicode())
    method = synced(t.Unicode("facex"))
    group = synced(t.Unicode())
    compare = synced(t.Unicode())
    classes, methods, groups, compares = (synced(t.List()) for _ in range(4))
    said = t.List()
    facex = t.Instance(xr.Dataset, allow_none=True)
    layer = t.Unicode()

    def __init__(
        self,
        models: FaceModel | Sequence[FaceModel],
        faces: FaceSet,
        layer: str = "layer4",
        target_class: int | str = 1,
        *,
        scores: Scores | None = None,
        others: Mapping[str, Path] | None = None,
    ) -> None:
        self.models = [models] if isinstance(models, FaceModel) else list(models)
        self.scores, self.others, self.shown = scores or Scores(faces), dict(others or {}), []
        first = self.models[0]
        names, groups = first.class_names, group_options(faces)
        compares = [("", "nothing"), *((f"class: {name}", f"class: {name}") for name in names)]
        compares += [(f"model: {model.name}", f"model: {model.name}") for model in self.models[1:]]
        compares += [(f"run: {name}", f"earlier run: {name}") for name in self.others]
        compares += [(f"group: {value}", text) for value, text in groups[1:]]
        super().__init__(
            title="Which regions drive the class", target_class=names[first.class_index(target_class)], layer=layer,
            classes=[(name, name) for name in names], methods=[(key, method.title) for key, method in METHODS.items()],
            groups=groups, compares=compares, method="facex" if self.scores.table is None else "share",
        )  # fmt: skip
        self.observe(lambda _: self.refresh(), ["target_class", "method", "group", "compare", "layer"])
        self.refresh()

    def refresh(self) -> None:
        """Measure what is selected, and draw it."""
        self.work("Scoring regions …", self._measure)

    def _measure(self) -> None:
        model = self.models[0]
        target, group, method = model.class_index(self.target_class), self.group, self.method
        shown = [self.scores(model, method, self.layer, target, group, self.watched)]
        kind, _, name = self.compare.partition(": ")
        if kind == "run":
            shown.append(read_result(self.others[name]))
        elif kind:
            other = next((m for m in self.models if kind == "model" and m.name == name), model)
            which = other.class_index(name if kind == "class" else self.target_class)
            own = self.scores(other, method, self.layer, which, name if kind == "group" else group, self.watched)
            titles = dict(self.groups)
            shown.append(own.assign_attrs(model=f"{other.name}, {titles[name]}") if kind == "group" else own)
        self._draw(shown, method)
        self.facex = self.scores(model, "facex", self.layer, target, group, self.watched)

    def _draw(self, shown: list[xr.Dataset], method: str) -> None:
        if not self.shown:
            self.region = ranked(shown[0], missing=True)[0].region
        self.shown = shown
        self.svg = str(face_map(shown[0], title="", interactive=True))
        self.compared = [str(drawing) for drawing in small_maps(shown)] if len(shown) > 1 else []
        self.said = findings(shown)

    def still(self) -> str:
        return self.svg + "".join(f"<p>{sentence}</p>" for sentence in self.said)
