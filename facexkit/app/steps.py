"""The steps of the page: faces, model, layer and class, the result, and the notebooks' reports."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from pathlib import Path

import ipywidgets

from facexkit.app.form import Form, filled
from facexkit.app.places import check_sources, confined
from facexkit.app.stage_runner import StageRunner
from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.faces.formats import FORMATS
from facexkit.parameters import check, parse
from facexkit.plain_yaml import write_yaml
from facexkit.show.explore import Explorer
from facexkit.show.run import Run
from facexkit.show.widgets.base import Box, Widget
from facexkit.show.widgets.layer_picker import LayerPicker

DATA = ("data", "data_root", "annotations", "masks", "target", "protected", "balance", "limit")
MODELS = "models"
"""The folder among the runs for code that somebody pasted."""
MODEL = ("model", "weights", "num_classes", "class_names", "image_size", "normalize", "preprocess", "output")


class App(Box):
    """Steps, each checked before the next appears; a run's choices can be opened again as a new variation.

    Parameters
    ----------
    roots : folders that paths may lie in; those of `FACEXKIT_APP_DATA` by default.
    runs : where runs are kept; `FACEXKIT_APP_RUNS` by default.
    trust : whether a model's Python file may run; by default as the app was started.
    """

    def __init__(
        self, roots: Sequence[str | Path] | None = None, runs: str | Path | None = None, trust: bool | None = None
    ) -> None:
        named = [root for root in os.environ.get("FACEXKIT_APP_DATA", "").split(os.pathsep) if root]
        self.roots = [Path(root).resolve() for root in (named if roots is None else roots)]
        self.runs = Path(runs or os.environ.get("FACEXKIT_APP_RUNS", "runs/app"))
        self.trust, self.given = os.environ.get("FACEXKIT_APP_TRUST") == "1" if trust is None else trust, {}
        self.faces, where = None, ", ".join(map(str, self.roots)) or "no folder; start it with make app DATA=FOLDER"
        self.before = Form("A new variation of an earlier run", {"run": [""]}, "Open", self.vary)
        options = {"data": ("synthetic", *(name for name in FORMATS if name != "synthetic")), "balance": ("False", "True")}
        data = {name: options.get(name) for name in DATA}
        self.data = Form(f"1 · Faces (the app may read: {where})", data, "Read the faces", self.take_data)
        self.model = Form("2 · Model", dict.fromkeys(MODEL), "Load the model", self.take_model, model="demo:biased")
        self.mask = Form("There are no region masks", {}, "Make approximate ones (landmarks)", self.make_masks)
        code = {"code": None, "model": None}
        self.code = Form("2 · Model code of your own (or name a model below)", code, "Take the code", self.take_code)
        super().__init__([self.data])
        self.add_class("fx-grid")
        self.recall()
        self.data.on_msg(lambda *_: self.recall())  # a page may have been made ready long before it is shown

    def recall(self) -> None:
        """Offer the runs that are kept."""
        kept = [path for name in ("params.yaml", "manifest.json") for path in self.runs.glob(f"*/{name}")]
        away = {path.parent.name for path in kept if path.resolve().parent.parent != self.runs.resolve()}
        names = sorted({path.parent.name for path in kept} - away)
        self.before.offer({"run": names or [""]})
        if names and self.before not in self.children:
            self.children = [self.before, *self.children]

    def vary(self) -> None:
        """Fill the forms with an earlier run's choices."""
        found = Run.of(self.runs / self.before.values["run"]).choices
        for form, names in ((self.data, DATA), (self.model, MODEL)):
            own = {name: found.pop(name, "") for name in names}
            form.values = {k: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in own.items()}
        self.given = {**self.given, **found}
        self.before.done = "✓ Its choices stand below; change what you like."

    def take_data(self) -> None:
        """Read the faces, and go on to the model."""
        self.choose(self.data)
        faces = Run(self.choices, self.trust).faces
        check_sources(faces, self.roots)
        self.faces = faces
        masks = "" if self.faces.masks else " There are no region masks: name a folder of masks, or have them made."
        labels = ", ".join(self.faces.table.columns.drop("path")[:12])
        following = [*([] if self.faces.masks else [self.mask]), *([self.code] if self.trust else []), self.model]
        self.after(self.data, *following, done=f"✓ {len(self.faces):,} faces; labels: {labels}.{masks}")

    def make_masks(self) -> None:
        """Have the masks made that the set has not, as the user has said."""
        self.data.values = {**self.data.values, "masks": "landmarks"}
        self.take_data()

    def take_code(self) -> None:
        """Keep a model's code among the app's own files, and name it in the model's form; only where code may run."""
        code, name = self.code.values["code"], self.code.values["model"].strip()
        if not self.trust or not name.isidentifier():
            raise FacexkitError("paste or choose the code, and write the name of the class or function that makes the model")
        path = self.runs.resolve() / MODELS / f"{name}.py"
        write_whole(path, code.encode())
        self.model.values = {**self.model.values, "model": f"{path}:{name}"}
        self.after(self.code, self.model, done=f"✓ The code is kept in {path}.")

    def take_model(self) -> None:
        """Load the model, and go on to layer and class."""
        self.choose(self.model)
        self.models = Run(self.choices, self.trust).models
        if self.faces is None:
            raise FacexkitError("read the faces first")
        first, asked = self.models[0], self.choices["target_class"]
        asked = asked[0] if isinstance(asked, list) else asked
        layers, names = first.layers.index[first.layers.problem == ""].tolist(), first.class_names
        layer = self.choices["layer"] if self.choices["layer"] in layers else LayerPicker(first).layer
        free = next(name for k in range(1, 10_000) if not (self.runs / (name := f"run{k}")).exists())
        names = ["similarity", "difference"] if self.pairs else names
        target = names[first.class_index(asked)] if asked in (*range(len(names)), *names) and not self.pairs else names[-1]
        chosen = {"layer": layer, "target_class": target, "name": free}
        fields = {"layer": layers, "target_class": names, "name": None}
        self.last = Form("3 · Layer and class", fields, "Show the result", self.start, **chosen)
        done = f"✓ {first.name}: {len(first.class_names)} outputs, input {first.preprocess}"
        self.after(self.model, self.last, done=done)

    @property
    def pairs(self) -> bool:
        """Whether the faces are pairs, which the stage `verification` explains."""
        return "reference" in self.faces.table

    def start(self) -> None:
        """Keep the choices as a run of their own, and show the result."""
        values = self.last.values
        name = values["name"]
        if not re.fullmatch(r"\w[\w-]{0,59}", name) or (self.runs / name).is_symlink() or name in ("cache", MODELS):
            raise FacexkitError(f"a run cannot be called {name[:80]!r}; take up to 60 letters, digits, - and _")
        folder, asked = self.runs / name, {key: values[key] for key in ("layer", "target_class")}
        wanted = check({**self.given, **asked})
        choices, said = wanted.model_dump(exclude={"out"}), wanted.model_dump(exclude={"out", "client"}, exclude_none=True)
        if not Run.is_one(folder):
            write_whole(folder / "params.yaml", write_yaml(choices).encode())
        elif Run.of(folder).choices != said:
            raise FacexkitError(f"there is a run {name!r} with other choices, which stays as it is; take another name")
        served, chosen, shown = os.environ.get("FACEXKIT_APP_SERVED", ""), ["verification"] if self.pairs else None, []
        if not self.pairs:
            self.explorer = Explorer(self.models, self.faces, *asked.values(), folder, choices, Run(choices, self.trust).options)
            self.explorer.add_class("fx-wide")
            shown = [self.explorer]
        self.runner = StageRunner(folder, self.trust, served, chosen)
        self.recall()
        done = f"✓ The choices are kept in {folder / 'params.yaml'}."
        self.after(self.last, *shown, self.runner, done=done)

    def choose(self, form: Form) -> None:
        """Check a form's values as parameters, wherever they are from; paths must lie in the app's folders."""
        if not filled(form, values := form.values):
            raise FacexkitError("the form holds what cannot be chosen here; choose again")
        given = {name: value for name, value in self.given.items() if name not in values}
        given |= {name: parse(name, value.strip()) for name, value in values.items() if value.strip()}
        given = confined(given, [*self.roots, *([self.runs.resolve() / MODELS] if self.trust else [])], self.trust)
        self.choices, self.given = check(given).model_dump(), given

    def after(self, step: Form, *following: ipywidgets.DOMWidget, done: str) -> None:
        """Say that a step is done, and show what follows in the place of what stood below."""
        step.done, place = done, self.children.index(step) + 1
        gone = {*self.children[place:]} - {*following}
        for widget in (part for one in gone for part in (one, *getattr(one, "children", ()))):
            if isinstance(widget, Widget):
                widget.stop = True
        self.children = [*self.children[:place], *following]
