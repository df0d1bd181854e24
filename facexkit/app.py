"""The kit as a web page on this machine, for people who do not program: data, model, layer and class, result."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path

import ipywidgets
import yaml

from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.show.explore import Explorer, load_faces_of, load_models_of, read_choices
from facexkit.show.widgets.base import Widget, rows, script, table, text, whole
from facexkit.show.widgets.layer_picker import LayerPicker
from facexkit.stages.notebooks import notebook_folder
from facexkit.stages.parameters import Parameters, check, parse

FORMATS = ("synthetic", "csv", "image_folder", "celebamask_hq", "celeba", "fairface", "utkface", "lfwa")
DATA = ("data", "data_root", "annotations", "masks", "target", "protected", "limit")
MODEL = ("model", "weights", "num_classes", "class_names", "image_size", "normalize")
PATHS = ("data_root", "annotations", "masks", "weights")
TEMPLATE = """{% extends 'voila/templates/lab/index.html.j2' %}
{% block notebook_css %}{{ super() | replace('https://cdn.jsdelivr.net/npm/', 'data:text/css,') }}{% endblock %}"""


class Form(Widget):
    """Fields {name: options, or None for text}; `values` are their texts; with `submitted` `take` runs."""

    _esm = script("form")
    fields, values, submit, done, key, submitted = rows(), table(), text(), text(), text(), whole()

    def __init__(self, title: str, fields: dict, submit: str, take: Callable[[], object], **values: str) -> None:
        own, told = Parameters.model_fields, {"name": "letters, digits, - and _", "run": "whose choices to start from"}
        shown = [
            {"name": name, "label": name.replace("_", " ").capitalize(),
             "options": options and [(o, o) for o in options],
             "help": own[name].description if name in own else told[name]}
            for name, options in fields.items()
        ]  # fmt: skip
        first = {name: options[0] for name, options in fields.items() if options}
        super().__init__(title=title, fields=shown, values={**first, **values}, submit=submit, key=f"{id(self)}")
        self.add_class("fx-wide")
        self.observe(lambda _: (setattr(self, "done", ""), self.work("One moment …", take)), "submitted")


class App(ipywidgets.VBox):
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
        self.where = ", ".join(map(str, self.roots)) or "no folder; start it with make app DATA=FOLDER"
        known = sorted(
            {path.parent.name for name in ("params.yaml", "manifest.json") for path in self.runs.glob(f"*/{name}")}
        )
        self.before = Form("A new variation of an earlier run", {"run": known or [""]}, "Open", self.vary)
        data = {name: FORMATS if name == "data" else None for name in DATA}
        self.data = Form(f"1 · Faces (the app may read: {self.where})", data, "Read the faces", self.take_data)
        self.model = Form("2 · Model", dict.fromkeys(MODEL), "Load the model", self.take_model, model="demo:biased")
        super().__init__([self.before, self.data] if known else [self.data])
        self.add_class("fx-grid")

    def vary(self) -> None:
        """Fill the forms with an earlier run's choices."""
        self.given = {
            k: v for k, v in read_choices(self.runs / self.before.values["run"]).items() if v is not None and k != "out"
        }
        for form, names in ((self.data, DATA), (self.model, MODEL)):
            found = {name: self.given.get(name, "") for name in names}
            form.values = {k: ", ".join(map(str, v)) if isinstance(v, list) else str(v) for k, v in found.items()}
        self.before.done = "✓ Its choices stand below; change what you like."

    def take_data(self) -> None:
        """Read the faces, and go on to the model."""
        self.choose(self.data)
        self.faces = load_faces_of(self.choices)
        masks = "" if self.faces.masks else " There are no region masks: write landmarks, or name a folder of masks."
        labels = ", ".join(self.faces.table.columns.drop("path")[:12])
        self.after(self.data, self.model, f"✓ {len(self.faces):,} faces; labels: {labels}.{masks}")

    def take_model(self) -> None:
        """Load the model, and go on to layer and class."""
        source = self.model.values["model"].strip()
        if ".py" in source and not self.trust:
            raise FacexkitError(
                "a Python file runs somebody's code; only who starts the app can allow it (make app TRUST=1)"
            )
        if file := re.fullmatch(r"onnx:(.+)|(.+\.py)(:.*)?", source):
            self.confined("model", file[1] or file[2])
        self.choose(self.model)
        self.models = load_models_of(self.choices, trust=self.trust)
        first, asked = self.models[0], str(self.choices["target_class"])
        layers, names = first.layers.index[first.layers.problem == ""].tolist(), first.class_names
        layer = self.choices["layer"] if self.choices["layer"] in layers else LayerPicker(first).layer
        free = next(name for k in range(1, 10_000) if not (self.runs / (name := f"run{k}")).exists())
        chosen = {
            "layer": layer,
            "target_class": names[first.class_index(asked)] if asked in names else names[-1],
            "name": free,
        }
        fields = {"layer": layers, "target_class": names, "name": None}
        self.last = Form("3 · Layer and class", fields, "Show the result", self.start, **chosen)
        self.after(
            self.model, self.last, f"✓ {first.name}: {len(names)} classes, input {first.image_size}×{first.image_size}"
        )

    def start(self) -> None:
        """Keep the choices as a run of their own, and show the result."""
        values, name = self.last.values, self.last.values["name"]
        if not re.fullmatch(r"[\w-]+", name):
            raise FacexkitError(f"a run cannot be called {name!r}; take letters, digits, - and _")
        choices = check({**self.given, "layer": values["layer"], "target_class": values["target_class"]}).model_dump(
            exclude={"out"}
        )
        write_whole(self.runs / name / "params.yaml", yaml.safe_dump(choices, sort_keys=False).encode())
        self.explorer = Explorer(
            self.models, self.faces, values["layer"], values["target_class"], self.runs / name, choices
        )
        self.explorer.add_class("fx-wide")
        self.after(self.last, self.explorer, f"✓ The choices are kept in {self.runs / name / 'params.yaml'}.")

    def choose(self, form: Form) -> None:
        """Check a form's values as parameters; paths must lie in the app's folders."""
        texts = {name: value.strip() for name, value in form.values.items()}
        for name in (name for name in PATHS if texts.get(name) and texts[name] != "landmarks"):
            texts[name] = str(self.confined(name, texts[name]))
        given = {name: value for name, value in self.given.items() if name not in texts}
        given |= {name: parse(name, value) for name, value in texts.items() if value}
        self.choices, self.given = check(given).model_dump(), given

    def confined(self, name: str, path: str) -> Path:
        """Return a path that is in one of the app's folders; a relative one is looked for in each."""
        found = [(root, (root / path).resolve()) for root in self.roots]
        inside = [place for root, place in found if place.is_relative_to(root) and place.exists()]
        if not inside:
            raise FacexkitError(
                f"{name.replace('_', ' ')} {path!r} is not there, or not in what the app may read: {self.where}"
            )
        return inside[0]

    def after(self, step: Form, following: ipywidgets.DOMWidget, done: str) -> None:
        """Say that a step is done, and show what follows in the place of what stood below."""
        step.done = done
        self.children = [*self.children[: self.children.index(step) + 1], following]


