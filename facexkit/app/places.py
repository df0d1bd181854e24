"""What the app may read: paths that lie in its folders once every link is followed, whoever names them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import islice
from pathlib import Path

from facexkit.app.questions import FORMATS_TOLD
from facexkit.errors import FacexkitError
from facexkit.faces.cache import cache_folder
from facexkit.faces.faceset import FaceSet
from facexkit.faces.images import is_image
from facexkit.models.python_files import PICKLES

PATHS = {"data_root": (), "annotations": (), "masks": ("landmarks",), "weights": ("imagenet", "DEFAULT")}
"""The parameters that are paths, each with the words that are none."""
NO_FILE = re.compile(r"(?!onnx:|hf:|.*\.py)\w+(:[\w.-]*)?")
"""A model that is known by its name; any other is a path, after `KIND:` where it has one."""
TABLES, WEIGHTS = (".csv", ".tsv", ".txt", ".mat"), (*PICKLES, ".safetensors", ".pkl")
KINDS = (".onnx", ".json", ".py")
"""The files that a model may be in, beside its weights."""
LISTED, LOOKED_AT = 200, 20_000
"""So many entries of a folder are offered; so many are looked at for models."""


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


def listing(value: str, start: str, roots: Sequence[Path], suffixes: Sequence[str] = ()) -> list[tuple[str, str]]:
    """Return what can be chosen from where a value lies, or else `start`: (path, text), of files those with a suffix."""
    place = within(value, roots) or within(start, roots)
    folder = place if place is None or place.is_dir() else place.parent
    if folder is None:
        return [(str(root), f"▸ {root.name}") for root in roots]
    folders, files = entries(folder, roots)
    images = sum(is_image(file.name) for file in files)
    here = f"this folder: {folder.name}" + (f", {images:,} image{'s' * (images > 1)}" if images else "")
    above = [folder.parent] if _inside(folder.parent, roots) else [root for root in roots if root != folder]
    shown = [(file, file.name) for file in files if file.name.lower().endswith(tuple(suffixes))]
    shown = [*((each, f"↑ {each.name}") for each in above), *((each, f"▸ {each.name}") for each in folders), *shown]
    return [(str(folder), here), *((str(path), text) for path, text in shown[:LISTED])]


def layout_of(value: str, roots: Sequence[Path]) -> str:
    """Return the format that a folder looks like; without a folder, the faces that the kit draws."""
    folder = within(value, roots)
    if folder is None:
        return "synthetic"
    folders, files = entries(folder, roots)
    images = any(is_image(file.name) for file in files)
    names = [path.name for path in (*folders, *files, *(tables_near(value, roots) if images else ()))]
    fits = (name for name, (_, sign) in FORMATS_TOLD.items() if any(re.fullmatch(sign, each) for each in names))
    found = next(fits, "photos")
    below = (file for each in folders[:20] for file in entries(each, roots)[1])
    by_folder = found == "photos" and not images and any(is_image(file.name) for file in below)
    return "image_folder" if by_folder else found


def tables_near(value: str, roots: Sequence[Path]) -> list[Path]:
    """Return the tables in a folder, and those beside it."""
    folder = within(value, roots)
    near = [] if folder is None else [folder, *([folder.parent] if _inside(folder.parent, roots) else [])]
    return [file for place in near for file in entries(place, roots)[1] if file.suffix.lower() == ".csv"]


def models_in(roots: Sequence[Path], trust: bool) -> list[str]:
    """Return the models that lie in the app's folders, as `load_model` names them; with `trust` those in code too."""
    walked = (Path(place, name) for root in roots for place, _, names in os.walk(root) for name in sorted(names))
    shown = (path for path in islice(walked, LOOKED_AT) if path.suffix in KINDS and "/." not in str(path))
    files = [path for path in shown if path.is_file() and within(path, roots)]
    found = [f"onnx:{path}" for path in files if path.suffix == ".onnx"]
    found += [f"hf:{path.parent}" for path in files if path.name == "config.json"]
    for path in files if trust else ():
        if path.suffix == ".py":
            text = path.read_text("utf-8", "replace")
            found += [f"{path}:{name}" for name in re.findall(r"^(?:class|def) +([a-zA-Z]\w*)", text, re.MULTILINE)]
    return found


def within(value: object, roots: Sequence[Path]) -> Path | None:
    """Return where a path lies in the app's folders, all links followed; None where it does not."""
    try:
        found = [(root / str(value)).resolve() for root in roots if value]
        return next((place for place in found if _inside(place, roots) and place.exists()), None)
    except (OSError, RuntimeError, ValueError):  # too long, links in a circle
        return None


def entries(folder: Path, roots: Sequence[Path]) -> tuple[list[Path], list[Path]]:
    """Return the folders and the files in a folder of the app's: nothing that is hidden, nothing that lies elsewhere."""
    found: tuple[list[Path], list[Path]] = ([], [])
    with os.scandir(folder) as inside:
        for entry in sorted(inside, key=lambda entry: entry.name):
            shown = entry.name.isprintable() and not entry.name.startswith(".")
            if shown and (not entry.is_symlink() or within(entry.path, roots)):
                found[not entry.is_dir()].append(Path(entry.path))
    return found


def _place(name: str, path: object, roots: Sequence[Path]) -> str:
    if path in PATHS.get(name, ()):
        return str(path)
    where = ", ".join(map(str, roots)) or "no folder; start it with make app DATA=FOLDER"
    if (found := within(path, roots)) is None:
        raise FacexkitError(f"parameter {name!r}: {path!r} is not there, or not in what the app may read: {where}")
    if away := next((link for link in _links(found) if not _inside(link.resolve(), roots)), None):
        raise FacexkitError(f"parameter {name!r}: the link {away} leads out of what the app may read: {where}")
    return str(found)


def _inside(place: Path, roots: Sequence[Path]) -> bool:
    return any(place.is_relative_to(root) for root in roots)


def _links(folder: Path) -> Iterator[Path]:
    for place, folders, files in os.walk(folder):
        yield from (Path(path) for name in (*folders, *files) if os.path.islink(path := os.path.join(place, name)))
