"""What the app asks, as `questions.yaml` describes it, and errors in the words of the questions."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Union

import yaml


@dataclass(frozen=True)
class Question:
    """What a form asks, see the head of `questions.yaml`."""

    label: str
    help: str = ""
    kind: str = "choice"
    choices: Union[str, Mapping[str, str]] = field(default_factory=dict)
    guess: str = ""
    follows: Sequence[str] = ()
    more: bool = False


ASKED = yaml.safe_load(Path(__file__).with_name("questions.yaml").read_text("utf-8"))
STEPS, FORMATS_TOLD = ASKED["steps"], ASKED["formats"]
QUESTIONS = {name: Question(**asked) for step in STEPS.values() for name, asked in step["questions"].items()}
CALLED = {"root": "data_root"}
"""What errors call a parameter otherwise."""
PLAIN = {"code", "data", "model", "name", "run"}
"""What is a word like others in an error."""


def text_of(value: object) -> str:
    """Return a parameter as a form holds it."""
    if value is None or isinstance(value, str):
        return value or ""
    return json.dumps(value, ensure_ascii=False) if isinstance(value, (list, dict)) else str(value)


def in_its_words(said: str, names: Sequence[str]) -> tuple[str, str]:
    """Return beside which of a form's questions an error stands, and its words with questions in the place of parameters."""
    said = said.partition(" It holds: ")[0].replace("trust=True", "make app TRUST=1")
    every, long = "|".join([*QUESTIONS, *CALLED]), "|".join(name for name in QUESTIONS if "_" in name)
    named = re.compile(rf"parameter '({every})'|(?<![\w/.])({every})=(?!=)…?|(?<![\w/.])({long})\b")
    words = re.compile(rf"\b({'|'.join({*names, *CALLED} - PLAIN)})\b")
    meant = named.search(said) or words.search(said)
    at = meant[meant.lastindex] if meant else ""
    at = CALLED.get(at, at)
    label = lambda found: f"“{QUESTIONS[CALLED.get(name := found[found.lastindex], name)].label}” "  # noqa: E731
    return at if at in names else names[0], re.sub(r" +(?=[,;:.) ]|$)", "", named.sub(label, said))
