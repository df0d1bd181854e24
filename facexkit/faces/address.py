"""Places on this machine, or at an address that fsspec knows (s3://…, gs://…, memory://…), asked alike."""

from __future__ import annotations

import os
import posixpath
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partialmethod
from pathlib import Path, PurePosixPath
from typing import Union

import fsspec

from facexkit.errors import told


@dataclass(frozen=True, order=True)
class Address:
    """A file or folder at an address, with the part of `pathlib.Path` that reading needs; no links lie there.

    Parameters
    ----------
    root : the address that the user gave.
    below : what was joined to it, which is never read as an address of its own.
    """

    root: str
    below: str = "."

    def __truediv__(self, below: object) -> Address:
        return Address(self.root, posixpath.normpath(f"{self.below}/{below}"))

    def __str__(self) -> str:
        return self.root if self.below == "." else f"{self.root.rstrip('/')}/{self.below}"

    @property
    def name(self) -> str:
        return PurePosixPath(str(self)).name

    @property
    def suffix(self) -> str:
        return PurePosixPath(str(self)).suffix

    @property
    def parent(self) -> Address:
        return Address(str(self).rstrip("/").rpartition("/")[0])

    def resolve(self) -> Address:
        return self

    def _ask(self, what: str, **how: object) -> object:
        files, place = fsspec.core.url_to_fs(self.root)
        return getattr(files, what)(place if self.below == "." else f"{place.rstrip('/')}/{self.below}", **how)

    exists = partialmethod(_ask, "exists")
    is_dir = partialmethod(_ask, "isdir")
    is_file = partialmethod(_ask, "isfile")
    read_bytes = partialmethod(_ask, "cat_file")

    def glob(self, pattern: str) -> list[Address]:
        return [self / self._below(file) for file in (self / pattern)._ask("glob")]

    def files(self, depth: int | None = None) -> dict[str, int]:
        """Return the size of every file below, so many folders deep, by its path relative to here."""
        found = self._ask("find", maxdepth=depth, detail=True) if self.is_dir() else {}
        return {self._below(file): about["size"] for file, about in found.items()}

    def _below(self, file: str) -> str:
        return posixpath.relpath(file, self._ask("_strip_protocol"))


Place = Union[Path, Address]


def place_at(place: str | os.PathLike) -> Place:
    """Return a place as a path on this machine or as an address; one that fsspec does not know is an error."""
    text = os.path.expanduser(os.fspath(place))
    if "://" not in text:
        return Path(text)
    with told(f"{text} cannot be reached", "give a folder, or an address that fsspec knows"):
        files, there = fsspec.core.url_to_fs(text)
    return Path(there) if "file" in files.protocol else Address(text)


def is_folder(place: Place) -> bool:
    """Return whether there is a folder."""
    return place.is_dir() if isinstance(place, Address) else os.path.isdir(place)


def is_file(place: Place) -> bool:
    """Return whether there is a file."""
    return place.is_file() if isinstance(place, Address) else os.path.isfile(place)


def files_below(place: Place) -> Iterator[str]:
    """Yield the paths of all files below a folder, relative to it; of folders that are links too, with / at the end.

    Hidden ones are left out.
    """
    if isinstance(place, Address):
        yield from (file for file in place.files() if not re.search(r"(^|/)\.", file))
        return
    for folder, folders, names in os.walk(place):
        folders[:] = [name for name in folders if name[0] != "."]
        links = [f"{name}/" for name in folders if os.path.islink(os.path.join(folder, name))]
        below = posixpath.join(Path(folder).relative_to(place).as_posix(), "").removeprefix("./")
        yield from (below + name for name in (*names, *links) if name[0] != ".")


def sizes_of(folder: Place, names: set[str]) -> dict[str, int]:
    """Return the bytes of files in a folder; OSError where one is not there."""
    if isinstance(folder, Address):
        have = folder.files()
        return {name: have[name] if name in have else len((folder / name).read_bytes()) for name in names}
    return {name: os.path.getsize(folder / name) for name in names}


def leaves(root: Place, path: str) -> bool:
    """Return whether a path leads out of its root, by `..`, or by a link on this machine."""
    if isinstance(root, Address):
        return posixpath.normpath(path).startswith(("..", "/"))
    return not Path(os.path.realpath(root / path)).is_relative_to(os.path.realpath(root))
