"""A step's form: fields to fill in, checked when it is submitted."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence

import traitlets as t

from facexkit.parameters import Parameters
from facexkit.show.widgets.base import Widget, a_line, count, rows, script, table, text, whole

HELP = {"name": "letters, digits, - and _", "run": "whose choices to start from"}
HELP |= {name: field.description for name, field in Parameters.model_fields.items()}
HELP |= {
    "masks": "region masks: a folder, or landmarks; empty takes the format's own", "layer": "layer to explain",
    "target_class": "output to explain", "protected": "columns of the groups to compare, with commas between",
    "class_names": "what the outputs are called, in their order, with commas between",
    "code": "Python code of the model: paste it, or choose the file",
}  # fmt: skip


LONG, MOST = ("code",), 1 << 20
"""Fields of many lines, which a file can fill, and how long their text may be."""


def filled(form: Form, values: object) -> bool:
    """Whether these are texts for the fields of a form, each one of the options where there are some."""
    fields = {field["name"]: [option for option, _ in field["options"] or ()] for field in form.fields}
    if not isinstance(values, dict) or values.keys() != fields.keys():
        return False
    if any(not isinstance(values[name], str) or len(values[name]) > MOST for name in LONG if name in values):
        return False
    lines = {name: text for name, text in values.items() if name not in LONG}
    return all(a_line(form, text) and (not fields[name] or text in fields[name]) for name, text in lines.items())


class Form(Widget):
    """Fields by name; `values` are their texts, and when `submitted` counts up `take` runs; `done` says that it did.

    Parameters
    ----------
    fields : the names, each with the options to choose from, or None for a text.
    submit : what stands on the button.
    take : called, in the background, each time.
    values : texts that stand in the fields at first.
    """

    _esm = script("form")
    fields, submit, done, key = rows(), text(), text(), text()
    values, submitted = table(fits=filled), whole(fits=count)

    def __init__(
        self, title: str, fields: Mapping[str, Sequence[str] | None], submit: str, take: Callable[[], object], **values: str
    ) -> None:  # fmt: skip
        super().__init__(title=title, submit=submit, key=f"{id(self)}")
        self.take = take
        self.offer(fields, **values)
        self.add_class("fx-wide")

    @t.observe("submitted")
    def _take(self, _change: object) -> None:
        self.done = ""
        self.work("One moment …", self.take)

    def offer(self, fields: Mapping[str, Sequence[str] | None], **values: str) -> None:
        """Show other fields."""
        first = {name: options[0] if options else "" for name, options in fields.items()}
        self.values = {**first, **values}
        self.fields = [
            {"name": name, "label": name.replace("_", " ").capitalize(), "help": HELP[name],
             "long": name in LONG, "options": options and [(option, option) for option in options]}
            for name, options in fields.items()
        ]  # fmt: skip
