"""Where files are kept that can be made again, and how a file or folder is written whole or not at all."""

from __future__ import annotations

import os
import re
import shutil
import tempfile
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil

from facexkit.errors import told

_SIDE = re.compile(r"\..+\.(\d+)(\.\w+)?\.part")
"""What is written to the side is called: `.NAME.PID.part`, or with something random before the end."""


def cache_folder() -> Path:
    """Return the folder for masks and weights that can be made again: `$FACEXKIT_CACHE`, else `runs/cache`."""
    return Path(os.environ.get("FACEXKIT_CACHE") or Path("runs", "cache"))


def writing(path: Path) -> AbstractContextManager[None]:
    """Say in words what keeps a file from being written: a full disk, a folder without leave, a folder that is gone."""
    return told(f"{path} cannot be made or written", "free space there, or name another folder", OSError)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file to the side and rename it, so that a killed run, or a full disk, leaves no half of it."""
    beside = side_file(path)
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        finally:
            with suppress(OSError):
                beside.unlink(missing_ok=True)


def side_file(path: Path) -> Path:
    """Return where a file is written before it is renamed to `path`."""
    return path.with_name(f".{path.name}.{os.getpid()}.part")


def side_folder(path: Path) -> tempfile.TemporaryDirectory:
    """Make a folder in which one is written before it is renamed to `path`; leaving it as a block removes it."""
    return tempfile.TemporaryDirectory(dir=path.parent, prefix=f".{path.name}.{os.getpid()}.", suffix=".part")


def remove_strays(folder: Path) -> None:
    """Remove what processes that were killed left of what they were writing, anywhere in a folder."""
    for place, folders, files in os.walk(folder):
        for name in (*folders, *files):
            found = _SIDE.fullmatch(name)
            if found and not psutil.pid_exists(int(found[1])):
                path = Path(place, name)
                shutil.rmtree(path, ignore_errors=True) if name in folders else path.unlink(missing_ok=True)
        folders[:] = [name for name in folders if not _SIDE.fullmatch(name)]
