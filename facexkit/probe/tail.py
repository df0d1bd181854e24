"""Exact quantiles of many values: counted by their leading bits first, and then the few that share these by the others."""

from __future__ import annotations

from fractions import Fraction

import numpy as np

from facexkit.probe.state import Arrays, State

LOW, BINS = 16, 17
"""The bits of a float32 that are looked at last, and of a number that says where among the leading ones it lies."""
WAITING = 1 << 18


class Counts(State):
    """How often each of many whole numbers came, of which few come at all.

    Attributes
    ----------
    bins, times : int64 (n,), the numbers, ascending, and how often each came.
    """

    kept = ("bins", "times")

    def __init__(self) -> None:
        self.bins = self.times = np.empty(0, np.int64)

    def take(self, bins: np.ndarray, times: np.ndarray | None = None) -> None:
        """Take in numbers, each as often as `times` says, or once."""
        if times is None:
            bins, times = np.unique(bins, return_counts=True)
        both = np.concatenate([self.times, times])
        self.bins, place = np.unique(np.concatenate([self.bins, bins]), return_inverse=True)
        self.times = np.zeros(len(self.bins), np.int64)
        np.add.at(self.times, place, both)

    def keep(self, stays: np.ndarray) -> None:
        """Forget the numbers that do not stay."""
        self.bins, self.times = self.bins[stays], self.times[stays]

    def reaching(self, bits: int, wanted: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Find for each subject u the highest of its numbers that comes `wanted[u]` times together with all above it.

        Parameters
        ----------
        bits : a number is u·2^bits + where it lies among u's.

        Returns
        -------
        place : int64 (U,), position in `bins`; −1 where u's do not suffice.
        above : int64 (U,), how often the numbers above it came.
        """
        subject, every = self.bins >> bits, np.arange(len(wanted))
        start, end = (np.searchsorted(subject, every, side) for side in ("left", "right"))
        before = np.concatenate([[0], self.times.cumsum()])
        from_here = before[end][subject] - before[:-1]
        enough = np.bincount(subject[from_here >= wanted[subject]], minlength=len(wanted))
        place = np.where(enough > 0, start + enough - 1, -1)
        return place, np.where(enough > 0, before[end] - before[place + 1], 0)

    def merge(self, other: Counts) -> None:
        self.take(other.bins, other.times)

    def arrays(self) -> Arrays:
        return {name: held.astype(np.min_scalar_type(held.max(initial=0))) for name, held in super().arrays().items()}

    def load(self, arrays: Arrays) -> None:
        self.bins, self.times = (arrays[name].astype(np.int64) for name in self.kept)


class Tail(State):
    """Which value stands at the place ⌊share·M⌋, counted from 0, of each unit's M values in descending order.

    The bits of a float32 are taken as a whole number that is ordered as the values are; each value is counted by its upper
    16 bits, and whether the others are 0. As soon as so many of all the values are seen, an edge between such bins, the
    unit's `floor`, is certain not to lie above the value that is looked for, and can only rise: what does not exceed it is
    no longer counted. `found` tells the bin and the place in it; the lower bits of the values in this bin, 0.8 % of a value
    wide, settle the rest, see `settled`. No value is sent or kept, only how often its bin came.

    What a shard sends are at most 6 bytes a bin that it has values in: of ResNet-18's layer4 0.6 kB a unit and shard of 512
    faces, of layer1 1.2 kB, at a share of 0.005; before the first floor is known up to 8 kB.

    Attributes
    ----------
    seen : how many values of each unit were seen.
    floor : float32 (U,); −inf while too few are seen.
    """

    def __init__(self, share: float) -> None:
        self.share, self.seen, self.most = share, 0, 0
        self.floor: np.ndarray | None = None
        self.counts, self.waiting = Counts(), []

    def begin(self, units: int, most: int) -> None:
        """Say how many units there are, and how many values of each there will be at most; again for every batch."""
        self.most = most
        self.floor = np.full(units, -np.inf, np.float32) if self.floor is None else self.floor

    def take(self, unit: np.ndarray, values: np.ndarray, seen: int) -> None:
        """Take in the values (n,) of units (n,) that exceed the floor, of `seen` values of each unit."""
        self.seen += seen
        bits = keys_of(values)
        bins = ((bits >> LOW).astype(np.int64) << 1) + ((bits & (1 << LOW) - 1) > 0)
        self.waiting.append((unit.astype(np.int64) << BINS) + bins)
        if sum(map(len, self.waiting)) > min(WAITING, self.most * self.share * len(self.floor)):
            self.raise_floor()

    def raise_floor(self) -> None:
        """Count what waits, and let go what can no longer matter."""
        if self.floor is None:
            return
        self.counts.take(np.concatenate([*self.waiting, np.empty(0, np.int64)]))
        self.waiting = []
        place, _ = self.counts.reaching(BINS, np.full(len(self.floor), place_of(self.share, self.most) + 1))
        risen = np.maximum(self.floor, _edge(np.append(self.counts.bins, 0)[place]))
        self.floor = np.where(place < 0, self.floor, risen)
        lowest = (keys_of(self.floor) >> LOW).astype(np.int64) << 1
        bins = self.counts.bins
        self.counts.keep((bins & (1 << BINS) - 1) > lowest[bins >> BINS])

    def found(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Return of each unit the edge under the value that is looked for, float32 (U,); the one above it, NaN where it is
        the edge itself; and at which place of the values between them it stands, counted from 1."""
        self.raise_floor()
        wanted = np.full(len(self.floor), place_of(self.share, self.seen) + 1)
        place, above = self.counts.reaching(BINS, wanted)
        bins = np.append(self.counts.bins, 0)[place]
        edge = np.where(place < 0, self.floor, _edge(bins))
        inside = (place >= 0) & (bins % 2 == 1)
        return edge, np.where(inside, _edge(bins + 1), np.nan).astype(np.float32), wanted - above

    def fresh(self) -> Tail:
        twin = Tail(self.share)
        twin.floor = self.floor
        return twin

    def merge(self, other: Tail) -> None:
        if other.floor is None:
            return
        self.begin(len(other.floor), max(self.most, other.most))
        self.seen += other.seen
        self.floor = np.maximum(self.floor, other.floor)
        self.counts.merge(other.counts)
        self.waiting += other.waiting
        self.raise_floor()

    def arrays(self) -> Arrays:
        if self.floor is None:
            return {}
        self.raise_floor()
        return self.counts.arrays() | {"floor": self.floor, "seen": np.array([self.seen, self.most])}

    def load(self, arrays: Arrays) -> None:
        if arrays:
            self.counts.load(arrays)
            self.floor, (self.seen, self.most) = arrays["floor"], arrays["seen"].tolist()


def lower_bits(unit: np.ndarray, values: np.ndarray, edge: np.ndarray, above: np.ndarray) -> np.ndarray:
    """Return numbers to be counted, of those values that lie between their unit's edge and the one above it."""
    own = (values > edge[unit]) & (values < above[unit])
    return (unit[own].astype(np.int64) << LOW) + (keys_of(values[own]) & (1 << LOW) - 1)


def settled(counts: Counts, edge: np.ndarray, above: np.ndarray, wanted: np.ndarray) -> np.ndarray:
    """Return the values that are looked for, float32 (U,), of what `Tail.found` gave and the counts of `lower_bits`."""
    place, _ = counts.reaching(LOW, wanted)
    low = np.append(counts.bins, 0)[place] & (1 << LOW) - 1
    return np.where(np.isnan(above), edge, values_of(keys_of(edge) + low.astype(np.uint32)))


def keys_of(values: np.ndarray) -> np.ndarray:
    """Return uint32 that are ordered as float32 values are; −0 is 0."""
    bits = (values + np.float32(0)).view(np.uint32)
    return np.where(bits >> 31, ~bits, bits | np.uint32(1 << 31))


def values_of(keys: np.ndarray) -> np.ndarray:
    """Return the float32 values of which `keys_of` gives these."""
    return np.where(keys >> 31, keys & np.uint32((1 << 31) - 1), ~keys).view(np.float32)


def _edge(bins: np.ndarray) -> np.ndarray:
    return values_of(((bins & (1 << BINS) - 1) >> 1 << LOW).astype(np.uint32))


def place_of(share: float, count: int) -> int:
    """Return ⌊share·count⌋ of the decimal number that `share` was written as: 0.29·100 is 29, in binary 28.999…"""
    return int(Fraction(repr(float(share))) * count)
