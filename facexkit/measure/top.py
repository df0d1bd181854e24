"""The best few of a stream, for many subjects at once."""

from __future__ import annotations

import numpy as np


class TopK:
    """The k highest values of each of G subjects over all rows, with what belongs to them.

    Ties go to the lower row, so that the result does not depend on batches or merge order.

    Parameters
    ----------
    k : how many to keep for each subject.

    Attributes
    ----------
    values : float64 (G, k), descending; −inf where there is none.
    rows : int64 (G, k); −1 where there is none.
    payload : (G, k, …), what was handed in with the value.
    """

    def __init__(self, k: int) -> None:
        self.k = k
        self.values: np.ndarray | None = None
        self.rows: np.ndarray | None = None
        self.payload: np.ndarray | None = None

    def update(self, values: np.ndarray, rows: np.ndarray, payload: np.ndarray) -> None:
        """Take in values (G, B) of rows (B,) with payload (G, B, …); −inf is never kept."""
        rows = np.broadcast_to(rows, values.shape)
        if self.values is not None:
            values = np.concatenate([self.values, values], 1)
            rows = np.concatenate([self.rows, rows], 1)
            payload = np.concatenate([self.payload, payload], 1)
        order = np.lexsort((rows, -values), axis=1)[:, : self.k]
        self.values = np.take_along_axis(values.astype(np.float64), order, 1)
        self.rows = np.where(np.isneginf(self.values), -1, np.take_along_axis(rows, order, 1))
        extra = order.reshape(order.shape + (1,) * (payload.ndim - 2))
        self.payload = np.take_along_axis(payload, extra, 1)

    def merge(self, other: TopK) -> None:
        """Take in what `other` has kept."""
        if other.values is not None:
            empty = other.rows < 0
            self.update(np.where(empty, -np.inf, other.values), other.rows, other.payload)
