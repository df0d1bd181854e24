"""Places on this machine, or at an address that fsspec knows (s3://…, gs://…, memory://…), asked alike."""

from __future__ import annotations

import os
import posixpath
from collections.abc import Iterator
from dataclasses import dataclass
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

    def relative_to(self, above: Address) -> PurePosixPath:
        return PurePosixPath(posixpath.relpath(self.below, above.below))

    def exists(self) -> bool:
        return self._ask("exists")

    def is_dir(self) -> bool:
        return self._ask("isdir")

    def is_file(self) -> bool:
        return self._ask("isfile")

    def read_bytes(self) -> bytes:
        return self._ask("cat_file")

    def files(self, depth: int | None = None) -> dict[str, int]:
        """Return the size of every file below, so many folders deep, by its path relative to here."""
        if not self.is_dir():
            return {}
        found = self._ask("find", maxdepth=depth, detail=True).items()
        return {posixpath.relpath(file, self._ask("_strip_protocol")): about["size"] for file, about in found}

    def glob(self, pattern: str) -> list[Address]:
        return [self / name for name in self.files(1) if PurePosixPath(name).match(pattern)]

    def _ask(self, what: str, **how: object) -> object:
        files, place = fsspec.core.url_to_fs(self.root)
        return getattr(files, what)(place if self.below == "." else f"{place.rstrip('/')}/{self.below}", **how)


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
    """Yield the paths of all files below a folder, relative to it, with slashes."""
    if isinstance(place, Address):
        yield from place.files()
        return
    for folder, _, names in os.walk(place):
        for name in names:
            yield posixpath.normpath(f"{os.path.relpath(folder, place)}/{name}".replace(os.sep, "/"))


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
    return not is_below(resolved(root / path), resolved(root))


def resolved(place: Place) -> str:
    """Return a place with every link followed."""
    return str(place) if isinstance(place, Address) else os.path.realpath(place)


def is_below(path: str, real_root: str) -> bool:
    """Return whether a resolved path is that of a resolved folder or lies below it."""
    return path == real_root or path.startswith(real_root.rstrip(os.sep) + os.sep)
