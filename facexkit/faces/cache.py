"""Where files are kept that can be made again, and how a file is written whole or not at all."""

from __future__ import annotations

import os
from pathlib import Path


def cache_folder() -> Path:
    """Return the folder for masks and weights that can be made again: `$FACEXKIT_CACHE`, else `runs/cache`."""
    return Path(os.environ.get("FACEXKIT_CACHE") or Path("runs", "cache"))


def write_whole(path: Path, content: bytes) -> None:
    """Write a file to the side and rename it, so that a killed run leaves no half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    beside = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        beside.write_bytes(content)
        os.replace(beside, path)
    except BaseException:
        beside.unlink(missing_ok=True)
        raise
