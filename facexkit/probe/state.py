"""What an accumulator keeps: arrays that are declared with how they grow, and so can be merged, written and read back."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable

import numpy as np

Arrays = dict[str, np.ndarray]


def those_under(start: str, arrays: Arrays) -> Arrays:
    """Return the arrays whose names begin with `start`, without it."""
    return {name.removeprefix(start): array for name, array in arrays.items() if name.startswith(start)}


class State(ABC):
    """A piece of an accumulator's state.

    Merging is commutative and associative to the last bit, so that neither the cut into shards nor the order in which
    they are merged can be seen in a result.

    Attributes
    ----------
    kept : the names of its arrays; None stands for one that there is not yet.
    """

    kept: tuple[str, ...] = ()

    def fresh(self) -> State:
        """Return an empty one, declared alike; it may know something of what was seen before that spares it work."""
        return type(self)()

    @abstractmethod
    def merge(self, other: State) -> None:
        """Take in what another one, of other rows, has kept."""

    def arrays(self) -> Arrays:
        """Return what is kept as arrays by name."""
        return {name: held for name in self.kept if (held := getattr(self, name)) is not None}

    def load(self, arrays: Arrays) -> None:
        """Hold what `arrays` gave, instead of what is held."""
        vars(self).update({name: arrays.get(name) for name in self.kept})


class Folded(State):
    """One array `value` into which a ufunc folds others of its shape; None until there was one."""

    fold: np.ufunc
    kept = ("value",)

    def __init__(self) -> None:
        self.value: np.ndarray | None = None

    def take(self, array: np.ndarray) -> None:
        """Fold an array in."""
        self.value = np.array(array) if self.value is None else self.fold(self.value, array)

    def merge(self, other: Folded) -> None:
        if other.value is not None:
            self.take(other.value)


class Sum(Folded):
    """A sum of integers: of floating-point numbers the order would show in the last bits."""

    fold = np.add

    def take(self, array: np.ndarray) -> None:
        if np.asarray(array).dtype.kind not in "biu":
            raise TypeError("a sum that merges in any order is one of integers")
        super().take(np.asarray(array, np.int64))


class Least(Folded):
    """The least of all values, place by place."""

    fold = np.minimum


class Rows(State):
    """A row an image: arrays by name whose first axis goes with `rows`, the face set's row numbers.

    Each array is one block that doubles when it is full: small ones kept from every batch would leave holes in the heap
    that only grow.
    """

    def __init__(self) -> None:
        self.count = 0
        self.blocks: Arrays = {}

    def take(self, rows: np.ndarray, **values: np.ndarray) -> None:
        """Take in what belongs to some rows."""
        end = self.count + len(rows)
        for name, new in {"rows": np.asarray(rows, np.int64), **values}.items():
            block = self.blocks.get(name, new[:0])
            kind = np.promote_types(block.dtype, new.dtype)  # texts may become longer
            if len(block) < end or block.dtype != kind:
                block, held = np.empty((max(end, 2 * len(block)), *new.shape[1:]), kind), block
                block[: self.count] = held[: self.count]
            block[self.count : end] = new
            self.blocks[name] = block
        self.count = end

    def by_row(self, *names: str) -> tuple[np.ndarray, ...]:
        """Return the named arrays in the order of `rows`, which is one of them."""
        held = self.arrays()
        order = np.argsort(held["rows"], kind="stable")
        return tuple(held[name][order] for name in names)

    def fresh(self) -> Rows:
        return Rows()

    def merge(self, other: Rows) -> None:
        if other.count:
            self.take(**other.arrays())

    def arrays(self) -> Arrays:
        return {name: block[: self.count] for name, block in self.blocks.items()}

    def load(self, arrays: Arrays) -> None:
        self.blocks, self.count = arrays, len(arrays.get("rows", ()))


class Handed(Rows):
    """Rows that are handed on, shard by shard in row order, instead of being held.

    Parameters
    ----------
    hand : takes the arrays of a shard, in row order; it stays where the shards are merged.
    """

    def __init__(self, hand: Callable[[Arrays], object]) -> None:
        super().__init__()
        self.hand = hand

    def merge(self, other: Rows) -> None:
        if other.count:
            self.hand(dict(zip(other.blocks, other.by_row(*other.blocks), strict=True)))


class TopK(State):
    """The k highest values of each of G subjects over all rows, with what belongs to them.

    Ties go to the lower row.

    Parameters
    ----------
    subjects, k : how many subjects there are, and how many values to keep for each.

    Attributes
    ----------
    values : float64 (G, k), descending; −inf where there is none.
    rows : int64 (G, k); −1 where there is none.
    payload : (G, k, …), what came with the value; zeros where there is none.
    """

    kept = ("values", "rows", "payload")

    def __init__(self, subjects: int, k: int) -> None:
        self.k = k
        self.values = np.full((subjects, k), -np.inf)
        self.rows = np.full((subjects, k), -1)
        self.payload: np.ndarray | None = None

    def take(
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

    def fresh(self) -> TopK:
        return TopK(len(self.values), self.k)

    def merge(self, other: TopK) -> None:
        if other.payload is not None:
            self.take(other.values, other.rows, lambda subjects, columns: other.payload[subjects, columns])
