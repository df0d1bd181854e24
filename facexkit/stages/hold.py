"""A run's folder in one pair of hands: whose it is, what a killed run left there, and how a run is stopped."""

from __future__ import annotations

import fcntl
import json
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TextIO

from facexkit.errors import FacexkitError
from facexkit.faces.cache import remove_strays

LOCK = ".lock"
LEFT = ("*.running.ipynb", ".*.json")
"""What a stage that is ended leaves in the run's folder: the notebook at work, and what it concluded."""


@contextmanager
def held(folder: Path, say: Callable[[str], object]) -> Iterator[None]:
    """Hold a run's folder: nobody else runs into it meanwhile, and what a killed run left in it is removed.

    A lock whose process is gone is taken over.

    Raises
    ------
    FacexkitError where another run holds it: who, and how to take it over.
    """
    path = folder / LOCK
    with _opened(path) as lock:
        before = _holder(lock)
        if before and before["host"] != socket.gethostname():
            raise FacexkitError(f"{folder} is held by {_told(before)}; if that run is gone, remove {path}")
        if before:
            say(f"{folder} was held by {_told(before)}, which is gone: it is taken over")
        lock.truncate(0)
        json.dump({"pid": os.getpid(), "host": socket.gethostname(), "since": time.strftime("%Y-%m-%d %H:%M:%S")}, lock)
        lock.flush()
        _tidy(folder)
        try:
            yield
        finally:
            _tidy(folder)
            path.unlink(missing_ok=True)


@contextmanager
def stoppable() -> Iterator[None]:
    """Let SIGTERM raise KeyboardInterrupt in the block, as Ctrl-C does."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return
    before = signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _opened(path: Path) -> TextIO:
    """Return the lock's file, which this process alone has locked until it closes it or is gone."""
    while True:
        lock = path.open("a+", encoding="utf-8")
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            with lock:
                holder = _holder(lock)
            raise FacexkitError(
                f"{path.parent} is held by {_told(holder)}; name another --out, wait for it, or end it "
                f"(kill {holder.get('pid', 'PROCESS')}): then this command takes over, with --resume where it stopped"
            ) from None
        if path.exists() and os.path.samestat(os.fstat(lock.fileno()), path.stat()):
            return lock
        lock.close()  # who held it removed it meanwhile


def _holder(lock: TextIO) -> dict[str, object]:
    lock.seek(0)
    try:
        found = json.load(lock)
        return {name: found[name] for name in ("pid", "host", "since")}
    except (ValueError, KeyError, TypeError):
        return {}


def _told(holder: dict[str, object]) -> str:
    return "process {pid} on {host}, since {since}".format(**holder) if holder else "another run"


def _tidy(folder: Path) -> None:
    remove_strays(folder)
    for pattern in LEFT:
        for path in folder.glob(pattern):
            path.unlink(missing_ok=True)
