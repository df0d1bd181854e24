"""The kit as a web page on this machine, for people who do not program: data, model, layer and class, result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from pathlib import Path

import ipywidgets
import yaml

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.show.explore import Explorer, load_faces_of, load_models_of, read_choices
from facexkit.show.widgets.base import Widget, rows, script, table, text, whole
from facexkit.stages.notebooks import notebook_folder
from facexkit.stages.parameters import check, parse

FORMATS = ("synthetic", "csv", "image_folder", "celebamask_hq", "celeba", "fairface", "utkface", "lfwa")
DATA = {
    "data": ("Data set", "the built-in drawn faces, or how the folder is laid out", [("synthetic", "built-in faces"), *((f, f) for f in FORMATS[1:])]),
    "data_root": ("Folder of the images", "on this machine", None),
    "annotations": ("Annotation file", "CSV with a column of image names, where the format has no labels of its own", None),
    "masks": ("Region masks", "a folder, or landmarks for approximate ones; empty: the set's own", None),
    "target": ("Label", "the column that the model predicts", None),
    "protected": ("Groups", "columns to compare, with commas between them", None),
    "limit": ("At most so many faces", "empty: all", None),
}  # fmt: skip
MODEL = {
    "model": ("Model", "demo:biased, torchvision:NAME, onnx:FILE", None),
    "weights": ("Weights", "file of the state dict; empty for a demo or ONNX model", None),
    "num_classes": ("Number of classes", "empty: as the model has them", None),
    "class_names": ("Names of the classes", "in their order, with commas between them", None),
    "image_size": ("Input side in pixels", "empty: the model's own", None),
    "normalize": ("Normalization", "imagenet, half, unit, none; empty: the model's own", None),
}  # fmt: skip
PATHS = ("data_root", "annotations", "masks", "weights")
TEMPLATE = """{% extends 'voila/templates/lab/index.html.j2' %}
{% block notebook_css %}{{ super() | replace('https://cdn.jsdelivr.net/npm/', 'data:text/css,') }}{% endblock %}"""


class Form(Widget):
    """Fields {name: (label, help, options or None)}; `values` are their texts, `submitted` counts the button's clicks."""

    _esm = script("form")
    fields, values, submit, done, key, submitted = rows(), table(), text(), text(), text(), whole()

    def __init__(self, title: str, fields: dict, take: object, submit: str, **values: str) -> None:
        rows = [{"name": name, "label": label, "help": told, "options": options} for name, (label, told, options) in fields.items()]
        first = {name: options[0][0] for name, (_, _, options) in fields.items() if options}
        super().__init__(title=title, fields=rows, values={**first, **values}, submit=submit, key=f"{id(self)}")
        self.observe(lambda _: (setattr(self, "done", ""), self.work("One moment …", take)), "submitted")


