"""What the app may read: paths that lie in its folders once every link is followed, whoever names them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path

from facexkit.errors import FacexkitError
from facexkit.faces.cache import cache_folder
from facexkit.faces.faceset import FaceSet

PATHS = {"data_root": (), "annotations": (), "masks": ("landmarks",), "weights": ("imagenet", "DEFAULT")}
"""The parameters that are paths, each with the words that are none."""
NO_FILE = re.compile(r"(?!onnx:|hf:|.*\.py)\w+(:[\w.-]*)?")
"""A model that is known by its name; any other is a path, after `KIND:` where it has one."""


def confined(choices: Mapping[str, object], roots: Sequence[Path], trust: bool) -> dict[str, object]:
    """Return a run's choices with the paths found in the app's folders; a relative one is looked for in each.

    Raises
    ------
    FacexkitError for what is not there, lies elsewhere, has links that lead elsewhere, or would run code without trust.
    """
    found = {**choices, **{name: _place(name, choices[name], roots) for name in PATHS if choices.get(name)}}
    for part in ("model", "preprocess"):
        value = choices.get(part) if isinstance(choices.get(part), str) else ""
        if ".py" in value and not trust:
            raise FacexkitError("a Python file runs somebody's code; who starts the app can allow it (make app TRUST=1)")
        if value and (part == "preprocess" or not NO_FILE.fullmatch(value)):
            kind, file, name = re.fullmatch(r"(\w+:)?(.*?)((?<=\.py):\w*)?", value, re.DOTALL).groups("")
            found[part] = f"{kind}{_place(part, file, roots)}{name}"
    return found


def check_sources(faces: FaceSet, roots: Sequence[Path]) -> None:
    """Check that the folders that a face set found by itself, for masks say, may be read too."""
    for source in (faces.images, faces.masks, *(getattr(faces.masks, part, None) for part in ("first", "second"))):
        folder = getattr(source, "folder", None) or getattr(source, "root", None)
        if folder is not None and not Path(folder).is_relative_to(cache_folder()):
            _place("masks", folder.resolve(), roots)


def _place(name: str, path: object, roots: Sequence[Path]) -> str:
    if path in PATHS.get(name, ()):
        return str(path)
    try:
        places = [(root / str(path)).resolve() for root in roots]
        found = next((place for place in places if _inside(place, roots) and place.exists()), None)
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle
        found = None
    where = ", ".join(map(str, roots)) or "no folder; start it with make app DATA=FOLDER"
    if found is None:
        raise FacexkitError(f"{name.replace('_', ' ')} {path!r} is not there, or not in what the app may read: {where}")
    if away := next((link for link in _links(found) if not _inside(link.resolve(), roots)), None):
        raise FacexkitError(f"{name.replace('_', ' ')}: the link {away} leads out of what the app may read: {where}")
    return str(found)


def _inside(place: Path, roots: Sequence[Path]) -> bool:
    return any(place.is_relative_to(root) for root in roots)


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(path) for name in (*folders, *files) if os.path.islink(path := os.path.join(place, name)))
