"""What a shard of a pass needs to be run, here or by a worker elsewhere: model, faces, accumulators, options."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import replace
from importlib.metadata import version

import numpy as np

from facexkit.errors import FacexkitError
from facexkit.faces.faceset import FaceBatch, FaceSet
from facexkit.models.face_model import FaceModel
from facexkit.probe.accumulator import Accumulator, ProbedBatch, described
from facexkit.probe.exchange import FacePairs, exchanged
from facexkit.probe.look import check_finite, probed
from facexkit.probe.options import PassOptions
from facexkit.probe.shards import Shard, states_of, take_states
from facexkit.probe.state import Arrays, Rows

REMEMBERED = 512
"""Decoded faces that are kept where each comes in several pairs."""


class Work:
    """What a shard needs to be run anywhere: the model, the faces, empty accumulators and the options."""

    def __init__(
        self, model: FaceModel | None, faces: FaceSet, accumulators: Sequence[Accumulator], how: PassOptions,
        pairs: FacePairs | None, images: int,
    ) -> None:  # fmt: skip
        self.model, self.faces, self.accumulators, self.how = model, faces, accumulators, how
        self.pairs, self.images = pairs, images
        self.masks = tuple(dict.fromkeys(view for a in accumulators for view in a.masks))

    @property
    def skipped(self) -> Skipped:
        return self.accumulators[0]

    def made_by(self, rows: np.ndarray, shard: int) -> list[str]:
        """Return texts that change with whatever could change a number."""
        own = [a.fingerprint() for a in self.accumulators]
        parts = (version("facexkit"), self.model.fingerprint(), self.faces.fingerprint(), shard, self.how.batch_size)
        return [str(part) for part in (*parts, self.how.precision, described([rows, self.pairs]), *own)]

    def shipped(self) -> Work:
        """Return what a worker elsewhere needs of it beside the model: nothing that was seen, decoding in its own thread."""
        how = replace(self.how, workers=0, progress=False, client=None, folder=None)
        return Work(None, self.faces, self.fresh(), how, self.pairs, self.images)

    def fresh(self) -> list[Accumulator]:
        """Return its accumulators as they are at the beginning of a shard."""
        return [accumulator.fresh() for accumulator in self.accumulators]

    def batches(self, shards: Sequence[Shard]) -> Iterator:
        """Yield the decoded batches of shards, one after the other."""
        drawn = [batch for shard in shards for batch in shard.batches]
        drawn = drawn if self.pairs is None else [self.pairs.rows[batch].ravel() for batch in drawn]
        seen, pinned = self.model.preprocess, self.model.device.type == "cuda"
        remember = 0 if self.pairs is None else REMEMBERED
        return self.faces.batches(seen, self.how.batch_size, self.masks, self.how.workers, pinned, drawn, remember)

    def finished(self, shard: Shard, batches: Iterator, seen: Callable[[int], object]) -> Arrays:
        """Run one shard, whose batches come next, and return its states; `seen` is told how many faces are done."""
        own = self.fresh()
        for numbers in shard.batches:
            batch = next(batches)
            own[0].update(batch)
            if batch.skipped:
                self.check_skipped([*self.skipped.result(), *own[0].result()])
            if len(batch.rows):
                found = self.looked_at(batch, numbers)
                for accumulator in own[1:]:
                    accumulator.update(found)
            seen(len(numbers))
        for accumulator in own:
            accumulator.finish()
        return states_of(own)

    def looked_at(self, batch: FaceBatch, numbers: np.ndarray) -> ProbedBatch:
        """Return what the model makes of a batch of rows, or of pairs."""
        if self.pairs is None:
            found = probed(self.model, batch, self.accumulators, self.how.precision)
            check_finite(found, self.model, self.faces)
            return found
        if batch.skipped:
            raise FacexkitError(f"an image that was read before cannot be read any more: {batch.skipped[0][1:]}")
        (view,) = {a.exchanges for a in self.accumulators} - {None}
        way = exchanged(self.model, batch, view, self.pairs, numbers, self.how.batch_size)
        return ProbedBatch(numbers, batch.images[0::2], walk=way)

    def merge(self, states: Arrays) -> None:
        """Merge a shard's states into the accumulators."""
        take_states(own := self.fresh(), states)
        for accumulator, other in zip(self.accumulators, own, strict=True):
            accumulator.merge(other)
        self.check_skipped(self.skipped.result())

    def check_skipped(self, skipped: Sequence[str]) -> None:
        """Raise where so many of the images were skipped that the rest no longer speaks for the set."""
        empty = len(skipped) == self.images and not all(a.without_images for a in self.accumulators)
        check_skipped(skipped, self.images, self.how.max_skipped, empty)


def check_skipped(skipped: Sequence[str], images: int, most: float, empty: bool = False) -> None:
    """Raise where more than the share `most` of the images was skipped, or where nothing is left."""
    if len(skipped) > most * images or empty:
        raise FacexkitError(
            f"at least {len(skipped)} of {images} images cannot be decoded, max_skipped={most:g} is the share allowed: "
            f"{'; '.join(skipped[:5])}; replace them or take their rows out"
        )


class Skipped(Accumulator):
    """The images that could not be decoded, with the reason."""

    without_images = True

    def __init__(self) -> None:
        self.found = Rows()

    def update(self, batch: FaceBatch) -> None:
        if batch.skipped:
            rows, paths, reasons = map(np.array, zip(*batch.skipped, strict=True))
            self.found.take(rows, path=paths, reason=reasons)

    def result(self) -> list[str]:
        """Return "path: reason" of each, in order."""
        if not self.found.count:
            return []
        return [f"{path}: {reason}" for path, reason in zip(*self.found.by_row("path", "reason"), strict=True)]
