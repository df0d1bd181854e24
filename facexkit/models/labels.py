"""What a label means to a model: the one place that turns the values of a label column into its classes."""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import pandas as pd

from facexkit.errors import FacexkitError, listed, unknown
from facexkit.models.face_model import FaceModel
from facexkit.models.outputs import Meaning

SAID = {"true": "1", "yes": "1", "false": "0", "no": "0"}


def plain(value: object) -> str:
    """Return a label as it is compared: without case, blanks around it and ".0"; 1 for True and yes, 0 for False and no."""
    text = " ".join(str(value).casefold().split())
    return SAID.get(text, re.sub(r"^(-?\d+)\.0+$", r"\1", text))


def answering(model: FaceModel, labels: pd.Series) -> tuple[FaceModel, np.ndarray]:
    """Return the model as it answers what a label column asks, and the class of each label, −1 where there is none.

    A model of attributes answers with the one of the column's name; one with blocks of classes with the block of its
    name, or the only one whose classes the labels are. The labels are the classes' names, but for case, blanks, `1.0` for
    `1`, and True, yes, 1 for each other; −1 stands for 0 beside 1. Of two classes, one of which has the column's name, it is
    the 1. Only classes without names are meant by number, from 0, or from 1 where the highest label tells so.

    Raises
    ------
    FacexkitError that shows both sides where the labels are no classes, or it is not certain which.
    """
    meaning, target, names = model.meaning, str(labels.name), distinct_names(model)
    if meaning.kind == "embedding":
        raise FacexkitError(f"model {model.name!r} gives an embedding and no classes, so it cannot be right about {target!r}")
    values = [*pd.unique(labels.dropna().astype(object))]
    own = next((k for k, name in enumerate(names) if plain(name) == plain(target)), None)
    several = meaning.kind == "labels" or len(names) > 2 and meaning.guessed and not meaning.likely
    if several and own is not None and {*map(plain, values)} <= {"0", "1", "-1"}:
        one = Meaning("binary", meaning.likely, meaning.threshold, part=(own,))
        model = model.about(one, [f"not {names[own]}", names[own]])
    elif meaning.kind == "labels":
        raise unknown("attribute", target, names, f"The outputs of {model.name!r} are attributes: name one with target=.")
    elif meaning.blocks:
        model = _block(model, target, values)
    known = _meant(values, model, target)
    return model, np.array([known.get(value, -1) for value in labels.astype(object)], int)


def distinct_names(model: FaceModel) -> list[str]:
    """Return the names of the classes; an error where two are the same."""
    names = model.class_names
    if twice := sorted({name for name in names if names.count(name) > 1}):
        raise FacexkitError(f"{model.name!r} has several classes called {', '.join(map(repr, twice))}; give class_names=")
    return names


def _block(model: FaceModel, target: str, values: Sequence[object]) -> FaceModel:
    names, blocks = model.class_names, dict(model.meaning.blocks)
    fits = [block for block, own in blocks.items() if {*map(plain, values)} <= {plain(names[k]) for k in own}]
    same = [block for block in blocks if plain(block) == plain(target)]
    if len(found := same or fits) != 1:
        raise unknown("block of outputs", target, blocks, f"{model.name!r} has these: name a column of one with target=.")
    own = blocks[found[0]]
    return model.about(Meaning("classes", model.meaning.likely, part=own), [names[k] for k in own])


def _meant(values: Sequence[object], model: FaceModel, target: str) -> dict[object, int]:
    """Return the class of each value; all of them by one rule, or an error."""
    names = model.class_names
    exact, alike = ({of(name): k for k, name in enumerate(names)} for of in (str, plain))
    texts = {value: plain(value) for value in values}
    if {"-1"} <= {*texts.values()} <= {"-1", "1"}:
        texts = {value: text.replace("-1", "0") for value, text in texts.items()}
    rules = [({value: str(value) for value in values}, exact), (texts, alike if len(alike) == len(names) else {})]
    if len(names) == 2 and plain(target) in alike:
        rules.append((texts, {"1": alike[plain(target)], "0": 1 - alike[plain(target)]}))
    why = "name the classes as the labels are, with class_names="
    if not model.named:
        numbers = [int(text) for text in texts.values() if re.fullmatch(r"\d+", text)]
        first = 1 if numbers and min(numbers) > 0 and max(numbers) == len(names) else 0
        if first or 0 in numbers:
            rules.append((texts, {str(first + k): k for k in range(len(names))}))
        elif numbers and max(numbers) < len(names):
            why = "whether these count from 0 or from 1 they do not tell: give class_names="
    for said, classes in rules:
        if all(text in classes for text in said.values()):
            return {value: classes[text] for value, text in said.items()}
    raise FacexkitError(
        f"the values of {target!r} ({listed([*map(str, values)])}) are neither the classes of {model.name!r} "
        f"({listed(names)}) nor, where those have no names, their numbers; {why}"
    )
