"""How far long work has come: a bar in the terminal or notebook, or whoever else wants to follow it."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Union

from tqdm.auto import tqdm

Progress = Union[bool, Callable[..., AbstractContextManager]]
"""True for a bar, False for none, or a callable that takes tqdm's `total`, `desc` and `unit` and gives a context with
tqdm's `update(n)`; what it raises there ends the work."""


def progress_bar(progress: Progress, **about: object) -> AbstractContextManager:
    """Return the bar that somebody asked for; TQDM_DISABLE=1 in the environment silences all of tqdm's."""
    return progress(**about) if callable(progress) else tqdm(**about, **({} if progress else {"disable": True}))
