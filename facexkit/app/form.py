"""A step's form: questions with choices that follow the answers, checked when it is submitted."""

from __future__ import annotations

import json
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING

import traitlets as t

from facexkit.app import choices
from facexkit.app.questions import QUESTIONS, STEPS, in_its_words, text_of
from facexkit.errors import FacexkitError
from facexkit.show.widgets.base import Widget, a_line, count, look, rows, script, table, text, whole

if TYPE_CHECKING:
    from facexkit.app.steps import App

DRAWN, LOOK = Path(__file__).with_name("app.js"), look() + Path(__file__).with_name("app.css").read_text("utf-8")
MOST = 1 << 20
"""How long a code may be."""


def filled(form: Form, values: object) -> bool:
    """Whether these are texts that answer a form's questions, each among the choices where nothing else can be said."""
    if not isinstance(values, dict) or values.keys() != {field["name"] for field in form.fields}:
        return False
    return all(_answers(form, field, values[field["name"]]) for field in form.fields)


def _answers(form: Form, field: dict, value: object) -> bool:
    if field["kind"] == "code":
        return isinstance(value, str) and len(value) <= MOST
    if not a_line(form, value):
        return False
    offered = [choice[0] for choice in field["choices"]]
    if field["kind"] == "ticks":
        try:
            ticked = json.loads(value)
        except (ValueError, RecursionError):
            return False
        return isinstance(ticked, list) and all(one in offered for one in ticked)
    return field["kind"] != "choice" or value in offered


class Form(Widget):
    """Questions by name; `values` are the answers, and when `submitted` counts up `take` runs; `done` says that it did.

    An error stands beside the question `at`, in the form's words.

    Parameters
    ----------
    app : whose state the choices come from, and whose `take_STEP` is called, in the background, each time.
    step : a step of `questions.yaml`.
    left_out : questions that are not asked.
    """

    _esm, _css = script("form", DRAWN), LOOK
    fields, submit, done, at, key = rows(), text(), text(), text(), text()
    values, submitted = table(fits=filled), whole(fits=count)
    offered: dict | None = None

    def __init__(self, app: App, step: str, left_out: Sequence[str] = ()) -> None:
        asked = STEPS[step]
        super().__init__(title=asked["title"], submit=asked["submit"], key=f"{id(self)}")
        self.app, self.take = app, getattr(app, f"take_{step}")
        self.names = [name for name in asked["questions"] if name not in left_out]
        self.add_class("fx-wide")

    def set_state(self, sync_data: dict) -> None:
        """Take from a browser what fits; what was sent off with answers that do not is not sent off."""
        fits = filled(self, sync_data.get("values", self.values))
        last = {name: sync_data.pop(name) for name in ("submitted",) if name in sync_data}
        super().set_state(sync_data)
        if fits:
            super().set_state(last)

    @t.observe("submitted")
    def _take(self, _change: object) -> None:
        self.done = self.at = ""
        self.work("One moment …", self._taken)

    def _taken(self) -> None:
        try:
            self.take()
        except FacexkitError as error:
            self.at, said = in_its_words(str(error), self.names)
            raise FacexkitError(said) from error

    @t.observe("values")
    def _follow(self, change: dict) -> None:
        before = change["old"] or {}
        new = {name for name, value in self.values.items() if before.get(name) != value}
        if self.values is not self.offered:
            self.offer([name for name in self.names if new & {*QUESTIONS[name].follows} and name not in new])

    def offer(self, anew: Sequence[str] = (), **values: object) -> None:
        """Ask with the choices that there are now; answers that are not known, or are no more among them, are guessed.

        Parameters
        ----------
        anew : the questions whose answers are guessed in any case.
        values : answers that are known.
        """
        found = {**self.values, **{name: text_of(value) for name, value in values.items()}}
        known, fields = found.keys() - {*anew}, []
        for name in self.names:
            question = QUESTIONS[name]
            guess = partial(getattr(choices, question.guess), self.app, found) if question.guess else str
            if name not in known:
                found[name] = guess()
            source = question.choices
            offered = getattr(choices, source)(self.app, found) if isinstance(source, str) else source.items()
            field = {"name": name, "choices": [list(choice) for choice in offered]}
            field |= {part: getattr(question, part) for part in ("label", "help", "kind", "more")}
            if not _answers(self, field, found[name]):
                others = (guess(), *(choice[0] for choice in offered), "[]")
                found[name] = next((value for value in others if _answers(self, field, value)), "")
            fields.append(field)
        self.offered = {name: found[name] for name in self.names}
        with self.hold_sync():
            self.fields, self.values = fields, self.offered
