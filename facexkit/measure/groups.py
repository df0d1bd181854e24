"""The groups that a label column makes."""

from __future__ import annotations

import numpy as np
import pandas as pd

from facexkit.errors import FacexkitError, unknown

CROSS = " × "
"""Stands between the names, and the groups, of an intersection."""


def as_labels(column: pd.Series) -> np.ndarray:
    """Return a column's labels as text, as they are written; whole numbers without a point, "" where there is none."""
    if column.dtype.kind == "f" and (column.dropna() % 1 == 0).all():
        column = column.astype("Int64")
    return column.astype(object).where(column.notna(), "").astype(str).to_numpy(object)


def group_labels(table: pd.DataFrame, attribute: str) -> np.ndarray:
    """Return each image's group as text, "" without a label; an error where the column makes no groups."""
    if attribute not in table or attribute == "path":
        raise unknown("label column", attribute, table.columns.drop("path", errors="ignore"))
    labels = as_labels(table[attribute])
    groups = len(set(labels) - {""})
    if not 2 <= groups <= len(labels) // 2:
        raise FacexkitError(
            f"column {attribute!r} has {groups} different values on {len(labels)} images; a comparison needs two or more "
            "groups of several images each"
        )
    return labels
