"""Sentences on what is left out, lacking or changed: how many, which, and whom these show."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd

from facexkit.errors import FacexkitError, listed

if TYPE_CHECKING:
    from facexkit.faces.faceset import FaceSet

MOST_VALUES = 12
"""A column with more different values is no label to count."""


def rows_named(paths: pd.Series) -> str:
    """Name the first rows, counted from 1, with their images."""
    first = ", ".join(f"row {row + 1} ({path})" for row, path in paths.iloc[:5].items())
    return first + (f" and {len(paths) - 5} more" if len(paths) > 5 else "")


def refuse(paths: pd.Series, what: str, advice: str) -> None:
    """Raise the error on rows that cannot be taken, if there are any: what is wrong, which they are, what to do."""
    if len(paths):
        raise FacexkitError(f"{what}: {rows_named(paths)}; {advice}")


def left_out(paths: Sequence[str], why: str) -> str:
    """Return the sentence on what is left out: how many, why, and the first of them."""
    return f"{len(paths)} {why} and are left out: {listed([*paths], 10)}"


def by_group(faces: FaceSet, hit: np.ndarray, what: str) -> list[str]:
    """Return for the protected columns and the target a sentence on how many faces of each group are hit; none where none is."""
    table, notes = faces.table, []
    hit = pd.Series(hit, table.index)
    for column in dict.fromkeys([*faces.protected, faces.target]) if hit.any() else ():
        if column in table and table[column].nunique() <= MOST_VALUES:
            groups = hit.groupby(table[column]).agg(["sum", "size"])
            whom = ", ".join(f"{group} {n} of {size}" for group, n, size in groups.itertuples())
            notes.append(f"{what} by {column}: {whom}")
    return notes
