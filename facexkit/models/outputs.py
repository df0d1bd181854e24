"""What the columns of a model's output mean: one choice, one yes or no, attributes of their own, or no classes at all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import accumulate

import torch
from torch import Tensor

from facexkit.errors import FacexkitError, check_known

KINDS = ("classes", "binary", "labels", "embedding")
THRESHOLD = 0.5


@dataclass(frozen=True)
class Meaning:
    """What the columns of an output mean.

    Parameters
    ----------
    kind : "classes", of which one is right (softmax); "binary", one column that says yes or no, read as two classes;
        "labels", attributes of their own (a sigmoid each); "embedding", which has no classes.
    likely : whether the columns are probabilities; None where the values of each batch tell it.
    threshold : the probability from which on a yes or an attribute is said.
    blocks : (name, columns) of each block of "classes" that stand side by side.
    part : the columns that are looked at; all if empty.
    guessed : whether nobody said so.
    """

    kind: str = "classes"
    likely: bool | None = None
    threshold: float = THRESHOLD
    blocks: tuple[tuple[str, tuple[int, ...]], ...] = ()
    part: tuple[int, ...] = ()
    guessed: bool = False

    def read(self, outputs: Tensor) -> Tensor:
        """Return the columns that are worked with, of a network's (B, D): of a yes or no (B, 2), no and yes."""
        outputs = outputs[:, list(self.part)] if self.part else outputs
        if self.kind != "binary":
            return outputs
        return torch.cat([1 - outputs if self.likely else -outputs, outputs], 1)

    def settled(self, outputs: Tensor) -> Meaning:
        """Return it with what the values tell, outputs (B, classes), if that is open."""
        return self if self.likely is not None else replace(self, likely=are_probabilities(outputs))

    def probabilities(self, outputs: Tensor) -> Tensor:
        """Return the probability of every column, (B, classes)."""
        if self.settled(outputs).likely:
            return outputs
        if self.kind in ("binary", "labels"):
            return outputs.sigmoid()
        parts = [list(columns) for _, columns in self.blocks] or [slice(None)]
        return torch.cat([outputs[:, own].softmax(1) for own in parts], 1)

    def decided(self, outputs: Tensor) -> Tensor:
        """Return the class that is said, (…), of outputs (…, classes)."""
        if self.kind == "binary" and self.threshold != THRESHOLD:
            return (self.probabilities(outputs)[..., 1] >= self.threshold).long()
        return outputs.argmax(-1)

    def margin(self, outputs: Tensor, target: int) -> Tensor:
        """Return how clearly outputs (…, classes) speak for a column, (…).

        The logit of the class minus log-sum-exp of the others of its block; log-odds where an output is a probability
        or has a sigmoid of its own; an embedding's column as it is.
        """
        if self.settled(outputs.flatten(0, -2)).likely:
            return torch.logit(outputs[..., target], eps=1e-7)
        if self.kind != "classes" or outputs.shape[-1] == 1:
            return outputs[..., target]
        own = next((columns for _, columns in self.blocks if target in columns), range(outputs.shape[-1]))
        return outputs[..., target] - outputs[..., [k for k in own if k != target]].logsumexp(-1)


def are_probabilities(outputs: Tensor) -> bool:
    """Whether outputs (B, classes) are probabilities: within [0, 1], and adding up to 1 where there are several."""
    within = bool(((outputs >= 0) & (outputs <= 1)).all())
    return within and (outputs.shape[1] == 1 or bool((outputs.sum(1) - 1).abs().max() < 1e-3))


def meaning_of(said: str | Mapping[str, object] | None, outputs: Tensor, end: str, name: str) -> Meaning:
    """Settle what the outputs of a model mean.

    Parameters
    ----------
    said : by the source or the user: a kind; {"binary": t} or {"labels": t} with the probability t from which on it is
        said; or the blocks, {NAME: class names or their number}; None for what the values allow.
    outputs : (B, D) of a few images.
    end : the last operation: "sigmoid", "softmax", "pairs" of no and yes ("sigmoid pairs": probabilities), or another.
    name : of the model, for errors.
    """
    columns, own_each = outputs.shape[1], end in ("sigmoid", "pairs", "sigmoid pairs")
    chances = not own_each and columns > 1 and (end == "softmax" or are_probabilities(outputs))
    kind, threshold, blocks = said, THRESHOLD, ()
    if isinstance(said, Mapping) and len(said) == 1 and {*said} <= {"binary", "labels"}:
        ((kind, threshold),) = said.items()
        if not isinstance(threshold, float) or not 0 < threshold < 1:
            raise FacexkitError(f"outputs: the threshold of {kind!r} is a probability between 0 and 1, not {threshold!r}")
    elif isinstance(said, Mapping):
        kind, blocks = "classes", _blocks(said, columns, name)
    elif said is None:
        kind = "binary" if columns == 1 else "labels" if own_each else "classes"
    check_known("meaning of outputs", [kind], KINDS)
    wrong = {
        "classes": columns == 1 and "one column is no choice between classes: it is 'binary' or 'embedding'",
        "binary": columns > 1 and f"{columns} columns are no single yes or no: they are 'classes', 'labels' or 'embedding'",
        "labels": columns > 1 and chances and "its outputs add up to 1 on every image, so they are 'classes'",
    }.get(kind)
    wrong = wrong or kind == "classes" and own_each and "each output is a yes or no of its own, so they are 'labels'"
    if wrong:
        raise FacexkitError(f"model {name!r} was loaded with outputs={said!r}, but {wrong}")
    likely = {"classes": chances, "embedding": False}.get(kind, "sigmoid" in end)
    return Meaning(kind, likely, threshold, blocks, guessed=said is None)


def _blocks(said: Mapping[str, object], columns: int, name: str) -> tuple[tuple[str, tuple[int, ...]], ...]:
    sizes = {block: int(own) if isinstance(own, (int, float)) else len(own) for block, own in said.items()}
    if sum(sizes.values()) != columns:
        told = " + ".join(f"{block} {size}" for block, size in sizes.items())
        raise FacexkitError(f"model {name!r} gives {columns} outputs, and outputs= has {sum(sizes.values())}: {told}")
    ends = accumulate(sizes.values())
    return tuple((b, tuple(range(end - n, end))) for (b, n), end in zip(sizes.items(), ends, strict=True))


def default_names(columns: int, said: object, given: Sequence[str] | None) -> list[str] | None:
    """Return the names of the classes: those of the blocks, `not NAME` and NAME where two classes have one name."""
    if isinstance(said, Mapping) and all(not isinstance(own, (int, float)) for own in said.values()) and not given:
        return [str(name) for own in said.values() for name in own]
    return [f"not {given[0]}", given[0]] if given and len(given) == 1 and columns == 2 else given
