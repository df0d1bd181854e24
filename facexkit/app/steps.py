"""The steps of the page: photographs, labels, model, what to explain, the result, a repair, and the report."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import ipywidgets

from facexkit.app.form import Form, filled
from facexkit.app.places import check_sources, confined
from facexkit.app.questions import STEPS
from facexkit.app.stage_runner import StageRunner
from facexkit.errors import FacexkitError
from facexkit.faces.cache import write_whole
from facexkit.faces.faceset import FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.parameters import check, parse
from facexkit.plain_yaml import write_yaml
from facexkit.show.explore import Explorer
from facexkit.show.run import Run
from facexkit.show.widgets.base import Box, Widget

MODELS = "models"
"""The folder among the runs for code that somebody pasted."""
CODE = ("code", "code_name")
MEASURED = "How much of the decision each region of the face carries is being measured: below stands how far it is."
UNREAD = {"masks": None, "find": None, "target": None, "protected": (), "limit": None}
"""How faces are read to see what is known of them."""


class App(Box):
    """Steps, each checked before the next appears; a run's choices and its result can be opened again.

    Parameters
    ----------
    roots : folders that paths may lie in; those of `FACEXKIT_APP_DATA` by default.
    runs : where runs are kept; `FACEXKIT_APP_RUNS` by default.
    trust : whether a model's Python file may run; by default as the app was started.
    """

    found: FaceSet | None = None
    faces: FaceSet | None = None
    models: Sequence[FaceModel] = ()
    explorer: Explorer

    def __init__(
        self, roots: Sequence[str | Path] | None = None, runs: str | Path | None = None, trust: bool | None = None
    ) -> None:
        named = [root for root in os.environ.get("FACEXKIT_APP_DATA", "").split(os.pathsep) if root]
        self.roots = [Path(root).resolve() for root in (named if roots is None else roots)]
        self.runs = Path(runs or os.environ.get("FACEXKIT_APP_RUNS", "runs/app"))
        self.trust = os.environ.get("FACEXKIT_APP_TRUST") == "1" if trust is None else trust
        self.given: dict[str, object] = {}
        self.choices: dict[str, object] = {}
        for step in STEPS:
            setattr(self, step, Form(self, step, () if self.trust else CODE))
        super().__init__([self.data])
        self.add_class("fx-grid")
        self.recall()
        self.data.on_msg(lambda *_: self.recall())  # a page may have been made ready long before it is shown

    def recall(self) -> None:
        """Offer the runs that are kept, and the folders as they are now."""
        self.before.offer()
        self.data.offer()
        if self.before.values["run"] and self.before not in self.children:
            self.children = [self.before, *self.children]

    def take_before(self) -> None:
        """Take an earlier run's choices, step by step, and open its result."""
        folder = self.runs / self.before.values["run"]
        self.given = self.confined(Run.of(folder).choices)
        for form in (self.data, self.labels, self.model):
            form.offer(**{name: self.given.get(name) for name in form.names})
            form.take()
        self.choose(self.last)
        self.show(folder)
        self.before.done = "✓ Its answers and its result stand below; change what you like for a new run."

    def take_data(self) -> None:
        """Look at what is known of the faces, and go on to that."""
        before = {name: self.given.get(name) for name in self.data.names}
        self.choose(self.data)
        if before != {name: self.given.get(name) for name in self.data.names}:
            self.given = {name: value for name, value in self.given.items() if name not in self.labels.names}
        self.found = self.checked(Run(self.choices, self.trust).load_faces(**UNREAD))
        self.ask(self.labels, anew=True)
        self.after(self.data, self.labels, done=f"✓ {len(self.found):,} photographs.")

    def take_labels(self) -> None:
        """Read the faces, and go on to the model."""
        self.choose(self.labels)
        run = Run(self.choices, self.trust)
        run.every_face = run.load_faces(progress=self.labels.bar)
        self.faces = self.checked(run.faces)
        self.ask(self.model)
        all_of_them = len(self.faces) == len(run.every_face)
        part = "" if all_of_them else f", of {len(run.every_face):,}: those that are kept for tests, or in equal numbers"
        masks = "" if self.faces.masks else " Without masks nothing can be said of regions."
        self.after(self.labels, self.model, done=f"✓ {len(self.faces):,} faces{part}.{masks}")

    def take_model(self) -> None:
        """Load the model, and go on to layer and class."""
        if self.trust and self.model.values.get("code", "").strip():
            self.keep_code()
        self.choose(self.model)
        if self.faces is None:
            raise FacexkitError("read the faces first")
        self.models = Run(self.choices, self.trust).models
        first, asked = self.models[0], self.given.get("target_class")
        asked = asked[0] if isinstance(asked, list) else asked
        if asked in range(len(first.class_names)):
            self.given["target_class"] = first.class_names[asked]
        self.ask(self.last, anew=True)
        done = f"✓ {first.name}: {len(first.class_names)} outputs, input {first.preprocess}"
        self.after(self.model, self.last, done=done)

    def take_last(self) -> None:
        """Keep the choices as a run of their own, and show the result."""
        self.choose(self.last)
        folder = self.keep(self.last.values["name"], self.given)
        self.show(folder)
        self.last.done = f"✓ The choices are kept in {folder / 'params.yaml'}."

    def take_mend(self) -> None:
        """Take a region from the model by the stage `repair`, as a run of its own."""
        self.choose(self.mend)
        given, name = dict(self.given), f"{self.folder.name}-without-{self.mend.values['without']}"
        del self.given["without"]
        runner = self.runner_of(self.keep(name, given), ["repair"], f"The repair: {name}")
        self.after(self.mend, runner, self.runner, done=f"✓ It is a run of its own, {name}.")
        runner.start += 1

    def keep_code(self) -> None:
        """Keep a model's code among the app's own files, and name it as the model; only where code may run."""
        name = self.model.values["code_name"].strip()
        if not name.isidentifier():
            raise FacexkitError("code_name=… is the name of the class or function that makes the model; write it there")
        path = self.runs.resolve() / MODELS / f"{name}.py"
        write_whole(path, self.model.values["code"].encode())
        self.model.offer(model=f"{path}:{name}")

    @property
    def pairs(self) -> bool:
        """Whether the faces are pairs, which the stage `verification` explains."""
        return self.faces is not None and "reference" in self.faces.table

    def keep(self, name: str, given: Mapping[str, object]) -> Path:
        """Write a run's choices into a folder of its own, and return that."""
        if not re.fullmatch(r"\w[\w-]{0,59}", name) or (self.runs / name).is_symlink() or name in ("cache", MODELS):
            raise FacexkitError(f"name=… : a run cannot be called {name[:80]!r}; take up to 60 letters, digits, - and _")
        folder, wanted = self.runs / name, check(given)
        if not Run.is_one(folder):
            write_whole(folder / "params.yaml", write_yaml(wanted.model_dump(exclude={"out"})).encode())
        elif Run.of(folder).choices != wanted.model_dump(exclude={"out", "client"}, exclude_none=True):
            raise FacexkitError(f"name=… : the run {name!r} has other choices and stays as it is; take another name")
        return folder

    def show(self, folder: Path) -> None:
        """Show the result of a run, which begins with the decision share, and what can be done with it."""
        self.folder, shown = folder, []
        self.runner = self.runner_of(folder, ["verification"] if self.pairs else None, "6 · The whole report")
        if not self.pairs:
            asked, how = (self.choices[name] for name in ("layer", "target_class")), Run(self.choices, self.trust).options
            self.explorer = Explorer(self.models, self.faces, *asked, folder, self.choices, how, method="share")
            self.explorer.add_class("fx-wide")
            self.explorer.summary.said = self.explorer.summary.said or [MEASURED]
            shown = [self.explorer]
        self.recall()
        self.after(self.last, *shown, self.runner, done=self.last.done)
        if shown and self.faces.target:
            self.explorer.classes.observe(lambda _: self.offer_mend(), "measured")
            self.offer_mend()

    def offer_mend(self) -> None:
        """Offer to take a region from the model, once it was found what the decision rests on."""
        first, found = self.mend not in self.children, self.explorer.classes.measured
        if found and self.explorer in self.children:
            self.mend.offer(["without"] if first else ())
            place = self.children.index(self.explorer) + 1
            self.children = [*self.children[:place], *([self.mend] if first else ()), *self.children[place:]]

    def runner_of(self, folder: Path, chosen: Sequence[str] | None, title: str) -> StageRunner:
        """Return what runs stages into a run's folder."""
        return StageRunner(folder, self.trust, os.environ.get("FACEXKIT_APP_SERVED", ""), chosen, title)

    def ask(self, form: Form, anew: bool = False) -> None:
        """Offer the next step's choices, with the answers that are known."""
        known = {name: self.given[name] for name in form.names if name in self.given}
        form.offer([name for name in form.names if anew and name not in known], **known)

    def choose(self, form: Form) -> None:
        """Check a form's answers as parameters, wherever they are from; paths must lie in the app's folders."""
        if not filled(form, values := form.values):
            raise FacexkitError("the form holds what cannot be chosen here; choose again")
        asked = {name: text.strip() for name, text in values.items() if name not in ("name", *CODE)}
        given = {name: value for name, value in self.given.items() if name not in asked}
        given = self.confined(given | {name: parse(name, text) for name, text in asked.items() if text not in ("", "[]")})
        self.choices, self.given = check(given).model_dump(), given

    def confined(self, given: Mapping[str, object]) -> dict[str, object]:
        """Return a run's choices with the paths found in the app's folders."""
        return confined(given, [*self.roots, *([self.runs.resolve() / MODELS] if self.trust else [])], self.trust)

    def checked(self, faces: FaceSet) -> FaceSet:
        """Return a face set that has read nothing beside the app's folders."""
        check_sources(faces, self.roots)
        return faces

    def after(self, step: Form, *following: ipywidgets.DOMWidget, done: str) -> None:
        """Say that a step is done, and show what follows, where the eye goes, in the place of what stood below."""
        step.done, step.arrived, place = done, 0, self.children.index(step) + 1
        gone = {*self.children[place:]} - {*following}
        for widget in (part for one in gone for part in (one, *getattr(one, "children", ()))):
            if isinstance(widget, Widget):
                widget.stop = True
        self.children = [*self.children[:place], *following]
        next(iter(getattr(following[0], "children", ())), following[0]).arrived += 1
