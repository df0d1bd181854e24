"""The files below a root: which images are there, and where the paths of a table lie."""

from __future__ import annotations

import os
import posixpath
import unicodedata
from collections import Counter
from pathlib import Path

import pandas as pd

from facexkit.faces.address import Address, Place, files_below, leaves
from facexkit.faces.images import is_image
from facexkit.faces.notes import left_out, refuse, rows_named


def images_in(root: Place, folder: str = "") -> tuple[list[str], list[str]]:
    """Return the image files below a folder, sorted, hidden ones left out; and notes on all else."""
    found, other, links, odd = [], [], [], []
    for file in files_below(root / folder):
        path = posixpath.join(folder, file)
        told = path.encode("utf-8", "backslashreplace").decode()
        kind = links if path.endswith("/") else other if not is_image(path) else found if path == told else odd
        kind.append(told.removesuffix("/"))
    kinds = Counter(posixpath.splitext(path)[1].lower() or "no suffix" for path in other)
    counted = ", ".join(f"{n} {kind}" for kind, n in kinds.most_common(8))
    whys = {f"files are no images ({counted})": other, "folders are links": links}
    whys["images have a name that is no text in UTF-8"] = odd
    return sorted(found), [left_out(sorted(paths), why) for why, paths in whys.items() if paths]


def place_files(paths: pd.Series, root: Place, place: object) -> tuple[pd.Series, list[str]]:
    """Return the paths as the files below the root are called, and a note on those that are written otherwise.

    A path may be absolute, have \\ for /, blanks around it, other case in its suffix, or letters composed otherwise.

    Raises
    ------
    FacexkitError for a path that leaves the root, by itself or by a link, that no file has, or that is none.
    """
    there, notes = _lying(paths, root), []
    if len(lost := paths[~paths.isin(there.keys()) | paths.map(os.path.isabs)]):
        files = {_plain(file): file for file in images_in(root)[0]}
        mended = lost.map(lambda path: files.get(_plain(_below(path, root)), path))
        if (others := mended != lost).any():
            notes.append(f"{others.sum()} paths are written otherwise than their files, which are taken: "
                         f"{rows_named(lost[others])}")  # fmt: skip
            paths = paths.where(~paths.index.isin(lost.index), mended)
            there = _lying(paths, root)
    outside = paths.str.match(r"[/\\]|[A-Za-z]:[/\\]|\.\.(?:[/\\]|$)") | paths.str.contains(r"\\\.\.\\")
    refuse(paths[outside], f"{place}: paths that leave the root", "write them below it")
    lacking = paths[~paths.isin(there.keys())]
    what = f"{place}: {len(lacking)} of {len(paths)} images are not under {root}"
    refuse(lacking, what, "put them there, or take their rows out")
    kinds = paths.map(there)
    refuse(paths[kinds == "away"], f"{place}: links that leave {root}", "copy the files, or take a root above")
    refuse(paths[kinds == "odd"], f"{place}: no files but folders, pipes or devices", "take these rows out")
    return paths, notes


def _lying(paths: pd.Series, root: Place) -> dict[str, str]:
    """Return which paths are there: each a "file", something "odd", or "away", where links lead out of the root.

    Lists folders, which is quick.
    """
    there: dict[str, str] = {}
    for folder, own in paths.groupby(paths.map(posixpath.dirname)):
        if isinstance(root, Address):
            files = {} if leaves(root, folder) else (root / folder).files(1)
            there |= {path: "file" for path in own if posixpath.basename(path) in files}
            continue
        try:
            entries = {entry.name: entry for entry in os.scandir(root / folder)}
        except (OSError, ValueError):
            continue
        away = leaves(root, folder)
        for path in own:
            if entry := entries.get(posixpath.basename(path)):
                linked = (away or entry.is_symlink()) and leaves(root, path)
                there[path] = "away" if linked else "file" if entry.is_file() else "odd"
    return there


def _below(path: str, root: Place) -> str:
    """Return an absolute path below the root as one that is relative to it."""
    local = os.path.isabs(path) and not isinstance(root, Address)
    for start in (os.path.abspath(root), os.path.realpath(root)) if local else ():
        if Path(path).is_relative_to(start):
            return Path(path).relative_to(start).as_posix()
    return path


def _plain(path: str) -> str:
    """Return a path with / between folders, composed letters, no blanks around it and a small suffix."""
    stem, suffix = posixpath.splitext(unicodedata.normalize("NFC", path.strip().replace("\\", "/")))
    return posixpath.normpath(stem + suffix.lower())
