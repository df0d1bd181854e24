"""The files below a root: which images are there, and where the paths of a table lie."""

from __future__ import annotations

import os
import posixpath
import re
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from facexkit.errors import FacexkitError
from facexkit.faces.address import Address, Place, is_below, leaves
from facexkit.faces.images import is_image
from facexkit.faces.notes import left_out, rows_named


def images_in(root: Place, folder: str = "", notes: list[str] | None = None) -> list[str]:
    """Return the image files below a folder, sorted, hidden ones left out; `notes` gets a sentence on all else."""
    found, other, links, odd = [], [], [], []
    if isinstance(root, Address):
        for file in (file for file in (root / folder).files() if not re.search(r"(^|/)\.", file)):
            (found if is_image(file) else other).append(posixpath.join(folder, file))
    for place, folders, names in () if isinstance(root, Address) else os.walk(root / folder):
        folders[:] = [name for name in folders if not name.startswith(".")]
        below = Path(place).relative_to(root).as_posix() + "/"
        below = "" if below == "./" else below
        links += [_in_words(below + name) for name in folders if os.path.islink(os.path.join(place, name))]
        for name in names:
            if not name.startswith("."):
                path, image = _in_words(below + name), is_image(name)
                (other if not image else found if path == below + name else odd).append(path)
    if notes is not None:
        kinds = Counter(posixpath.splitext(path)[1].lower() or "no suffix" for path in other)
        counted = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(8))
        whys = {f"files are no images ({counted})": other, "folders are links": links}
        whys["images have a name that is no text in UTF-8"] = odd
        notes += [left_out(sorted(paths), why) for why, paths in whys.items() if paths]
    return sorted(found)


def place_files(paths: pd.Series, root: Place, place: object) -> tuple[pd.Series, list[str]]:
    """Return the paths as the files below the root are called, and a note on those that are written otherwise.

    A path may be absolute, have \\ for /, blanks around it, other case in its suffix, or letters composed otherwise.

    Raises
    ------
    FacexkitError for a path that leaves the root, by itself or by a link, that no file has, or that is none.
    """
    here, away, odd = _lying(paths, root)
    notes = []
    if len(lost := paths[~paths.isin(here) | paths.map(os.path.isabs)]):
        files = {_plain(file): file for file in images_in(root)}
        mended = lost.map(lambda path: files.get(_plain(_below(path, root)), path))
        if (others := mended != lost).any():
            notes.append(f"{others.sum()} paths are written otherwise than their files, which are taken: "
                         f"{rows_named(lost[others])}")  # fmt: skip
            paths = paths.where(~paths.index.isin(lost.index), mended)
            here, away, odd = _lying(paths, root)
    outside = paths.str.match(r"[/\\]|[A-Za-z]:[/\\]|\.\.(?:[/\\]|$)") | paths.str.contains(r"\\\.\.\\")
    if outside.any():
        raise FacexkitError(f"{place}: paths that leave the root: {rows_named(paths[outside])}; write them below it")
    if (lacking := ~paths.isin(here)).any():
        raise FacexkitError(
            f"{place}: {int(lacking.sum())} of {len(paths)} images are not under {root}: {rows_named(paths[lacking])}; "
            "put them there, or take their rows out"
        )
    linked = paths[paths.isin(away)]
    outside = linked[[leaves(root, path) for path in linked]]
    if len(outside):
        raise FacexkitError(f"{place}: links that leave {root}: {rows_named(outside)}; copy the files, or take a root above")
    if len(unread := paths[paths.isin(odd)]):
        raise FacexkitError(f"{place}: {rows_named(unread)}: no file but a folder, pipe or device; take the row out")
    return paths, notes


def _lying(paths: pd.Series, root: Place) -> tuple[set[str], set[str], set[str]]:
    """Return which paths are there, which may lie elsewhere, and which are no files; lists folders, which is quick."""
    asked, here, away, odd = {*paths}, set(), set(), set()
    for folder in paths.map(posixpath.dirname).unique():
        if isinstance(root, Address):
            here |= {posixpath.join(folder, name) for name in (root / folder).files(1)} if not leaves(root, folder) else set()
            continue
        try:
            entries = list(os.scandir(root / folder))
        except (OSError, ValueError):
            continue
        moved = leaves(root, folder)
        names = {posixpath.join(folder, entry.name): entry for entry in entries}
        names = {name: entry for name, entry in names.items() if name in asked}  # others may be no text
        here |= names.keys()
        away |= {name for name, entry in names.items() if moved or entry.is_symlink()}
        odd |= {name for name, entry in names.items() if not entry.is_file()}
    return here, away, odd


def _below(path: str, root: Place) -> str:
    """Return an absolute path below the root as one that is relative to it."""
    local = os.path.isabs(path) and not isinstance(root, Address)
    for start in (os.path.abspath(root), os.path.realpath(root)) if local else ():
        if is_below(path, start):
            return os.path.relpath(path, start)
    return path


def _plain(path: str) -> str:
    """Return a path with / between folders, composed letters, no blanks around it and a small suffix."""
    stem, suffix = posixpath.splitext(unicodedata.normalize("NFC", path.strip().replace("\\", "/")))
    return posixpath.normpath(stem + suffix.lower())


def _in_words(path: str) -> str:
    """Return a path with the bytes that are no text in UTF-8 written out."""
    return path.encode("utf-8", "backslashreplace").decode()