class App(ipywidgets.VBox):
    """Steps, each checked before the next appears; a run's choices can be opened again as a new variation.

    Parameters
    ----------
    roots : folders that paths may lie in; those of `FACEXKIT_APP_DATA` by default.
    runs : where runs are kept; `FACEXKIT_APP_RUNS` by default.
    trust : whether a model's Python file may run; by default as the app was started.
    """

    def __init__(self, roots: Sequence[str | Path] | None = None, runs: str | Path | None = None, trust: bool | None = None) -> None:
        given = [root for root in os.environ.get("FACEXKIT_APP_DATA", "").split(os.pathsep) if root]
        self.roots = [Path(root).resolve() for root in (given if roots is None else roots)]
        self.runs = Path(runs or os.environ.get("FACEXKIT_APP_RUNS", "runs/app"))
        self.trust = os.environ.get("FACEXKIT_APP_TRUST") == "1" if trust is None else trust
        where = ", ".join(map(str, self.roots)) or "no folder: start with make app DATA=FOLDER"
        known = sorted(p.parent.name for name in ("params.yaml", "manifest.json") for p in self.runs.glob(f"*/{name}"))
        again = {"run": ("Earlier run", f"in {self.runs}", [("", "start anew"), *((name, name) for name in dict.fromkeys(known))])}
        self.before = Form("New, or a variation of an earlier run", again, self.vary, "Open")
        self.data = Form(f"1 · Faces (files may lie in {where})", DATA, self.take_data, "Read the faces")
        self.model = Form("2 · Model", MODEL, self.take_model, "Load the model", model="demo:biased")
        self.given: dict[str, object] = {}
        super().__init__([self.before, self.data] if known else [self.data])
        self.add_class("fx-grid")
        for form in (self.before, self.data, self.model):
            form.add_class("fx-wide")

    def vary(self) -> None:
        """Fill the forms with an earlier run's choices."""
        name = self.before.values["run"]
        self.given = {k: v for k, v in (read_choices(self.runs / name) if name else {}).items() if v is not None}
        for form in (self.data, self.model):
            filled = {field["name"]: self.given.get(field["name"]) for field in form.fields}
            texts = {k: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in filled.items() if v is not None}
            form.values = {**dict.fromkeys(filled, ""), "data": "synthetic", "model": "demo:biased", **texts} if name else form.values
        self.before.done = f"The choices of {name} stand below; change what you like." if name else ""

    def take_data(self) -> None:
        """Read the faces, and go on to the model."""
        self.choose(self.data)
        self.faces = load_faces_of(self.choices)
        labels = ", ".join(self.faces.table.columns.drop("path")[:12])
        masks = "" if self.faces.masks else " There are no region masks: choose landmarks, or name a folder of masks."
        self.data.done = f"✓ {len(self.faces):,} faces; labels: {labels}.{masks}"
        self.show(self.data, self.model)

    def take_model(self) -> None:
        """Load the model, and go on to layer and class."""
        self.choose(self.model)
        source = str(self.choices["model"])
        if ".py" in source and not self.trust:
            raise FacexkitError("a Python file runs somebody's code; whoever starts the app allows it with TRUST=1")
        if source.startswith("onnx:") or ".py" in source:
            self.confined("model", re.sub(r"^onnx:|(?<=\.py):.*$", "", source))
        self.models = load_models_of(self.choices, trust=self.trust)
        first = self.models[0]
        table = first.layers[first.layers.problem == ""]
        shapes = [(name, f"{name}: {row.units} units of {row.height}×{row.width}") for name, row in table.iterrows()]
        spatial = table.index[table.height > 1]
        asked, layer = str(self.choices["target_class"]), str(self.choices["layer"])
        fields = {
            "layer": ("Layer", "late layers see arrangements, early ones edges and colours", shapes),
            "target_class": ("Class", "to explain", [(name, name) for name in first.class_names]),
            "name": ("Name of the run", "letters, digits, - and _", None),
        }
        values = {"layer": layer if layer in table.index else (spatial if len(spatial) else table.index)[-1], "name": self.free_name()}
        values["target_class"] = asked if asked in first.class_names else first.class_names[min(1, len(first.class_names) - 1)]
        self.last = Form("3 · Layer and class", fields, self.start, "Show the result", **values)
        self.last.add_class("fx-wide")
        self.model.done = f"✓ {first.name}: {len(first.class_names)} classes, input {first.image_size}×{first.image_size}"
        self.show(self.model, self.last)

    def start(self) -> None:
        """Keep the choices as a run of their own, and show the result."""
        values = self.last.values
        if not re.fullmatch(r"[\w-]+", values["name"]):
            raise FacexkitError(f"a run cannot be called {values['name']!r}; take letters, digits, - and _")
        folder = self.runs / values["name"]
        self.given |= {"layer": values["layer"], "target_class": values["target_class"]}
        choices = check(self.given).model_dump(exclude={"out"})
        write_whole(folder / "params.yaml", yaml.safe_dump(choices, sort_keys=False).encode())
        self.explorer = Explorer(self.models, self.faces, values["layer"], values["target_class"], folder, choices)
        self.explorer.add_class("fx-wide")
        self.last.done = f"✓ The choices are in {folder / 'params.yaml'}."
        self.show(self.last, self.explorer)

    def choose(self, form: Form) -> None:
        """Check a form's values as parameters; paths must lie in the app's folders."""
        texts = {name: text.strip() for name, text in form.values.items()}
        for name in PATHS:
            if texts.get(name) and not (name == "masks" and texts[name] == "landmarks"):
                texts[name] = str(self.confined(name, texts[name]))
        given = {k: v for k, v in self.given.items() if k not in texts} | {k: parse(k, v) for k, v in texts.items() if v}
        self.choices, self.given = check(given).model_dump(), given

    def confined(self, name: str, path: str) -> Path:
        """Return a path that is in one of the app's folders; a relative one is looked for in each."""
        for root in self.roots:
            found = (root / Path(path).expanduser()).resolve()
            if found.is_relative_to(root) and found.exists():
                return found
        where = ", ".join(map(str, self.roots)) or "no folder was given: start the app with make app DATA=FOLDER"
        raise FacexkitError(f"{name.replace('_', ' ')}: {path} is not in the folders that the app may read ({where})")

    def free_name(self) -> str:
        """Return a name that no run has."""
        return next(name for k in range(1, 10_000) if not (self.runs / (name := f"run{k}")).exists())

    def show(self, after: ipywidgets.DOMWidget, child: ipywidgets.DOMWidget) -> None:
        """Show the next step in the place of what stood below."""
        self.children = [*self.children[: self.children.index(after) + 1], child]


def serve(data: Sequence[Path], runs: Path, port: int, trust: bool, browser: bool) -> int:
    """Serve the app by Voilà on 127.0.0.1 until it is stopped, and return the exit status."""
    for folder in data:
        if not folder.is_dir():
            raise FacexkitError(f"{folder} is no folder; name folders that the app may read with --data")
    with tempfile.TemporaryDirectory() as place:
        for name, content in (("index.html.j2", TEMPLATE), ("conf.json", '{"base_template": "lab"}')):
            write_whole(Path(place, "voila", "templates", "facexkit", name), content.encode())
        told = {"DATA": os.pathsep.join(str(f.resolve()) for f in data), "RUNS": str(runs.resolve()), "TRUST": str(int(trust))}
        own = {f"FACEXKIT_APP_{name}": value for name, value in told.items()}
        own |= {"JUPYTER_PREFER_ENV_PATH": "1", "JUPYTER_PATH": os.pathsep.join(filter(None, (place, os.environ.get("JUPYTER_PATH"))))}
        own.setdefault("FACEXKIT_CACHE", os.environ.get("FACEXKIT_CACHE", str(runs.resolve() / "cache")))
        options = ["--Voila.ip=127.0.0.1", f"--port={port}", "--template=facexkit", *([] if browser else ["--no-browser"])]
        command = [sys.executable, "-m", "voila", str(notebook_folder() / "app.ipynb"), *options]
        return subprocess.run(command, env={**os.environ, **own}).returncode
