"""Where files are kept that can be made again, and how a file is written whole or not at all."""

from __future__ import annotations

import os
from contextlib import AbstractContextManager, suppress
from pathlib import Path

import psutil

from facexkit.errors import told


def cache_folder() -> Path:
    """Return the folder for masks and weights that can be made again: `$FACEXKIT_CACHE`, else `runs/cache`."""
    return Path(os.environ.get("FACEXKIT_CACHE") or Path("runs", "cache"))


def writing(path: Path) -> AbstractContextManager[None]:
    """Say in words what keeps a file from being written: a full disk, a folder without leave, a folder that is gone."""
    return told(f"{path} cannot be made or written", "free space there, or name another folder", OSError)


def write_whole(path: Path, content: bytes) -> None:
    """Write a file to the side and rename it, so that a killed run, or a full disk, leaves no half of it."""
    beside = path.with_name(f".{path.name}.{os.getpid()}.part")
    with writing(path):
        path.parent.mkdir(parents=True, exist_ok=True)
        try:
            beside.write_bytes(content)
            os.replace(beside, path)
        except BaseException:
            with suppress(OSError):
                beside.unlink(missing_ok=True)
            raise


def remove_strays(folder: Path) -> None:
    """Remove what processes that were killed left of files that they were writing; see `write_whole`."""
    for beside in folder.glob(".*.part"):
        process = beside.stem.rpartition(".")[2]
        if process.isdecimal() and not psutil.pid_exists(int(process)):
            beside.unlink(missing_ok=True)
