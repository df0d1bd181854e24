"""The one error class, and the sentences that it shares."""

from __future__ import annotations

import difflib
from collections.abc import Iterable


class FacexkitError(Exception):
    """Something the caller can mend: the message says what is wrong, where, and what to do."""


def unknown(kind: str, name: object, known: Iterable[str], advice: str = "") -> FacexkitError:
    """Return the error for a `name` that is not among the `known` ones, with the nearest of them."""
    known = [str(k) for k in known]
    near = difflib.get_close_matches(str(name), known, n=3, cutoff=0.5)
    listed = ", ".join(known[:40]) + (", …" if len(known) > 40 else "")
    hint = f"did you mean {' or '.join(repr(n) for n in near)}?" if near else f"known: {listed or 'none'}"
    return FacexkitError(f"unknown {kind} {str(name)[:80]!r}; {hint}{' ' + advice if advice else ''}")
