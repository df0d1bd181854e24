"""The contract between the pass and everything that sums up a face set."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass, field
from typing import Any

from torch import Tensor

from facexkit.faces.faceset import FaceBatch
from facexkit.faces.mask_view import MaskView


@dataclass
class ProbedBatch(FaceBatch):
    """A batch of faces and what the model made of them.

    Attributes
    ----------
    activations : activation maps (B, U, h, w) by layer.
    attributions : attribution maps (B, h, w) by (layer, target class).
    outputs : (B, classes), or None where nobody asked.
    """

    activations: dict[str, Tensor] = field(default_factory=dict)
    attributions: dict[tuple[str, int], Tensor] = field(default_factory=dict)
    outputs: Tensor | None = None


class Accumulator(ABC):
    """State that grows with `update`, joins with `merge` and ends in one labelled `result`.

    The result is the same for any batch size, any split into shards and any merge order: integer counts,
    float64 sums, ties broken by row. An accumulator says what it needs and finds it in every batch.

    Attributes
    ----------
    layers : layers whose activation maps it reads.
    attributions : (layer, target class) pairs whose attribution maps it reads.
    masks : the views of the masks that it reads.
    outputs : whether it reads the model's outputs.
    """

    layers: tuple[str, ...] = ()
    attributions: tuple[tuple[str, int], ...] = ()
    masks: tuple[MaskView, ...] = ()
    outputs: bool = False

    @abstractmethod
    def update(self, batch: ProbedBatch) -> None:
        """Take in one batch."""

    @abstractmethod
    def merge(self, other: Any) -> None:
        """Take in what `other`, which saw other rows of the same face set, has summed up."""

    @abstractmethod
    def result(self) -> Any:
        """Return what was counted, as labelled arrays or a table."""
