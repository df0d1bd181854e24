"""A class, of all faces or a group, on the face map; beside it another class, model, group or run."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from html import escape
from pathlib import Path

import traitlets as t
import xarray as xr

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import MOST_VALUES, FaceSet
from facexkit.measure.groups import group_labels
from facexkit.measure.saved import find_result
from facexkit.models.face_model import FaceModel, apart
from facexkit.show.exchanges import show_exchanges
from facexkit.show.face_map import scale_limit, small_maps
from facexkit.show.readings import METHODS
from facexkit.show.regions import region_findings
from facexkit.show.widgets.base import Widget, among, rows, script, text, whole
from facexkit.show.widgets.face_map import FaceMap
from facexkit.show.widgets.scores import Scores
from facexkit.show.words import group_title, words

ASK_SHARE = "What moves the decision is told by the decision share: choose it as the method; it takes longer."


def group_options(faces: FaceSet) -> list[tuple[str, str]]:
    """Return every group of the labels with few values, as [value, text], all faces first."""
    counts = faces.table.drop(columns=["path", "split"], errors="ignore").nunique()
    columns = [c for c in counts.index if 2 <= counts[c] <= min(MOST_VALUES, len(faces) // 2)]
    labels = {column: sorted({*group_labels(faces.table, column)} - {""}) for column in columns}
    named = [(f"{c}: {g}", f"{words(c)}: {group_title(c, g)}") for c in columns for g in labels[c]]
    return [("", "all faces"), *named]


class ClassExplorer(FaceMap):
    """Which regions drive a class.

    `target_class` (a name), `group` ("" or "COLUMN: VALUE"), `method` and `compare` ("", "class: NAME", "model: NAME",
    "group: COLUMN: VALUE" or "run: NAME") may be set; `region` is the selected one. `shown` holds the results on the
    map, `facex` the one with patches, and `measured` counts both; `said` tells them in words.

    Parameters
    ----------
    models : the model, or several; the first is explored, the others can be compared with it.
    scores : where numbers come from; measured on the faces if None.
    others : by name, the folders in which the results of an earlier run to compare with are looked for.
    method : the one that is shown first where no decision share was measured yet.
    """

    _esm = script("classes")
    target_class, method, group, compare = (text(fits=among(o)) for o in ("classes", "methods", "groups", "compares"))
    layer = text()
    classes, methods, groups, compares = rows(), rows(), rows(), rows()
    compared, said, measured = rows(), rows(), whole()
    shown: Sequence[xr.Dataset] = ()

    def __init__(
        self, models: FaceModel | Sequence[FaceModel], faces: FaceSet, layer: str = "layer4",
        target_class: int | str = 1, *,
        scores: Scores | None = None, others: Mapping[str, Sequence[Path]] | None = None, method: str = "facex",
    ) -> None:  # fmt: skip
        self.models = apart([models] if isinstance(models, FaceModel) else models)
        self.scores, self.others = scores or Scores(faces), dict(others or {})
        first, names, groups = self.models[0], self.models[0].class_names, group_options(faces)
        kinds = {"class": names, "model": [model.name for model in self.models[1:]], "run": self.others}
        compares = [(f"{kind}: {name}",) * 2 for kind, own in kinds.items() for name in own]
        compares += [(f"group: {value}", told) for value, told in groups[1:]]
        known = self.scores.find(first, "share", "", first.class_index(target_class)) is not None
        Widget.__init__(
            self, title="Which regions drive the class", target_class=names[first.class_index(target_class)],
            layer=layer,
            classes=[(name, name) for name in names], methods=[(key, method.title) for key, method in METHODS.items()],
            groups=groups, compares=[("", "nothing"), *compares],
            method="share" if known else method,
        )  # fmt: skip
        self.facex: xr.Dataset | None = None
        self.refresh()

    @t.observe("target_class", "method", "group", "compare", "layer")
    def refresh(self, _change: object = None) -> None:
        """Measure what is selected, and draw it."""
        if hasattr(self, "facex"):  # all traits have their first values
            self.work("Scoring regions …", self._measure)

    def _measure(self) -> None:
        model, how = self.models[0], (self.method, self.layer)
        target, group, (kind, _, name) = model.class_index(self.target_class), self.group, self.compare.partition(": ")
        shown = [self.scores(model, *how, target, group, self.bar)]
        if kind == "run":
            shown.append(self._of_run(name, target))
        elif kind:
            other = next((m for m in self.models if kind == "model" and m.name == name), model)
            which, of = (other.class_index(name) if kind == "class" else target), name if kind == "group" else group
            own = self.scores(other, *how, which, of, self.bar)
            shown.append(own.assign_attrs(model=f"{other.name}, {dict(self.groups)[name]}") if kind == "group" else own)
        self.draw(shown[0], scale_limit(*shown))
        turned = [show_exchanges(shown[0], self.scores.faces)] if "turned_output" in shown[0] and self.scores.faces.masks is not None else []
        self.compared = [str(drawing) for drawing in [*(small_maps(shown) if kind else []), *turned]]
        self.shown, self.said = shown, [*region_findings(shown), *([ASK_SHARE] if self.method == "facex" else [])]
        self.facex = self.scores(model, "facex", self.layer, target, group, self.bar)
        self.measured += 1

    def _of_run(self, name: str, target: int) -> xr.Dataset:
        found = find_result(self.others[name], {"method": self.method}, target_class=target)
        if found is None:
            raise FacexkitError(f"run {name} has no {METHODS[self.method].title} of class “{self.target_class}”")
        return found.assign_attrs(model=f"run {name}")

    def still(self) -> str:
        return super().still() + "".join(f"<p>{escape(sentence)}</p>" for sentence in self.said)
