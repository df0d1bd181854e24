"""Where models come from: what a source is asked, what it gives, and the registry of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path

from torch import nn

from facexkit.registry import Registry


@dataclass(frozen=True)
class Wish:
    """What the user asked of a source: the arguments of `load_model` that concern the network itself."""

    weights: str | Path | None
    num_classes: int | None
    seed: int
    trust: bool
    image_size: int | None = None


@dataclass
class Made:
    """A network as its source gives it, with what to assume unless the user says otherwise.

    Attributes
    ----------
    image_size, normalize : short for a `preprocess`, which goes before them.
    outputs : what the output means, see `load_model`; None for what its values allow.
    notes : sentences on what had to be assumed.
    home : around every run of the network.
    """

    network: nn.Module
    image_size: int = 224
    normalize: str | Mapping[str, object] = "unit"
    class_names: Sequence[str] | None = None
    output: int | str | Callable | None = None
    outputs: str | Mapping[str, object] | None = None
    preprocess: object = None
    notes: Sequence[str] = ()
    home: AbstractContextManager = nullcontext()


SOURCES: Registry[Callable[[str, Wish], Made]] = Registry(
    "model source", "facexkit.sources", "facexkit.models.onnx_files", "facexkit.models.hubs", "facexkit.drawn.demo",
    "facexkit.systems.fairface_networks", "facexkit.systems.fineface", "facexkit.systems.face_dissect_networks",
)  # fmt: skip


register_source = SOURCES.register
"""Decorates a function (what stands after `PREFIX:`, wish) → `Made` that is a source of `load_model` under this prefix."""
