"""Names and labels from data as people read them: one spelling for figures, sentences, pages and pictures."""

from __future__ import annotations

import re
from html import escape

import xarray as xr

from facexkit.faces.regions import TITLES
from facexkit.measure.groups import CROSS

_UNFIT = re.compile("[\0-\x08\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069\ud800-\udfff\ufffe\uffff]")
_SPELLED = re.compile(r"[^\W_][\w .×-]*")


class NotMeasured(str):
    """A sentence on what could not be measured; it stands after the findings and never heads a page."""


def by_number(letter: str) -> str:
    """Return what is shown of a character that cannot be: "[U+202E]"."""
    return f"[U+{ord(letter):04X}]"


def legible(text: object) -> str:
    """Return a text with the characters that XML or a page cannot hold, or that turn the writing, by their numbers."""
    return _UNFIT.sub(lambda found: by_number(found[0]), str(text))


def in_markup(text: object) -> str:
    """Return a text as HTML and SVG show it literally."""
    return escape(legible(text))


def words(name: object) -> str:
    """Return what people read for a column, group or concept: "skin tone"; what is no plain name stays as written."""
    name = legible(name)
    return name.replace("_", " ") if _SPELLED.fullmatch(name) else name


def headed(name: object) -> str:
    """Return a column's name as a sentence begins with it: "Skin tone"."""
    said = words(name)
    return said[:1].upper() + said[1:]


def title_of(concept: object) -> str:
    """Return what people read for a concept, area or type: "left eye", "Wearing Lipstick", "mouth"."""
    name = str(concept)
    return name if name == "mouth" else TITLES.get(name) or words(name)


def group_title(attribute: str, group: object) -> str:
    """Return what people read for a group; 0 and 1 are "no earrings" and "earrings"."""
    return {"0": f"no {words(attribute)}", "1": words(attribute)}.get(str(group)) or words(group)


def label_of(attribute: str, label: str) -> str:
    """Return what people read for a group or intersection of groups."""
    parts = zip(attribute.split(CROSS), label.split(CROSS), strict=False)
    return CROSS.join(group_title(name, part) for name, part in parts)


def model_name(name: object) -> str:
    """Return a model's name, of a file without its folder, with its weights in brackets if it has them."""
    source, weights = re.fullmatch(r"(.*?)( \([^()]*\))?", str(name), re.DOTALL).groups("")
    return legible(re.split(r"[\\/]" if re.match(r"\w:\\", source) else "/", source)[-1] + weights)


def model_of(result: xr.Dataset) -> str:
    """Return the name of a result's model; see `model_name`."""
    return model_name(result.attrs["model"])
