"""The best few of a stream, for many subjects at once."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np


class TopK:
    """The k highest values of each of G subjects over all rows, with what belongs to them.

    Ties go to the lower row, so that the result does not depend on batches or merge order.

    Parameters
    ----------
    subjects, k : how many subjects there are, and how many values to keep for each.

    Attributes
    ----------
    values : float64 (G, k), descending; −inf where there is none.
    rows : int64 (G, k); −1 where there is none.
    payload : (G, k, …), what came with the value; zeros where there is none.
    """

    def __init__(self, subjects: int, k: int) -> None:
        self.k = k
        self.values = np.full((subjects, k), -np.inf)
        self.rows = np.full((subjects, k), -1)
        self.payload: np.ndarray | None = None

    def update(
        self, values: np.ndarray, rows: np.ndarray, payload: Callable[[np.ndarray, np.ndarray], np.ndarray]
    ) -> None:
        """Take in values (G, B) of rows (B,) or (G, B); −inf is never kept.

        Parameters
        ----------
        payload : called with the subjects (n,) and columns (n,) of what is kept; returns (n, …).
        """
        if self.payload is None:
            nothing = np.zeros(0, int)
            sample = payload(nothing, nothing)
            self.payload = np.zeros((*self.values.shape, *sample.shape[1:]), sample.dtype)
        best = values.max(1, initial=-np.inf)
        changed = np.flatnonzero((best >= self.values[:, -1]) & (best > -np.inf))
        joined = np.concatenate([self.values[changed], values[changed]], 1)
        from_rows = np.concatenate([self.rows[changed], np.broadcast_to(rows, values.shape)[changed]], 1)
        order = np.lexsort((from_rows, -joined), axis=1)[:, : self.k]
        kept = np.take_along_axis(joined, order, 1)
        self.values[changed] = kept
        self.rows[changed] = np.where(np.isneginf(kept), -1, np.take_along_axis(from_rows, order, 1))
        moved = self.payload[changed[:, None], np.minimum(order, self.k - 1)]
        subject, place = np.nonzero((order >= self.k) & (kept > -np.inf))
        moved[subject, place] = payload(changed[subject], order[subject, place] - self.k)
        self.payload[changed] = moved

    def merge(self, other: TopK) -> None:
        """Take in what `other` has kept."""
        if other.payload is not None:
            self.update(other.values, other.rows, lambda subjects, columns: other.payload[subjects, columns])
