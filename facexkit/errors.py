"""The one error class, and the sentences that it shares."""

from __future__ import annotations

import difflib
from collections.abc import Container, Iterable, Iterator, Sequence
from contextlib import contextmanager

MOST_SAID = 600
"""Letters of somebody else's error that are told."""


class FacexkitError(Exception):
    """Something the caller can mend: the message says what is wrong, where, and what to do."""


class Stopped(FacexkitError):
    """Somebody stopped a run, by Ctrl-C or SIGTERM."""


class StageDoesNotApply(FacexkitError):
    """What a stage needs is not there, as an audit's groups; a notebook that is run by hand stops with the sentence alone."""

    def _render_traceback_(self) -> list[str]:
        return [str(self)]


def unknown(kind: str, name: object, known: Iterable[str], advice: str = "") -> FacexkitError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest of them."""
    known = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {listed(known, 40) or 'none'}"
    return FacexkitError(f"unknown {kind} {str(name)[:80]!r}; {hint}{' ' + advice if advice else ''}")


def check_known(kind: str, names: Iterable[object], known: Container[str], advice: str = "") -> None:
    """Raise the error of `unknown` for the first of the names that is not among the `known` ones."""
    for name in names:
        if name not in known:
            raise unknown(kind, name, known, advice)


def listed(names: Sequence[object], most: int = 5) -> str:
    """Return the first of the names, and a sign where there are more."""
    return ", ".join(map(str, names[:most])) + (", …" if len(names) > most else "")


@contextmanager
def told(
    what: str, advice: str = "", kinds: type | tuple[type, ...] = (Exception, SystemExit)
) -> Iterator[None]:
    """Turn what a library, a file or somebody's code raises into a `FacexkitError`: what is wrong, why, what to do."""
    try:
        yield
    except FacexkitError:
        raise
    except kinds as error:
        plain = isinstance(error, (OSError, UnicodeError))
        said = getattr(error, "strerror", None) or (str(error) if plain else f"{type(error).__name__}: {error}")
        raise FacexkitError(f"{what}: {' '.join(said.split())[:MOST_SAID]}{advice and '; '}{advice}") from error
