"""The contract between the pass and everything that sums up a face set."""

from __future__ import annotations

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass, field, is_dataclass
from typing import Any, NamedTuple, Union

import numpy as np
from torch import Tensor

from facexkit.faces.faceset import FaceBatch
from facexkit.faces.mask_view import MaskView
from facexkit.models.face_model import FaceModel
from facexkit.probe.state import Arrays, State, those_under

Attribution = Callable[[FaceModel, str, Tensor, int], Tensor]
"""`(model, layer, images, target) → maps`: prepared images (B, 3, S, S) in, attribution maps (B, h, w) out."""

Change = Callable[[Tensor], Tensor]
"""Activation maps (B, U, h, w) in, maps of the same shape out; what is given is the caller's to change."""


class Attributed(NamedTuple):
    """An attribution map that is needed: of which layer, for which class, by which attribution or function."""

    layer: str
    target: int
    by: Union[str, Attribution] = "gradcam"


class Edited(NamedTuple):
    """Outputs that are needed: those of the model with a layer changed, once for each of the changes."""

    layer: str
    changes: Sequence[Change]


@dataclass
class Walk:
    """The way of pairs from the first face to the second, a region a step; or what sets of regions do, a set a step.

    Attributes
    ----------
    regions : int64 (B, R), the position in `REGIONS` that each step exchanges, −1 beyond a pair's own steps; (B, 0) of sets.
    outputs : float64 (B, R, classes), after each step but the last, which gives the second face; NaN beyond. Where a row
        asks its own question the last step's output is there too: the second face, asked the first one's question. Of
        sets (B, S, classes), after each.
    """

    regions: Tensor
    outputs: Tensor


@dataclass
class ProbedBatch(FaceBatch):
    """A batch of faces and what the model made of them.

    Attributes
    ----------
    activations : activation maps (B, U, h, w) by layer.
    attributions : attribution maps (B, h, w) by what was asked for.
    outputs : (B, classes), or None where nobody asked.
    edited : outputs (changes, B, classes) by layer.
    walk : what the model said on the way from the first face of each pair to the second, in a pass over pairs.
    """

    activations: dict[str, Tensor] = field(default_factory=dict)
    attributions: dict[Attributed, Tensor] = field(default_factory=dict)
    outputs: Tensor | None = None
    edited: dict[str, Tensor] = field(default_factory=dict)
    walk: Walk | None = None


class Accumulator(ABC):
    """What grows with `update`, joins with `merge` and ends in one labelled `result`.

    An accumulator says what it needs and finds it in every batch. What it keeps are attributes that are a `State`, each
    declared once, where it is made; from them follow merging, writing down and reading back. All else of it are its
    parameters, which stay as they are. The result is the same, bit for bit, for any split into shards and any merge order.

    Attributes
    ----------
    layers : layers whose activation maps it reads.
    attributions : attribution maps that it reads.
    masks : the views of the masks that it reads.
    outputs : whether it reads the model's outputs.
    edits : layers and changes of them whose outputs it reads.
    exchanges : the view of the region masks by which it wants regions exchanged between pairs of faces.
    without_images : whether it has a result where no image could be decoded.
    """

    layers: tuple[str, ...] = ()
    attributions: tuple[Attributed, ...] = ()
    masks: tuple[MaskView, ...] = ()
    outputs: bool = False
    edits: tuple[Edited, ...] = ()
    exchanges: MaskView | None = None
    without_images: bool = False

    @abstractmethod
    def update(self, batch: ProbedBatch) -> None:
        """Take in one batch."""

    @abstractmethod
    def result(self) -> Any:
        """Return what was counted, as labelled arrays or a table."""

    def finish(self) -> None:
        """Take in what is still under way at the end of a shard."""

    def states(self) -> dict[str, State]:
        """Return what it keeps, by name."""
        return {name: value for name, value in vars(self).items() if isinstance(value, State)}

    def fresh(self) -> Accumulator:
        """Return one of the same parameters that has seen nothing."""
        twin = copy(self)
        vars(twin).update({name: state.fresh() for name, state in self.states().items()})
        return twin

    def merge(self, other: Accumulator) -> None:
        """Take in what `other`, which saw other rows of the same face set, has kept."""
        for own, theirs in zip(self.states().values(), other.states().values(), strict=True):
            own.merge(theirs)

    def state_dict(self) -> Arrays:
        """Return what it keeps as arrays by name, to be written down or sent."""
        return {f"{name}.{part}": array for name, own in self.states().items() for part, array in own.arrays().items()}

    def load_state_dict(self, arrays: Arrays) -> None:
        """Hold what `state_dict` gave."""
        for name, own in self.states().items():
            own.load(those_under(f"{name}.", arrays))

    def fingerprint(self) -> str:
        """Return hexadecimal digits that change with the kind of accumulator and with any of its parameters."""
        parameters = {n: v for n, v in sorted(vars(self).items()) if n[0] != "_" and not isinstance(v, State)}
        return hashlib.sha256(f"{type(self).__qualname__} {described(parameters)}".encode()).hexdigest()[:16]


def described(value: object) -> str:
    """Return a text that differs where two parameters differ."""
    if isinstance(value, Tensor):
        value = value.detach().cpu().numpy()
    if isinstance(value, np.ndarray):
        content = repr(value.tolist()).encode() if value.dtype == object else np.ascontiguousarray(value).tobytes()
        return f"{value.dtype}{value.shape}{hashlib.sha256(content).hexdigest()}"
    if is_dataclass(value) and not isinstance(value, type):
        value = {"": type(value).__qualname__, **vars(value)}
    if isinstance(value, dict):
        return "{" + ", ".join(f"{key!r}: {described(own)}" for key, own in value.items()) + "}"
    if isinstance(value, (list, tuple)):
        return "[" + ", ".join(map(described, value)) + "]"
    if callable(value) and hasattr(value, "__qualname__"):
        return f"{value.__module__}.{value.__qualname__}"
    return repr(value)
