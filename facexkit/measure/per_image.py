"""What there is of each image: the accumulators that keep rows."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from facexkit.probe.accumulator import Accumulator, ProbedBatch
from facexkit.probe.state import Arrays, Handed, Rows


class PerImage(Accumulator):
    """What there is of each image, or of each pair of faces, handed on shard by shard, or held.

    Parameters
    ----------
    hand : takes each shard's arrays, in row order; without it they are held.
    """

    def __init__(self, hand: Callable[[Arrays], object] | None = None) -> None:
        self.kept = Handed(hand) if hand else Rows()

    def result(self) -> tuple[np.ndarray, ...]:
        """Return the rows, ascending, and what is held of each, by name."""
        return self.kept.by_row("rows", *sorted({*self.kept.blocks} - {"rows"}))


class Outputs(PerImage):
    """The model's outputs, one row an image, float64 (N, classes) in the order of the face set."""

    outputs = True

    def update(self, batch: ProbedBatch) -> None:
        self.kept.take(batch.rows, outputs=batch.outputs.double().cpu().numpy())