def serve(data: Sequence[Path], runs: Path, port: int, trust: bool, browser: bool) -> int:
    """Serve the app by Voilà on 127.0.0.1 until it is stopped, and return the exit status."""
    if missing := [folder for folder in data if not folder.is_dir()]:
        raise FacexkitError(f"{missing[0]} is no folder; name folders that the app may read with --data")
    with tempfile.TemporaryDirectory() as place:
        for name, content in (("index.html.j2", TEMPLATE), ("conf.json", '{"base_template": "lab"}')):
            write_whole(Path(place, "voila", "templates", "facexkit", name), content.encode())
        told = {
            "DATA": os.pathsep.join(str(f.resolve()) for f in data),
            "RUNS": str(runs.resolve()),
            "TRUST": str(int(trust)),
        }
        own = {"JUPYTER_PREFER_ENV_PATH": "1", "FACEXKIT_CACHE": str(runs.resolve() / "cache"), **os.environ}
        own |= {f"FACEXKIT_APP_{name}": value for name, value in told.items()} | {"JUPYTER_PATH": place}
        options = [
            "--Voila.ip=127.0.0.1",
            f"--port={port}",
            "--template=facexkit",
            *([] if browser else ["--no-browser"]),
        ]
        return subprocess.run(
            [sys.executable, "-m", "voila", str(notebook_folder() / "app.ipynb"), *options], env=own
        ).returncode
